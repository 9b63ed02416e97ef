"""Losses of mmseg that count ignored pixels leave those of created images out.

B samples of a call; C channels; H, W: size of the targets. mmseg's Dice divides by what is predicted anywhere, ignored
or not, and its Hausdorff distance takes ignored pixels for the first class. Of real samples this stays, as the plain
training has it; of a created one, where θ_C was sure of a part, it would push all other pixels away from every class.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from mmseg.models.losses import DiceLoss, HuasdorffDisstanceLoss
from torch import Tensor, nn

from .kinds import is_synthetic

SURE = 1e4
"""A logit so far above the others that softmax gives 1 and 0."""


@contextmanager
def left_out(module: nn.Module, samples: Sequence) -> Iterator[None]:
    """Inside, ignored pixels of the created ones among `samples` add nothing to a loss, nor to a gradient.

    Args:
        module: A head or a segmentor, whose losses are called inside with these samples.
        samples: B samples, real or created.
    """
    created = [is_synthetic(sample) for sample in samples]
    with ExitStack() as stack:
        for head in module.modules() if any(created) else ():
            losses = getattr(head, 'loss_decode', None)
            for loss in losses.modules() if isinstance(losses, nn.Module) else ():
                if isinstance(loss, DiceLoss):
                    change = partial(_masked, activated=loss.activate, created=created, ignored=head.ignore_index)
                    loss.activate = False
                    stack.callback(setattr, loss, 'activate', change.keywords['activated'])
                elif isinstance(loss, HuasdorffDisstanceLoss):
                    change = partial(_first_class, created=created, ignored=head.ignore_index)
                else:
                    continue
                stack.callback(loss.register_forward_pre_hook(change).remove)
        yield


def _masked(loss: Any, args: tuple, activated: bool, created: list[bool], ignored: int) -> tuple:
    """Probabilities (B, C, H, W), 0 at what is left out, and a target that is no class there.

    Dice is made of sums over both, mmseg's of a target without that class.
    """
    logits, target, *rest = args
    found = logits
    if activated and loss.use_sigmoid:
        found = logits.sigmoid()
    elif activated and logits.shape[1] != 1:
        found = logits.softmax(1)
    counted = _counted(target, created, ignored)
    return found * counted, target.where(counted[:, 0], logits.shape[1]), *rest


def _first_class(loss: Any, args: tuple, created: list[bool], ignored: int) -> tuple:
    """Logits (B, C, H, W) that are sure of the first class at what is left out, and a target of that class there."""
    logits, target, *rest = args
    counted = _counted(target, created, ignored)
    sure = logits.new_full((logits.shape[1],), -SURE)
    sure[0] = SURE
    return logits.where(counted, sure[:, None, None]), target.where(counted[:, 0], 0), *rest


def _counted(target: Tensor, created: list[bool], ignored: int) -> Tensor:
    """(B, 1, H, W), False for the ignored pixels of created samples."""
    real = ~torch.tensor(created, device=target.device)
    return ((target != ignored) | real[:, None, None])[:, None]
