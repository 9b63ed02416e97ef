"""Captions and class names → cross-attention tokens. B samples, L tokens, D width, K classes."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def spoken(names: Sequence[str]) -> list[str]:
    """Class names as they stand in a sentence: an underscore is a space (VPD: living_room, "living room")."""
    return [name.replace('_', ' ') for name in names]


class CaptionEncoder(nn.Module):
    """A transformers text encoder with its tokenizer.

    Args:
        encoder: A model whose ``last_hidden_state`` the U-Net attends to (CLIPTextModel in Stable Diffusion).
        tokenizer: Its tokenizer; captions are padded and truncated to ``tokenizer.model_max_length``.
    """

    def __init__(self, encoder: nn.Module, tokenizer):
        super().__init__()
        self.encoder, self.tokenizer = encoder, tokenizer

    @property
    def width(self) -> int:
        """D."""
        return self.encoder.config.hidden_size

    def token_ids(self, captions: list[str]) -> Tensor:
        """(B, L) int64 on the encoder's device."""
        batch = self.tokenizer(
            captions,
            padding='max_length',
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors='pt',
        )
        return batch.input_ids.to(next(self.encoder.parameters()).device)

    def forward(self, token_ids: Tensor) -> Tensor:
        """(B, L) token ids → (B, L, D)."""
        return self.encoder(token_ids).last_hidden_state

    @torch.no_grad()
    def class_tokens(self, names: list[str], template: str = 'a {}') -> Tensor:
        """One token per class, (K, D): the encoder's state at the last word of ``template.format(name)``.

        An underscore in a name is a space.

        Raises:
            ValueError: A name is empty.
        """
        names = spoken(names)
        self._check_names(names)
        ids = self.token_ids([template.format(name) for name in names])
        # The last word stands right before the end-of-text token, which is also the padding of CLIP's tokenizers.
        special = torch.tensor(sorted(self._special_ids()), device=ids.device)
        positions = torch.arange(ids.shape[1], device=ids.device)
        last_word = torch.where(torch.isin(ids, special), -1, positions).amax(1)
        return self(ids)[torch.arange(len(names), device=ids.device), last_word]

    @torch.no_grad()
    def class_embeddings(self, names: Sequence[str], templates: Sequence[str], batch_size: int = 256) -> Tensor:
        """One embedding per class, (K, D): the encoder's pooled state, averaged over ``templates`` (VPD, Sec. 3.2).

        Pooled is the state at the end of the text, behind the last normalisation and without projection; nothing is
        scaled to length one.

        Args:
            names: K class names; an underscore is a space.
            templates: Sentences with a place for the name, ``{}``.
            batch_size: Sentences per forward.

        Raises:
            ValueError: A name is empty.
        """
        names = spoken(names)
        self._check_names(names)
        sentences = [template.format(name) for name in names for template in templates]
        pooled = []
        for start in range(0, len(sentences), batch_size):
            ids = self.token_ids(sentences[start : start + batch_size])
            # The first one: CLIP's tokenizers pad with it.
            ends = (ids == self.tokenizer.eos_token_id).int().argmax(1)
            pooled.append(self(ids)[torch.arange(len(ids), device=ids.device), ends])
        return torch.cat(pooled).view(len(names), len(templates), -1).mean(1)

    def _check_names(self, names: Sequence[str]) -> None:
        empty = [i for i, name in enumerate(names) if not name.strip()]
        if empty:
            raise ValueError(f'class names {empty} are empty; every class needs a name to be attended to')
        self._warn_of_unknown_words(list(names))

    def _special_ids(self) -> set[int]:
        return {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}

    def _warn_of_unknown_words(self, names: list[str]) -> None:
        special = self._special_ids()
        # CLIP's vocabulary can spell any word; its unknown token is the end of text.
        unknown = {self.tokenizer.unk_token_id} - special
        words = [set(row) - special for row in self.token_ids(names).tolist()]
        strange = [name for name, ids in zip(names, words, strict=True) if not ids or ids & unknown]
        if strange:
            message = f'the text encoder does not know all words of {strange}; it cannot tell such classes apart'
            warnings.warn(message, stacklevel=4)
