"""Lines of a manifest that are seen to be sound as they stand: one regular expression, and the hash in the name.

A store of a million records is opened in seconds because most of its lines are what `SampleStore` writes for a sample
that was created from an image or from noise, or for an unlabelled image. Such a line need not be parsed to be checked.
This accepts only what `records.flaw_of` accepts as well; whatever it does not know, that looks at.
"""

import hashlib
import re
from functools import lru_cache

from .recipe import MAX_STEM
from .records import BY_RECIPE, UNLABELLED

# Letters and digits are spelled out: a set of them alone is looked up faster than one with \w or \d in it.
WORD = b'A-Za-z0-9_'
COUNT, POSITIVE = rb'(?:0|[1-9][0-9]{0,19})', rb'[1-9][0-9]{0,8}'
NUMBER = rb'-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,20})?(?:e[+-]?[0-9]{2})?'
# As Python writes it: another spelling of the same number is another text in the recipe.
SCALE = rb'(?!0\.000)(?:0|[1-9][0-9]{0,5})\.(?:0|[0-9]{0,7}[1-9])'
PLAIN = rb'[^"\\\x00-\x1f\x7f-\xff]*'
# Escapes as json.dumps writes them, for the same reason; without the character 0, which no path may have.
ESCAPE = rb'\\(?:["\\bfnrt]|u(?!0000|00[2-6]|007[0-9a-e]|000[89acd])[0-9a-f]{4})'
IN_TEXT = rb'%b(?:%b%b)*' % (PLAIN, ESCAPE, PLAIN)
TEXT = rb'"%b"' % IN_TEXT
DIGEST = rb'"[0-9a-f]{64}"'
NAME = rb'[%b-][%b.-]{0,199}' % (WORD, WORD)  # neither hidden, nor '..', nor longer than a file's may be


def _listed(entry: bytes) -> bytes:
    return rb'(?:%b(?:, %b)*)?' % (entry, entry)


TASK = rb'[%b-]{1,80}' % WORD
LABEL = rb'"%b": \{(?:"by": %b, )?"file": "labels/%b/(?P=name)\.png", "sha256": %b\}' % (TASK, TEXT, TASK, DIGEST)
LABELS = rb'(?:"labels": \{%b\}, )?' % _listed(LABEL)
CREATED = re.compile(
    rb'\{"T": (?P<T>%b), ' % POSITIVE
    + rb'"caption": (?P<caption>%b), "grid": (?P<grid>%b), "guidance_scale": (?P<scale>%b), ' % (TEXT, TEXT, SCALE)
    + rb'"image": (?:"images/(?P<name>%b)\.png", "image_sha256": %b|null), ' % (NAME, DIGEST)
    + rb'(?(name)%b)"noise_seed": %b, "num_calls": (?P<calls>%b), ' % (LABELS, COUNT, POSITIVE)
    + rb'(?(name)|"rejected": (?!"")%b, )"restore_size": (?:true|false), ' % TEXT
    + rb'"sample_id": "(?P<id>(?(name)(?P=name)|%b))", ' % NAME
    + rb'"scores": \{%b\}, ' % _listed(rb'%b: %b' % (TEXT, NUMBER))
    + rb'"seed": (?P<seed>%b), "size": \[(?P<height>%b), (?P<width>%b)\], ' % (COUNT, POSITIVE, POSITIVE)
    + rb'"solver": (?P<solver>%b), ' % TEXT
    + rb'"source": (?P<source>null|"(?:%b/|%b/)?(?P<file>[%b.-]+)"), ' % (PLAIN, IN_TEXT, WORD)
    + rb'"source_labels": \{%b\}, ' % _listed(rb'%b: %b' % (TEXT, TEXT))
    + rb'"timesteps": (?P<steps>\[[0-9, ]*\]), "weights_hash": (?P<weights>%b)\}\n' % TEXT
)
RECIPE = (
    b'{"T":%b,"caption":%b,"grid":%b,"guidance_scale":%b,"num_calls":%b,"seed":%b,"size":[%b,%b],"solver":%b,'
    b'"source":%b,"weights_hash":%b}'
)
"""`SampleRecipe.canonical`, of its fields as JSON."""
COUNTS = re.compile(rb'\[%b\]' % _listed(COUNT))
TAKEN_IN = re.compile(
    rb'\{"bytes": %b, "caption": %b, ' % (COUNT, TEXT)
    + rb'"image": "(?:images/(?P<name>%b)\.[%b]{1,9}|/%b)", "image_sha256": %b, ' % (NAME, WORD, IN_TEXT, DIGEST)
    + rb'"kind": "%b", (?(name)%b)"modified": -?%b, "path": %b, ' % (UNLABELLED.encode(), LABELS, COUNT, TEXT)
    + rb'"sample_id": "(?P<id>(?(name)(?P=name)|%b))", "size": \[%b, %b\], ' % (NAME, POSITIVE, POSITIVE)
    + rb'"source": null\}\n'
)


def sound_line(manifest: bytes, start: int) -> tuple[str, int, bool] | None:
    """The line of a manifest that begins at `start`: its sample, where the next line begins, and whether a filter has
    refused the sample. None if the line must be parsed to be judged."""
    found = CREATED.match(manifest, start)
    if found is not None:
        return _created(found)
    found = TAKEN_IN.match(manifest, start)
    if found is None:
        return None
    sample_id = found['id'].decode()
    return None if BY_RECIPE.search(sample_id) else (sample_id, found.end(), False)


def _created(found: re.Match[bytes]) -> tuple[str, int, bool] | None:
    """None if the name is not the one that follows from the recipe."""
    T, caption, grid, scale, name, calls, sample_id, seed, height, width, solver, source, file, steps, weights = (
        found.groups()
    )
    if not _agree(T, calls, steps):
        return None
    recipe = RECIPE % (T, caption, grid, scale, calls, seed, height, width, solver, source, weights)
    digest = hashlib.sha256(recipe).hexdigest()[:8].encode()
    stem = b'noise' if file is None else _stem(file)[:MAX_STEM]
    if sample_id != b'%b-T%b-s%b-%b' % (stem, T, seed.zfill(4), digest):
        return None
    return sample_id.decode(), found.end(), name is None


@lru_cache
def _agree(T: bytes, calls: bytes, steps: bytes) -> bool:
    """True if these can be of one sample, `steps` a list of timesteps; there are few different ones in a store."""
    return int(calls) <= int(T) and COUNTS.fullmatch(steps) is not None


def _stem(file: bytes) -> bytes:
    """As `PurePath.stem` of a name."""
    dot = file.rfind(b'.')
    return file[:dot] if 0 < dot < len(file) - 1 else file
