"""Tokenizers on disk: there, whole, and those of the text encoder beside them.

transformers makes an empty vocabulary where its files are missing, and every caption becomes the same ids. Nor does it
compare a tokenizer with an encoder; these fit where

- every id has an embedding: the highest is below ``vocab_size``;
- hardly any embedding has no id: vocabularies are padded, by a tenth or by 128 at most;
- at a CLIP text encoder, begin, end and padding are there, the end is the one that its config names, unless that is of
  the years when transformers wrote ``eos_token_id=2`` for all of them, and captions are no longer than its positions.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from .reading import loading, read_json
from .tokenizer import CLIP_VOCABULARY, clip_tokenizer

VOCABULARIES: tuple[tuple[str, ...], ...] = (
    ('tokenizer.json',),
    ('vocab.json', 'merges.txt'),
    ('vocab.txt',),
    ('spiece.model',),
    ('tokenizer.model',),
    ('sentencepiece.bpe.model',),
)
"""Each is a whole vocabulary."""
OF_CLASS = {'CLIPTokenizer': VOCABULARIES[:2], 'T5Tokenizer': (VOCABULARIES[0], VOCABULARIES[3])}
CLIP = ('clip_text_model', 'clip')
WITHOUT_ENDS = 2
"""``eos_token_id`` in configs of CLIP that do not know their ends: those of Stable Diffusion, SDXL and FLUX."""
PADDED, PADDED_SHARE = 128, 0.1
UNSET = 10**20
"""``model_max_length`` above this was not set."""
CLIP_DIGEST = '1409d1bfc9edcb7ebb15044870c857bf45e1ca6b36a062b503ce2ca5bae95ad4'
"""Of CLIP's own words and merges, see :func:`vocabulary_digest`."""
CURE = 'Fetch it from the model that the text encoder is of (`hf download REPOSITORY --local-dir FOLDER`)'


def check_tokenizer_files(folder: Path) -> None:
    """Makes sure that a vocabulary lies in ``folder``, before anything is loaded.

    Raises:
        FileNotFoundError: None does, or half of one; what was found and what was expected is listed.
        ValueError: ``tokenizer_config.json`` or ``tokenizer.json`` is damaged, or holds no vocabulary.
    """
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    config = read_json(folder / 'tokenizer_config.json') if 'tokenizer_config.json' in names else {}
    kind = str(config.get('tokenizer_class')).removesuffix('Fast')
    expected = OF_CLASS.get(kind, VOCABULARIES)
    whole = [files for files in expected if set(files) <= set(names)]
    if not whole:
        files = '; or '.join(' and '.join(files) for files in expected)
        raise FileNotFoundError(
            f'{folder} holds no vocabulary: found {", ".join(names) or "nothing"}, expected {files}. {CURE}'
        )
    if whole[0] == VOCABULARIES[0]:
        model = read_json(folder / 'tokenizer.json').get('model')
        if not isinstance(model, dict) or not model.get('vocab'):
            raise ValueError(f'{folder} holds no vocabulary: tokenizer.json has no words under model.vocab. {CURE}')


def read_tokenizer(folder: Path, encoder: Any, kind: Any = AutoTokenizer) -> Any:
    """Loads the tokenizer of a text encoder.

    Args:
        folder: Of the tokenizer.
        encoder: The text encoder, a model of transformers.
        kind: Class of transformers.

    Raises:
        FileNotFoundError, ValueError: As :func:`check_tokenizer_files` and :func:`check_tokenizer`; or it is damaged.
    """
    check_tokenizer_files(folder)
    with loading(folder):
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_tokenizer(tokenizer, encoder.config, folder)
    return tokenizer


def check_tokenizer(tokenizer: Any, config: Any, place: str | Path) -> None:
    """Raises ValueError for a tokenizer that is not that of the text encoder with ``config``, see above.

    A CLIP tokenizer whose ``model_max_length`` is not set gets the number of the encoder's positions.
    """
    config = config.get_text_config() if hasattr(config, 'get_text_config') else config
    size = getattr(config, 'vocab_size', None)
    if size is None:
        return
    vocabulary = tokenizer.get_vocab()
    words = len(vocabulary.keys() - set(tokenizer.all_special_tokens))
    highest = max(vocabulary.values(), default=-1)
    spare = size - len(vocabulary)
    found = f'{place} is not the tokenizer of the text encoder beside it: it knows {len(vocabulary)} tokens'
    if not words or highest >= size or spare > max(PADDED, PADDED_SHARE * size):
        raise ValueError(
            f'{found}, {words} of them words, ids up to {highest}; the encoder has {size} embeddings. {CURE}'
        )
    if getattr(config, 'model_type', None) not in CLIP:
        return
    absent = [key for key in ('bos_token', 'eos_token', 'pad_token') if getattr(tokenizer, f'{key}_id') is None]
    if absent:
        raise ValueError(f'{found}, and has no {", ".join(absent)}, which CLIP needs. {CURE}')
    end = config.eos_token_id
    if not isinstance(end, int) or end not in (WITHOUT_ENDS, tokenizer.eos_token_id) and end < size:
        raise ValueError(f'{found} and ends a caption with {tokenizer.eos_token_id}; the encoder expects {end}. {CURE}')
    length = tokenizer.model_max_length
    if not isinstance(length, int | float) or length < 2:
        raise ValueError(f'{place}: model_max_length={length!r}, expected the tokens of a caption, both ends included')
    if length > UNSET:
        tokenizer.model_max_length = config.max_position_embeddings
    elif length > config.max_position_embeddings:
        raise ValueError(
            f'{found} and gives captions {length} of them; the encoder has '
            f'{config.max_position_embeddings} positions. {CURE}'
        )
    if size == CLIP_VOCABULARY and vocabulary == _clip_words() and vocabulary_digest(tokenizer) != CLIP_DIGEST:
        raise ValueError(f"{place} knows CLIP's words and not its merges; is merges.txt complete? {CURE}")


def foreign_vocabulary(tokenizer: Any) -> str:
    """Digest of a vocabulary of CLIP's size that is not CLIP's, '' of any other; a part of a model's hash.

    The hash of a model with CLIP's own vocabulary is the one that stores have recorded since they began. For the same
    reason vocabularies of other sizes stay out of it: an encoder takes none of another size, and the identity of a run
    holds the JSON files of the tokenizer.
    """
    if len(tokenizer.get_vocab()) != CLIP_VOCABULARY:
        return ''
    digest = vocabulary_digest(tokenizer)
    return '' if digest == CLIP_DIGEST else digest


def vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of all words with their ids, and of the merges in their order."""
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    model = {} if backend is None else json.loads(backend.to_str())['model']
    merges = [pair.split(' ') if isinstance(pair, str) else pair for pair in model.get('merges', [])]
    return hashlib.sha256(json.dumps([sorted(tokenizer.get_vocab().items()), merges]).encode()).hexdigest()


@cache
def _clip_words() -> dict[str, int]:
    return clip_tokenizer('!', 77).get_vocab()
