"""Tokenizers: one token per word for models that are trained from scratch, CLIP's for Stable Diffusion."""

import gzip
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import CLIPTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

BEGIN, END, UNKNOWN = '<|begin|>', '<|end|>', '<|unknown|>'
_WORD = Regex(r"[a-z0-9'-]+")


def split_words(caption: str) -> list[str]:
    """The words of a caption, lower case, in order: one token each."""
    splitter = pre_tokenizers.Split(_WORD, 'removed', invert=True)
    return [word for word, _ in splitter.pre_tokenize_str(caption.lower())]


def words_of(captions: Iterable[str]) -> list[str]:
    """The words that occur in ``captions``, sorted; the vocabulary of :func:`caption_tokenizer`."""
    return sorted({word for caption in captions for word in split_words(caption)})


def caption_tokenizer(words: list[str], max_length: int) -> PreTrainedTokenizerFast:
    """One id per word; captions become ``begin word … end`` and are padded with ``end`` to ``max_length``."""
    vocabulary = {token: i for i, token in enumerate([BEGIN, END, UNKNOWN, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORD, 'removed', invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f'{BEGIN} $A {END}', special_tokens=[(BEGIN, vocabulary[BEGIN]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=max_length,
    )


CLIP_VOCABULARY = 49408
CLIP_MERGES = Path(__file__).parent / 'builtin' / 'clip' / 'merges.txt.gz'
CLIP_PADDING = {'clip': '<|endoftext|>', 'open_clip': '!'}
"""The token that fills captions up in Stable Diffusion 1.x and 2.x."""


def tokenizer_of(words: list[str] | str, max_length: int) -> PreTrainedTokenizerFast | CLIPTokenizer:
    """One id per word of ``words``; or the tokenizer of a text encoder of Stable Diffusion, ``clip`` or ``open_clip``.

    Raises:
        ValueError: Another name.
    """
    if not isinstance(words, str):
        return caption_tokenizer(words, max_length)
    if words not in CLIP_PADDING:
        raise ValueError(f'unknown vocabulary {words!r}; known: {", ".join(CLIP_PADDING)}, or a list of words')
    return clip_tokenizer(CLIP_PADDING[words], max_length)


def clip_tokenizer(padding: str, max_length: int) -> CLIPTokenizer:
    """CLIP's own tokenizer (byte pairs, lower case), from the list of pairs that lies in ``builtin/clip``.

    Args:
        padding: The token that fills captions up, see :data:`CLIP_PADDING`.
        max_length: Tokens per caption, both ends included.
    """
    merges = [tuple(line.split()) for line in gzip.decompress(CLIP_MERGES.read_bytes()).decode().splitlines()]
    # 256 bytes, the same at the end of a word, and two ends complete the vocabulary.
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f'{letter}</w>' for letter in letters), *(''.join(pair) for pair in merges)]
    ends = ['<|startoftext|>', '<|endoftext|>']
    vocabulary = {word: i for i, word in enumerate([*words, *ends])}
    return CLIPTokenizer(vocabulary, merges, pad_token=padding, model_max_length=max_length)
