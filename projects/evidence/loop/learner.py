"""One task of one arm: θ_E learns, θ_C follows it and labels, all of it as the package does it.

B samples; c target channels; H, W pixels.
"""

import copy
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from mmdiff2in1.engine import move_creator
from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.models.backbones.frozen_features import FrozenFeatures
from mmdiff2in1.tasks import DenseTask

from .arms import CONTROL_ARM, Arm
from .models import make_model

LEARNING_RATE, TRUNK_SHARE = 6e-3, 0.1  # the U-Net's share of it as in VPD


class Learner:
    """A ``SelfImprovingSegmentor`` with the optimizer of its θ_E.

    Args:
        task: What is predicted.
        backbone: What makes the features; its device is the model's.
        arm: How the pool is labelled and weighted.
        start: A learner of the same task to go on from: same weights, same optimizer moments, θ_C ← θ_E.
    """

    def __init__(
        self, task: DenseTask, backbone: DiffusionBackbone, arm: Arm = CONTROL_ARM, start: 'Learner | None' = None
    ):
        self.task, self.backbone = task, backbone
        self.device = next(backbone.parameters()).device
        warm = None if start is None else start.model.exploiter
        self.model: Any = make_model(task, backbone, arm, warm).to(self.device)
        self.optimizer = _optimizer(self.model.exploiter)
        if start is None:
            self.model.init_weights()
        else:
            self.model.load_state_dict(warm.state_dict())  # a plain segmentor's weights become those of both
            self.optimizer.load_state_dict(copy.deepcopy(start.optimizer.state_dict()))

    @property
    def view(self) -> str | None:
        """What the teacher wants to see besides."""
        return getattr(self.model.label_rule, 'view', None)

    def state(self) -> dict:
        """All that training changes."""
        return dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict())

    def load(self, state: dict) -> None:
        """Continues from what :meth:`state` gave."""
        self.model.load_state_dict(copy.copy(state['model']))  # the model completes it in place
        self.optimizer.load_state_dict(state['optimizer'])

    def step(self, seen: FrozenFeatures, samples: list[SegDataSample], share: float, seed: int) -> tuple[Tensor, float]:
        """One update of θ_E.

        Args:
            seen: Features of B images.
            samples: B samples, see :func:`labelled`.
            share: Learning rate as a share of the peak.
            seed: Of the dropout.

        Returns:
            The loss before the update, on the device: nothing waits for it; the share of pseudo-labelled pixels that
            was learned from, 1 where there are none.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = LEARNING_RATE * group['share'] * share
        torch.manual_seed(seed)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = self.model.loss(seen, samples)
        kept = losses.get(f'kept_share/{self.task.name}', 1.0)
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.exploiter.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach(), float(kept)

    def follow(self, keep: float) -> None:
        """θ_C ← keep · θ_C + (1 − keep) · θ_E."""
        move_creator(self.model.ema_tensors(), keep)

    @torch.no_grad()
    def outputs(self, who: str, seen: FrozenFeatures) -> Tensor:
        """What 'creator' or 'exploiter' puts out, (B, C, H, W) float32."""
        self.model.eval()
        metas = [_metainfo(seen.size)] * len(seen)
        with torch.autocast(self.device.type, torch.bfloat16), self.model.evaluated(who):
            return self.model.encode_decode(seen, metas).float()


def labelled(task: DenseTask, target: Tensor | None, size: tuple[int, int], count: int, synthetic: bool) -> list:
    """``count`` samples of H × W = ``size`` with their targets (B, c, H, W), if there are any."""
    samples = [SegDataSample(metainfo=dict(_metainfo(size), synthetic=synthetic)) for _ in range(count)]
    if target is not None:
        for sample, own in zip(samples, target.to(task.target_dtype), strict=True):
            sample.set_data({task.field: PixelData(data=own)})
    return samples


def _metainfo(size: tuple[int, int]) -> dict:
    return dict(img_shape=size, ori_shape=size, pad_shape=size)


def _optimizer(exploiter: Any) -> torch.optim.Optimizer:
    trunk = [p for p in exploiter.backbone.parameters() if p.requires_grad]
    heads = [*exploiter.neck.parameters(), *exploiter.decode_head.parameters()]
    groups = [dict(params=heads, share=1.0)] + ([dict(params=trunk, share=TRUNK_SHARE)] if trunk else [])
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=1e-3, fused=True)
