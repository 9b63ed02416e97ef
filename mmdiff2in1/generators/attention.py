"""Attention that can hand out its cross-attention probabilities, layer by layer, without keeping any state.

B, heads, N (= h·w queries), L tokens.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor


class CollectingAttnProcessor:
    """Fused attention, unless the call carries a ``collector`` list and the layer attends to tokens.

    Then the probabilities are materialised once, averaged over heads, and appended to the list as (B, N, L). The list
    travels in ``cross_attention_kwargs``, so the module stays free of per-call state (safe under DDP and threads).
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        collector: list[Tensor] | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError('attention masks are not supported: Stable Diffusion attends to padding tokens too')
        residual = hidden_states
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        collecting = collector is not None and encoder_hidden_states is not None
        # Fused attention's backward is slow on CPUs: it took a third of a training step.
        if collecting or (query.requires_grad and query.device.type == 'cpu'):
            probabilities = _probabilities(query, key, attn.scale)
            if collecting:
                collector.append(probabilities.mean(1))
            out = probabilities.to(value.dtype) @ value
        else:
            out = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        if attn.residual_connection:
            out = out + residual
        return out / attn.rescale_output_factor


def _probabilities(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """(B, heads, N, L) in float32: the logits of Stable Diffusion 2.1 do not fit into float16."""
    kind = query.device.type
    # The meta device, where shapes and costs can be asked for without memory, knows no autocast.
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return (query.float() * scale @ key.float().transpose(-1, -2)).softmax(-1)


def install_collecting_attention(unet: UNet2DConditionModel) -> None:
    """Gives every attention layer of ``unet`` a :class:`CollectingAttnProcessor` (once, at construction).

    Raises:
        ValueError: A layer uses a feature that Stable Diffusion's U-Nets do not have (norms inside the attention,
            added key/value projections), which the processor does not implement.
    """
    for name, module in unet.named_modules():
        if not isinstance(module, Attention):
            continue
        unknown = [
            part
            for part in ('group_norm', 'spatial_norm', 'norm_q', 'norm_k', 'norm_cross', 'add_k_proj')
            if getattr(module, part, None)
        ]
        if unknown:
            raise ValueError(f'attention layer {name} uses {", ".join(unknown)}, which is not supported here')
    unet.set_attn_processor(CollectingAttnProcessor())
