"""A word-level tokenizer made from captions, for models that are trained from scratch."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

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
