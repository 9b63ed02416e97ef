"""From the config of a segmentor to θ_E, θ_C, tasks and label rule; what a config may get wrong is refused here."""

import copy
import logging
from typing import Any

from mmengine.config import ConfigDict
from mmengine.logging import print_log
from mmseg.models.segmentors import DepthEstimator
from mmseg.registry import TASK_UTILS
from torch import nn

from mmdiff2in1.tasks import Depth, SemanticSegmentation, TaskSet

from .head_kinds import gives_scores, heads_of
from .label_rules import GivenLabel, LabelRule, TeacherLabel
from .parameter_pairs import shared_names


def split_config(segmentor: Any, given: Any, merged: dict[str, Any]) -> tuple[ConfigDict, Any]:
    """(config of θ_E, the one data preprocessor); the caller's dicts stay as they are.

    Args:
        segmentor: Config of the whole segmentor.
        given: Data preprocessor of the wrapper, for a segmentor without its own. A runner gives the config's top-level
            one to every model that has none, and the segmentor's own must count then as it does without the wrapper.
        merged: What else stood in the config of the wrapper.

    Raises:
        TypeError: No segmentor, or keys of a base config's model beside it.
    """
    # mmseg's init_model sets these two to None in any model config.
    left = sorted(key for key, value in merged.items() if value is not None or key not in ('pretrained', 'train_cfg'))
    if left or not isinstance(segmentor, dict) or 'type' not in segmentor:
        found = f'also got {", ".join(left)}' if left else f'got segmentor={segmentor!r}'
        raise TypeError(
            f'SelfImprovingSegmentor takes the config of a whole segmentor as `segmentor`, but {found}. Keys of the '
            "base config's model are merged in unless it is replaced: write "
            "`model = dict(_delete_=True, type='SelfImprovingSegmentor', segmentor=_base_.model)`."
        )
    config = ConfigDict(copy.deepcopy(segmentor))  # mmseg reads test_cfg.mode, which a plain dict has not
    own = config.pop('data_preprocessor', None)
    if own is None:
        return config, given
    if given is not None and not (isinstance(given, dict) and dict(own) == dict(given)):
        print_log(
            f"The segmentor's own data preprocessor is used, {own}; the one beside it, or at the top level of the "
            f'config, is not, {given}.',
            logger='current',
            level=logging.WARNING,
        )
    return config, own


def twin(exploiter: Any) -> Any:
    """θ_C: a copy of θ_E that is never trained and shares the preprocessor and the backbone's `frozen_modules()`.

    Raises:
        ValueError: The backbone offers to share a parameter that is trained.
    """
    backbone = getattr(exploiter, 'backbone', None)
    frozen = list(backbone.frozen_modules()) if hasattr(backbone, 'frozen_modules') else []
    trained = [name for module in frozen for name, parameter in module.named_parameters() if parameter.requires_grad]
    if trained:
        raise ValueError(
            f'{type(backbone).__name__}.frozen_modules() offers {len(trained)} parameters that are trained, among them '
            f'{trained[0]!r}; expected frozen ones, which θ_C and θ_E can share. Set requires_grad=False on them, or '
            'leave their module out.'
        )
    creator = copy.deepcopy(exploiter, {id(module): module for module in (exploiter.data_preprocessor, *frozen)})
    if frozen:
        print_log(f'θ_C and θ_E share {len(shared_names(creator, exploiter))} tensors.', logger='current')
    return creator.requires_grad_(False).eval()


