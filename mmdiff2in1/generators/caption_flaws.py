"""Parts of a caption that never reach a text encoder: words unknown to it, and what is behind its last token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CaptionFlaws:
    """Each word that is `unknown` once, sorted, and the captions that are too long and `cut`."""

    unknown: list[str]
    cut: list[str]


def caption_flaws(tokenizers: Sequence[Any], captions: Sequence[str]) -> CaptionFlaws:
    """Flaws for all of a model's tokenizers: what one of them reads is not lost."""
    unknown, cut = [], []
    for tokenizer in tokenizers:
        ends = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        # CLIP's vocabulary can spell any word; its unknown token is the end of text.
        strange = {tokenizer.unk_token_id} - ends - {None}
        words = {word for caption in captions for word in caption.lower().split()} if strange else ()
        unknown.append({word.strip('.,;:!?"()') for word in words if strange & set(_ids(tokenizer, word))})
        most = tokenizer.model_max_length
        cut.append({caption for caption in set(captions) if len(_ids(tokenizer, caption)) > most})
    if not tokenizers:
        return CaptionFlaws([], [])
    return CaptionFlaws(sorted(set.intersection(*unknown)), sorted(set.intersection(*cut)))


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Of the whole text, both ends included."""
    return tokenizer(text, truncation=False, verbose=False).input_ids
