"""One task of one arm: θ_E learns, θ_C follows it and labels.

B samples, r of them real; C channels of the head; H, W pixels.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdiff2in1.tasks import DenseTask

from .features import Trunk
from .scoring import resize

LEARNING_RATE, TRUNK_SHARE = 6e-3, 0.1  # the U-Net's share of it as in VPD


class Learner:
    """θ_E with its optimizer, and θ_C.

    Args:
        task: What is predicted.
        model: θ_E, from :func:`.features.make_model`.
        device: Where the features are.
    """

    def __init__(self, task: DenseTask, model: nn.Module, device: torch.device | None = None):
        self.task = task
        self.device = device or torch.device('cpu')
        self.exploiter = model.to(self.device)
        self.optimizer = _optimizer(self.exploiter)
        self.creator = copy.deepcopy(self.exploiter).requires_grad_(False).eval()
        self.teacher: nn.Module | None = None  # that labels in place of θ_C; rebuilt by fork(), never trained

    def fork(self, fixed_teacher: bool = False) -> 'Learner':
        """An independent copy: same weights, same optimizer moments, θ_C ← θ_E.

        Args:
            fixed_teacher: Whether θ_C as it is now goes on labelling.
        """
        fork = copy.copy(self)._load(copy.deepcopy(self.state()), start=True)
        fork.teacher = copy.deepcopy(fork.creator) if fixed_teacher else None
        return fork

    def state(self) -> dict:
        """All that training changes."""
        return dict(
            exploiter=self.exploiter.state_dict(),
            creator=self.creator.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )

    def load(self, state: dict) -> None:
        """Continues from what :meth:`state` gave."""
        self._load(state, start=False)

    def _load(self, state: dict, start: bool) -> 'Learner':
        self.exploiter = copy.deepcopy(self.exploiter)
        self.exploiter.load_state_dict(state['exploiter'])
        self.creator = copy.deepcopy(self.exploiter).requires_grad_(False).eval()
        self.creator.load_state_dict(state['exploiter' if start else 'creator'])
        self.optimizer = _optimizer(self.exploiter)
        self.optimizer.load_state_dict(state['optimizer'])
        return self

    def step(
        self,
        features: Sequence[Tensor],
        real: Tensor | None,
        synthetic: Tensor | None,
        synthetic_weight: float,
        share: float,
        seed: int,
    ) -> Tensor:
        """One update of θ_E on a batch that holds the real samples first.

        Args:
            features: What :func:`.features.shared` gives.
            real: Targets of the first samples, or None.
            synthetic: Targets of the others, or None.
            synthetic_weight: w of L = L_real + w · L_synthetic, each a mean over its valid pixels (segmentation, as in
                mmseg: over all pixels, so that a filter also lowers the weight).
            share: Learning rate as a share of the peak.
            seed: Of the dropout.

        Returns:
            The loss before the update, on the device: nothing waits for it.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = LEARNING_RATE * group['share'] * share
        torch.manual_seed(seed)
        self.exploiter.train()
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.exploiter(features)
        loss, start = torch.zeros((), device=self.device), 0
        for target, weight in ((real, 1.0), (synthetic, synthetic_weight)):
            if target is not None:
                part = resize(output[start : start + len(target)], target)
                loss = loss + weight * LOSSES[self.task.name](self.task, part, target)
                start += len(target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.exploiter.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """θ_C ← keep · θ_C + (1 − keep) · θ_E (Diff-2-in-1, the exponential moving average of the data creator)."""
        if keep < 1:
            torch._foreach_lerp_(list(self.creator.parameters()), list(self.exploiter.parameters()), 1 - keep)

    @torch.no_grad()
    def pseudo_labels(
        self,
        features: Sequence[Tensor],
        size: tuple[int, int],
        min_confidence: float | None,
        mirrored: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, float]:
        """Targets (B, c, H, W) by θ_C and the share of their pixels that is kept.

        Args:
            features: Of the images.
            size: (H, W).
            min_confidence: Below it a pixel is left out, where the task has a confidence.
            mirrored: Features of the mirrored images, to take the mean of both outputs.
        """
        teacher = self.teacher or self.creator
        output = self.outputs(teacher, features)
        if mirrored is not None:
            back = self.outputs(teacher, mirrored).flip(-1)
            if self.task.name == 'normal':
                back[:, 0].neg_()
            output = (output + back) / 2
        output = F.interpolate(output, size, mode='bilinear', align_corners=False)
        if self.task.name == 'depth':
            output = self.task.activate(output)  # this task's pseudo label starts from metres
        target, confidence = self.task.pseudo_label(output)
        if min_confidence is None or confidence is None:
            return target, 1.0
        unsure = confidence < min_confidence
        return self.task.invalidate(target, unsure), 1 - unsure.float().mean().item()

    @torch.no_grad()
    def outputs(self, model: nn.Module, features: Sequence[Tensor]) -> Tensor:
        """What θ_E or θ_C puts out in eval mode, float32."""
        model.eval()
        with torch.autocast(self.device.type, torch.bfloat16):
            return model(features).float()


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    trunk = [p for part in model if isinstance(part, Trunk) for p in part.parameters() if p.requires_grad]
    heads = [p for part in model if not isinstance(part, Trunk) for p in part.parameters()]
    groups = [dict(params=heads, share=1.0)] + ([dict(params=trunk, share=TRUNK_SHARE)] if trunk else [])
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, weight_decay=1e-3, fused=True)


def _cross_entropy(task: DenseTask, output: Tensor, target: Tensor) -> Tensor:
    target = target[:, 0].long()
    total = F.cross_entropy(output, target, ignore_index=int(task.invalid), reduction='sum')
    return total / target.numel()  # mmseg's mean: ignored pixels count in the denominator


def _one_minus_cosine(task: DenseTask, output: Tensor, target: Tensor) -> Tensor:
    # rsqrt on the sum of squares: F.normalize costs five times as much here.
    cosine = (output * target).sum(1) * (output.square().sum(1) + 1e-8).rsqrt()
    valid = task.valid(target)[:, 0]
    return ((1 - cosine) * valid).sum() / valid.sum().clamp(min=1)


def _silog(task: DenseTask, output: Tensor, target: Tensor) -> Tensor:
    """Eigen et al. 2014, λ = 0.5, under the root (mmseg's SiLogLoss) with a floor that keeps its gradient finite."""
    valid = task.valid(target)
    error = task.activate(output)[valid].log() - target[valid].log()
    return (error.square().mean() - 0.5 * error.mean().square() + 1e-6).sqrt()


LOSSES = {'semantic_segmentation': _cross_entropy, 'normal': _one_minus_cosine, 'depth': _silog}