def build_tasks(tasks: Any, exploiter: Any) -> TaskSet:
    """The tasks of a config, or the segmentor's own, or semantic segmentation over the classes of the last decode head.

    mmseg's `DepthEstimator` predicts depth. A head of mmseg with one channel for foreground and background makes the
    task one of two classes, with the head's threshold; one that gives scores (`gives_scores`) makes it one of scores.

    Args:
        tasks: See `TaskSet`; None: what the segmentor says.
        exploiter: A segmentor.

    Raises:
        ValueError: The tasks have other channels than the decode head, a `DepthEstimator` is told of classes, or
            heads ignore different indices.
    """
    head = last_head(exploiter)
    own = getattr(exploiter, 'tasks', None)
    if tasks is None:
        if own is not None:
            return own
        if isinstance(exploiter, DepthEstimator):
            most = getattr(head, 'max_depth', None) or 10.0
            # 16 bits hold 65 metres in millimetres; outdoor sets (KITTI) have 256 units per metre.
            return TaskSet(Depth(most, units_per_metre=1000.0 if most <= 65 else 256.0))
        ignore_index = getattr(head, 'ignore_index', None)
        tasks = SemanticSegmentation(_classes(exploiter), 255 if ignore_index is None else ignore_index)
    built = TaskSet(tasks)
    if own is not None and repr(built) != repr(own):
        raise ValueError(f'The segmentor predicts {own!r}, the wrapper is told {built!r}. Leave its `task` out.')
    task = built.only if len(built) == 1 else None
    if own is None and isinstance(task, SemanticSegmentation):
        if isinstance(exploiter, DepthEstimator):
            raise ValueError(
                f'A DepthEstimator predicts depth, the wrapper is told {built!r}. Leave its `task` out, or give it '
                "dict(type='Depth', max_depth=…)."
            )
        if task.num_classes != _classes(exploiter) and not task.num_classes == exploiter.num_classes == 1:
            one = " (mmseg's one class and its background)" if exploiter.num_classes == 1 else ''
            raise ValueError(
                f'The task has {task.num_classes} classes, the decode head {_classes(exploiter)}{one}. Give both the '
                'same number, or leave `task` out.'
            )
        ignored = getattr(head, 'ignore_index', None)
        if ignored is not None and ignored != task.ignore_index:
            raise ValueError(
                f'The task ignores {task.ignore_index}, the decode head {ignored}. Give both the same, or leave `task` '
                'out.'
            )
        for name, each in heads_of(exploiter):
            other = getattr(each, 'ignore_index', None)
            if other is not None and other != task.ignore_index:
                raise ValueError(
                    f'{name} ignores {other}, the task {task.ignore_index}: what is not known in a created image would '
                    f'be a class for one of them. Set ignore_index={task.ignore_index} in {name}.'
                )
        if gives_scores(head):
            return TaskSet({next(iter(built)): _of_head(task, task.num_classes, scores=True)})
        if head.out_channels == 1 and task.threshold is None:
            return TaskSet({next(iter(built)): _of_head(task, 2, head.threshold)})
    elif own is None and built.channels != head.out_channels:
        raise ValueError(
            f'{built!r} has {built.channels} channels, the decode head puts out {head.out_channels}. Give both the '
            'same; for several tasks use a DenseEstimator with TaskHeads.'
        )
    return built


def build_rule(rule: dict | LabelRule | None, min_confidence: float | None, use_stored_labels: bool) -> LabelRule:
    """The rule of a config, or the one that the two short forms stand for.

    Raises:
        ValueError: More than one of them.
    """
    if (rule is not None) + (min_confidence is not None) + use_stored_labels > 1:
        raise ValueError(
            f'label_rule={rule}, min_confidence={min_confidence}, use_stored_labels={use_stored_labels}: each names a '
            'label rule (min_confidence filters pseudo labels, use_stored_labels=True asks for none); drop all but one.'
        )
    if use_stored_labels:
        return GivenLabel()
    if rule is None:
        return TeacherLabel(min_confidence)
    return rule if isinstance(rule, LabelRule) else TASK_UTILS.build(rule)


def last_head(segmentor: Any) -> Any:
    """The head that predicts: the last one of a cascade."""
    head = segmentor.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _of_head(
    task: SemanticSegmentation, count: int, threshold: float | None = None, scores: bool = False
) -> SemanticSegmentation:
    """The task of a config as the head has it: `count` classes, with names and colours of as many."""
    same = count == task.num_classes
    palette, classes = (task.palette, task.classes) if same else (None, None)
    pairs = () if threshold else task.mirrored_pairs
    return SemanticSegmentation(count, task.ignore_index, palette, threshold, pairs, classes, scores)


def _classes(exploiter: Any) -> int:
    """Number of classes, at least 2: one of mmseg's, foreground by `sigmoid > threshold`, is two for everybody else."""
    return max(2, exploiter.num_classes)
