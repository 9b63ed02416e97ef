"""Fields of a store's record, and what each may say: a manifest is a file that anyone may have written."""

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from mmdiff2in1.core.inside import is_inside

from .recipe import Condition, SampleRecipe

UNLABELLED = 'unlabelled'
"""`kind` in the record of an image that was not created: the user's own, without a label."""

SHOWN = 80
"""Characters of a value in a message."""

Field = tuple[Callable[[Any], bool], str]


def _is(*kinds: type) -> Callable[[Any], bool]:
    # True is an int for Python and no number here.
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _is_number(value: Any) -> bool:
    return _is(int)(value) or (isinstance(value, float) and math.isfinite(value))


def _is_count(value: Any) -> bool:
    return _is(int)(value) and value >= 0


def _is_name(value: Any) -> bool:
    return is_inside(value) and '/' not in value


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch('[0-9a-f]{64}', value) is not None


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _dict_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


COUNT, TEXT = (_is_count, 'an integer of 0 or more'), (_is(str), 'text')
INSIDE = (is_inside, "a path below the store, without '..'")
DIGEST = (_is_digest, '64 hexadecimal digits')
REQUIRED: dict[str, Field] = {
    'sample_id': (_is_name, 'a file name without folders'),
    'source': (_or_none(_is(str)), 'the path of an image, or null'),
}
OPTIONAL: dict[str, Field] = {
    **dict.fromkeys(('caption', 'grid', 'solver', 'weights_hash', 'kind', 'path', 'source_caption'), TEXT),
    **dict.fromkeys(('seed', 'noise_seed', 'T', 'num_calls', 'bytes'), COUNT),
    'modified': (_is(int), 'an integer'),
    'guidance_scale': (_is_number, 'a number'),
    'restore_size': (_is(bool), 'true or false'),
    'size': (lambda v: _list_of(_is_count)(v) and len(v) == 2 and min(v) > 0, '[height, width] in pixels'),
    'timesteps': (_list_of(_is_count), 'a list of integers'),
    'scores': (_dict_of(_is(int, float)), 'numbers by name'),
    'source_labels': (_dict_of(_is(str)), 'paths by name'),
    'layout': (_or_none(_is(dict)), 'a dictionary, or null'),
    'condition': (_or_none(_is(dict)), 'a dictionary, or null'),
    'rejected': (_or_none(_is(str)), 'the reason, or null'),
}
"""Other fields are let through: they are read by nobody."""
BY_RECIPE = re.compile(r'-T\d+-s\d{4,}-[0-9a-f]{8}$')
"""How the name of a created sample ends, which follows from its recipe."""
OF_CREATED = (
    *('caption', 'seed', 'T', 'grid', 'num_calls', 'solver', 'guidance_scale', 'size', 'weights_hash'),
    *('scores', 'restore_size'),
)
"""Fields of a created sample that are read when a creation goes on."""


def flaw_of(record: object) -> str | None:
    """The first field of a record that is not what it should be, with what was found and expected; None if all are."""
    if not isinstance(record, dict):
        return f'found {shown(record)}, expected a record'
    for name, value, (fits, expected) in _fields(record):
        if not fits(value):
            return f'field {name}: found {shown(value)}, expected {expected}'
    return _flaw_of_name(record)


def check_record(record: dict) -> None:
    """ValueError with the flaw of a record, if it has one."""
    flaw = flaw_of(record)
    if flaw:
        raise ValueError(f'record of {record.get("sample_id")!r}: {flaw}')


def file_name(record: dict) -> str:
    """Of the PNG files of a sample that is being made; ValueError as :func:`check_record`, as far as it is known."""
    check_record(dict(record, rejected='not yet'))
    return f'{record["sample_id"]}.png'


def as_line(record: dict) -> bytes:
    """As it stands in a manifest."""
    return json.dumps(record, sort_keys=True).encode() + b'\n'


def shown(value: object) -> str:
    """A value in a message."""
    text = 'nothing' if value is ... else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def _fields(record: dict) -> Iterator[tuple[str, Any, Field]]:
    """Name, value (`...` where it is missing) and what it should be."""
    for name, field in REQUIRED.items():
        yield name, record.get(name, ...), field
    for name in OPTIONAL.keys() & record.keys():
        yield name, record[name], OPTIONAL[name]
    for name in OF_CREATED if _is_created(record) else ():
        yield name, record.get(name, ...), OPTIONAL[name]
    if record.get('rejected'):
        return
    if record.get('kind') == UNLABELLED:
        yield 'image', record.get('image', ...), (_is_place, f'an absolute path, or {INSIDE[1]}')
        for name in ('path', 'bytes', 'modified', 'size'):
            yield name, record.get(name, ...), OPTIONAL[name]
    else:
        yield 'image', record.get('image', ...), INSIDE
    yield 'image_sha256', record.get('image_sha256', ...), DIGEST
    labels = record.get('labels', {})
    yield 'labels', labels, (_dict_of(_is(dict)), 'file and sha256 by task')
    for task, label in labels.items():
        yield f'labels.{task}.file', label.get('file', ...), INSIDE
        yield f'labels.{task}.sha256', label.get('sha256', ...), DIGEST
        yield f'labels.{task}.by', label.get('by', ''), TEXT


def _is_created(record: dict) -> bool:
    return BY_RECIPE.search(record['sample_id']) is not None


def _flaw_of_name(record: dict) -> str | None:
    """The name follows from the recipe, and the names of the files from it: what has been changed or swapped shows."""
    if _is_created(record):
        given = {name: record[name] for name in ('source', *OF_CREATED[:-2])}
        given['caption'] = record.get('source_caption', given['caption'])  # a layout writes its own
        try:
            condition = Condition(**record['condition']) if record.get('condition') else None
            named = SampleRecipe(**given, layout=record.get('layout'), condition=condition).sample_id
        except (TypeError, ValueError) as error:
            return f'found the recipe of no sample ({error})'
        if named != record['sample_id']:
            return (
                f'field sample_id: found {record["sample_id"]}, expected {named}, which follows from the other fields'
            )
    own = {} if record.get('rejected') else {f'labels.{t}.file': v['file'] for t, v in record.get('labels', {}).items()}
    if not record.get('rejected') and is_inside(record['image']):
        own['image'] = record['image']
    for name, file in own.items():
        if PurePosixPath(file).stem != record['sample_id']:
            return f'field {name}: found {shown(file)}, expected a file of the name {record["sample_id"]}'
    return None


def _is_place(value: Any) -> bool:
    return is_inside(value) or (isinstance(value, str) and value.startswith('/') and '\0' not in value)
