"""Features of a denoiser at several timesteps, side by side.

B samples; c, h, w: latent; n timesteps; level l: (h / 2^l, w / 2^l).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmdiff2in1.generators import Features, Perceiver


def features_at(
    perceiver: Perceiver,
    timesteps: Sequence[int],
    latents: Tensor,
    context: Tensor,
    pooled: Tensor | None,
    **wanted: Any,
) -> Features:
    """One call of the denoiser over all samples at all timesteps.

    Args:
        perceiver: The model.
        timesteps: n of them.
        latents: (B, c, h, w), shown at each timestep; or (B, n, c, h, w), what is shown at each.
        context: Tokens (B, L, D).
        pooled: Pooled text (B, P), or None.
        **wanted: Taps and levels of maps, see :meth:`.Perceiver.features`.

    Returns:
        Taps (B, n·C, h_l, w_l), of each tap the timesteps one behind the other; maps (B, L, h_l, w_l), their means over
        the timesteps, which are probabilities again.
    """
    B, n = latents.shape[0], len(timesteps)  # of shape: a tracer keeps it free, and not len()
    t = torch.stack([torch.full((B,), step, device=latents.device) for step in timesteps], 1).flatten()
    if n == 1:
        return perceiver.features(latents, t, context, pooled, **wanted)
    z = latents if latents.ndim == 5 else latents[:, None].expand(-1, n, -1, -1, -1)
    context = context.repeat_interleave(n, 0)
    pooled = None if pooled is None else pooled.repeat_interleave(n, 0)
    seen = perceiver.features(z.flatten(0, 1), t, context, pooled, **wanted)
    return Features(
        {name: tap.unflatten(0, (B, n)).flatten(1, 2) for name, tap in seen.taps.items()},
        {level: maps.unflatten(0, (B, n)).mean(1) for level, maps in seen.maps.items()},
    )
