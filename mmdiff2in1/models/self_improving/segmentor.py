"""Self-improving training of any mmseg segmentor: θ_E learns, θ_C labels the synthetic samples and is its average.

B samples in a batch, r of them real and s synthetic; H, W the padded crop.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.model import initialize
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import MODELS
from torch import nn

from .construction import build_rule, build_tasks, split_config, twin
from .forwarding import ReadsLikeItsSegmentor
from .head_kinds import takes_edges
from .kinds import NORMALIZERS, Kind, check_weight, is_synthetic, kinds_of
from .label_rules import LabelRule
from .labelling import labelled
from .losses_by_kind import losses_by_kind, stops_without_labels
from .parameter_pairs import EMATensors, copy_exploiter, ema_tensors
from .state_dicts import complete, drop_second_copies
from .teachers import Teachers
from .weighted_losses import DIVISORS
from .whole_loading import load_whole

EVALUATED = ('creator', 'exploiter')


@MODELS.register_module()
class SelfImprovingSegmentor(ReadsLikeItsSegmentor, BaseSegmentor):
    """`exploiter` (θ_E, trained) and `creator` (θ_C, its moving average) of one segmentor config, side by side.

    Training (Diff-2-in-1, arXiv 2411.05005, self-improving stage): real samples keep their labels; a sample whose
    metainfo says `synthetic=True` is taught what `label_rule` says: after the paper, what θ_C sees in it, in eval mode
    and without gradient, on the crop that θ_E sees. A batch without synthetic samples is the plain segmentor's: same
    losses, same keys. A label that a sample lacks teaches nothing. The average is not taken here but by
    `SelfImprovingHook`, over `ema_tensors()`.

    Prediction is by the model under evaluation, θ_C unless `evaluate` or `evaluated(...)` says otherwise.

    A backbone may opt into sharing. `frozen_modules()`: the modules θ_C and θ_E hold in common, once in memory and in
    the checkpoint, always in eval mode. `frozen_features(images)`: all that comes before the first trainable
    parameter, computed once per mixed batch, accepted by the backbone's `forward`, its samples selected by `[index]`.
    Where it returns such features as they are, as those of this package do, `loss` takes them in the place of images.
    A checkpoint fills both models or is refused, whoever loads it; `load_from_may_differ` in the config names what need
    not fit, see `load_whole`.

    A rule may name teachers besides θ_C; they are no part of the model, see `Teachers`.

    A segmentor may offer `conditioned(inputs, metas)`: its inputs with what it must know of each image besides.

    Args:
        segmentor: Config of any mmseg segmentor. Its `data_preprocessor` becomes that of the wrapper.
        task: What is predicted, see `TaskSet`; None: the segmentor's own, or semantic segmentation.
        label_rule: What created images are taught with, a TASK_UTILS config of a `LabelRule`; None: `TeacherLabel`.
        synthetic_weight: w, weight of the synthetic losses, at least 0; or one by the name of a task, of others 1.
        normalize_by: 'pooled', as the released code and Bae et al. have it: one loss of all samples, which the head
            computes once, as if all were real; a w other than 1 is a weight of synthetic pixels in that mean. Where
            no synthetic pixel counts, the loss is that of the real ones. 'batch': a mean of each kind,
            (r·L_real + w·s·L_synthetic) / (r + s). It equals the pool where mmseg's losses are means over samples;
            where fewer pixels of one kind count, they weigh more. 'real': L_real + w·(s/r)·L_synthetic, the real part
            as it is without synthetic samples.
        divide_by: What the losses of created images, in a pool those of all, are divided by, see `losses_of_head`:
            `loss`, as each loss does it by itself; `counted`, the pixels that count; `all`, all pixels.
        evaluate: 'creator' or 'exploiter'.
        data_preprocessor: That of a segmentor without its own; a runner gives the config's top-level one here.
        init_cfg: Only `dict(type='Pretrained', …)`: a checkpoint of this wrapper or of the plain segmentor.
        min_confidence: Short for `label_rule=dict(type='TeacherLabel', min_confidence=…)`.
        use_stored_labels: Short for `label_rule=dict(type='GivenLabel')`.
        share_draws: Whether θ_C labels from the very features that θ_E learns from, noise and posterior included.
            False, as released: drawn and computed anew for θ_C; it costs time, and changes nothing where a backbone
            draws nothing.
        **merged: Refused; there to explain what went wrong.

    Raises:
        TypeError: No segmentor, or keys of a base config's model beside it.
        ValueError: An impossible setting, or a task that fits neither the decode head nor the label rule.
    """

    init_cfg: Any

    def __init__(
        self,
        segmentor: dict | None = None,
        task: Any = None,
        label_rule: dict | LabelRule | None = None,
        synthetic_weight: float | Mapping[str, float] = 1.0,
        normalize_by: str = 'batch',
        divide_by: str = 'loss',
        evaluate: str = 'creator',
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
        min_confidence: float | None = None,
        use_stored_labels: bool = False,
        share_draws: bool = True,
        **merged: Any,
    ) -> None:
        config, data_preprocessor = split_config(segmentor, data_preprocessor, merged)
        super().__init__(data_preprocessor, init_cfg)
        self.exploiter = MODELS.build(config)
        self.exploiter.data_preprocessor = self.data_preprocessor
        self.creator = twin(self.exploiter)
        self.tasks = build_tasks(task, self.exploiter)
        self.label_rule = build_rule(label_rule, min_confidence, use_stored_labels)
        self.label_rule.check(self.tasks)
        asked = self.label_rule.teachers
        self.teachers = None if asked is None else Teachers(asked, self.tasks)
        self.synthetic_weight = synthetic_weight
        self.normalize_by = normalize_by
        self.divide_by = divide_by
        self.share_draws = share_draws
        self.evaluate = evaluate
        self._check_settings()
        self.register_state_dict_post_hook(drop_second_copies)
        load_whole(self)

    def loss(self, inputs: Any, data_samples: list) -> dict[str, Any]:
        """Losses of θ_E.

        Args:
            inputs: Images (B, 3, H, W) as the data preprocessor leaves them, or what `frozen_features` made of them.
            data_samples: B samples; they are not changed.

        Returns:
            Only real samples: what the plain segmentor returns. Otherwise, with `kept_share/<task>`, the share of
            synthetic pixels outside the padding that teach something: the same names for the pool; `real/<name>` and
            `synthetic/<name>` for kinds apart, weighted, so that their sum is the loss of `normalize_by`.

        Raises:
            ValueError: normalize_by='real' and no real sample in the batch; weights, and a head that takes none.
        """
        size = (int(inputs.shape[-2]), int(inputs.shape[-1]))
        created = [i for i, sample in enumerate(data_samples) if is_synthetic(sample)]
        if not created:
            samples = self.tasks.completed(data_samples, size, inputs.device)
            if stops_without_labels(self.exploiter, samples, self.tasks):
                pool = Kind('', torch.arange(len(samples), device=inputs.device), samples, 1.0)
                return losses_by_kind(self.exploiter, inputs, [pool], self.tasks)
            return self.exploiter.loss(inputs, samples)
        images = inputs if len(created) == len(inputs) else inputs[torch.tensor(created, device=inputs.device)]
        seen, seen_by_creator = self._seen(inputs, images, created)
        samples, own = list(data_samples), [data_samples[i] for i in created]
        teacher = self.creator if self.teachers is None else self.teachers.before(self.creator, images, own)
        edges = takes_edges(self.exploiter)
        taught, kept_shares = labelled(self.label_rule, teacher, seen_by_creator, own, self.tasks, size, edges)
        for i, sample in zip(created, taught, strict=True):
            samples[i] = sample
        if hasattr(self.exploiter, 'conditioned'):
            seen = self.exploiter.conditioned(seen, [each.metainfo for each in data_samples])
        samples = self.tasks.completed(samples, size, inputs.device)
        weighting = self.normalize_by, self.synthetic_weight, self.divide_by
        kinds = kinds_of(samples, *weighting, self.tasks, inputs.device)
        shares = {f'kept_share/{name}': share for name, share in kept_shares.items()}
        return {**losses_by_kind(self.exploiter, seen, kinds, self.tasks), **shares}

    @property
    def under_evaluation(self) -> Any:
        """The model that predicts."""
        return getattr(self, self._evaluate)

    @property
    def evaluate(self) -> str:
        """Which model predicts: 'creator' or 'exploiter'.

        Raises:
            ValueError: Set to another name.
        """
        return self._evaluate

    @evaluate.setter
    def evaluate(self, which: str) -> None:
        if which not in EVALUATED:
            raise ValueError(f'There is no model {which!r} to evaluate; known: {", ".join(EVALUATED)}.')
        self._evaluate = which

    @contextlib.contextmanager
    def evaluated(self, which: str) -> Iterator['SelfImprovingSegmentor']:
        """Within the context `which` predicts, 'creator' or 'exploiter'."""
        before = self.evaluate
        self.evaluate = which
        try:
            yield self
        finally:
            self.evaluate = before

    def predictor(self, data: dict) -> Callable[[str], list]:
        """'creator' or 'exploiter' → what `val_step` gives for a batch while that model is evaluated.

        Preprocessor and, in test mode 'whole', frozen features run once for both; data samples are copies.
        """
        data = self.data_preprocessor(data, False)
        if self.test_cfg.get('mode', 'whole') == 'whole' and not self.test_cfg.get('flip', False):
            data['inputs'] = self._frozen_features(data['inputs'])

        def predict(which: str) -> list:
            samples = [sample.new() for sample in data['data_samples']]
            with self.evaluated(which):
                return self._run_forward(data | dict(data_samples=samples), mode='predict')

        return predict

    def ema_tensors(self) -> EMATensors:
        """Tensors to average and to copy from θ_E to θ_C. Collect them anew after the model moved to another device."""
        return ema_tensors(self.creator, self.exploiter)

    def train(self, mode: bool = True) -> 'SelfImprovingSegmentor':
        """θ_C, and with it all that is shared, stays in eval mode; where it is already, nothing is walked through."""
        self.training = mode
        self.exploiter.train(mode)
        backbone = getattr(self.exploiter, 'backbone', None)
        shared = backbone.frozen_modules() if hasattr(backbone, 'frozen_modules') else []
        for module in (self.creator, self.data_preprocessor, *shared):
            if module.training:
                module.eval()
        return self

    def init_weights(self) -> None:
        """Initialise θ_E as it would be alone (same random numbers), then θ_C ← θ_E, then load `init_cfg`.

        With it a training begins, so teachers are loaded here; who only predicts needs none of their files.
        """
        if self.is_init:
            super().init_weights()  # warns that this is the second call
            return
        self.creator.is_init = True  # draws nothing: it becomes a copy
        pretrained, self.init_cfg = self.init_cfg, None
        super().init_weights()
        copy_exploiter(self.creator, self.exploiter)
        self.init_cfg = pretrained
        if pretrained is not None:
            initialize(self, pretrained)
        if self.teachers is not None:
            self.teachers.load()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        complete(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _seen(self, inputs: Any, images: Any, created: list[int]) -> tuple[Any, Any]:
        """Inputs of θ_E (all) and of θ_C (the `images` at `created`): frozen features where θ_C must predict."""
        if not self.label_rule.reads_outputs:
            return inputs, images
        seen = self._frozen_features(inputs)
        if not self.share_draws:
            return seen, self._frozen_features(images)
        return seen, seen if images is inputs else seen[torch.tensor(created, device=inputs.device)]

    def _frozen_features(self, inputs: Any) -> Any:
        """Features that both models compute alike, once; the images themselves if the backbone does not offer it."""
        backbone = getattr(self.exploiter, 'backbone', None)
        if not hasattr(backbone, 'frozen_features'):
            return inputs
        with torch.no_grad():
            return backbone.frozen_features(inputs)

    def _check_settings(self) -> None:
        for name, known in (('normalize_by', NORMALIZERS), ('divide_by', DIVISORS)):
            if getattr(self, name) not in known:
                raise ValueError(f'Unknown {name}={getattr(self, name)!r}; known: {", ".join(known)}.')
        check_weight(self.synthetic_weight, self.tasks)
        if self.init_cfg is not None and self.init_cfg.get('type') != 'Pretrained':
            raise ValueError(
                f"init_cfg={self.init_cfg}: expected None or dict(type='Pretrained', checkpoint=…). Initialise layers "
                'by the init_cfg of `segmentor`, so that θ_C starts as a copy of θ_E.'
            )
