"""Losses of real and synthetic samples, apart, from one forward pass over the whole batch.

B samples in the batch. Only the loss functions see the kinds apart: batch normalisation and its collectives across
processes run over the whole batch, so processes may hold different numbers of synthetic samples.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from torch import Tensor, nn

from mmdiff2in1.tasks import TaskSet

from ..segmentors import DenoisingEncoderDecoder, DenseEstimator, SceneConditionedEstimator
from .head_kinds import heads_of, keeps_loss, minds_ignored
from .ignored_pixels import left_out
from .kinds import Kind, is_synthetic
from .nothing_known import known_samples, losses_of_known
from .taking import take
from .weighted_losses import is_soft, losses_of_head


def losses_by_kind(segmentor: Any, inputs: Any, kinds: list[Kind], tasks: TaskSet) -> dict[str, Any]:
    """`<kind>/<mmseg's name>` → loss times the kind's weight; entries that are no loss (accuracies) are not weighted.

    In a pool the names are mmseg's, and so are the losses where no pixel has a weight: those of the plain segmentor on
    these samples, bit for bit, whatever head it has. Where a loss of mmseg counts ignored pixels, those of created
    samples are left out, see `left_out`.

    Heads that keep mmseg's `loss` (forward, then loss_by_feat) run once on the batch. A head with a `loss` of its own
    (PointRend, Mask2Former) is called once per kind on that kind's features, a segmentor with a `loss` of its own
    (DepthEstimator) once per kind on that kind's inputs: their number of forward passes follows the batch, so with
    synchronised batch normalisation every process must hold the same kinds (an exact mix). Samples of which nothing is
    known are left out of losses that would make something of them, see `losses_of_known`.

    Raises:
        ValueError: A divisor, or weights or probabilities of a label rule, for a head or segmentor with a `loss` of
            its own.
    """
    batch_size = sum(len(kind.samples) for kind in kinds)
    found: list[dict[str, Any]] = [{} for _ in kinds]
    if not _keeps_mmseg_loss(segmentor):
        for kind, losses in zip(kinds, found, strict=True):
            _refuse_weights(segmentor, kind, tasks)

            def of_segmentor(own: list, positions: list[int] | None, index: Tensor = kind.index) -> dict[str, Any]:
                index = index if positions is None else index[positions]
                with left_out(segmentor, own):
                    return segmentor.loss(inputs if len(own) == batch_size else inputs[index], own)

            of_kind = losses_of_known(segmentor, kind.samples, tasks, of_segmentor)
            losses.update(_by_task(segmentor, of_kind, kind.task_weights, tasks))
    else:
        features = segmentor.extract_feat(inputs)
        for prefix, head, arguments in _head_calls(segmentor, features):
            once = keeps_loss(head)
            outputs = head.forward(*arguments) if once else None
            for kind, losses in zip(kinds, found, strict=True):
                if once:
                    own_outputs = take(outputs, kind.index, batch_size)
                    of_head = losses_of_head(head, own_outputs, kind.samples, tasks, kind.divide_by)
                else:
                    _refuse_weights(head, kind, tasks)
                    own_loss = partial(_own_loss, head, arguments, kind.index, batch_size, segmentor.train_cfg)
                    of_head = losses_of_known(head, kind.samples, tasks, own_loss)
                of_head = _by_task(head, of_head, kind.task_weights, tasks)
                losses.update({f'{prefix}.{name}': value for name, value in of_head.items()})
        for kind, losses in zip(kinds, found, strict=True):
            real = [i for i, sample in enumerate(kind.samples) if not is_synthetic(sample)]
            if real and isinstance(segmentor, DenoisingEncoderDecoder):
                own_inputs = inputs if len(real) == batch_size else inputs[kind.index[real]]
                losses.update(segmentor.denoising_loss(own_inputs, [kind.samples[i] for i in real]))
    weighted: dict[str, Any] = {}
    for kind, losses in zip(kinds, found, strict=True):
        prefix = f'{kind.name}/' if kind.name else ''
        weighted.update({prefix + name: _weighted(name, value, kind.weight) for name, value in losses.items()})
    return weighted


def stops_without_labels(segmentor: Any, samples: list, tasks: TaskSet) -> bool:
    """True if mmseg's own loss of these samples would stop, leave the graph or be no number, as nothing is known.

    Args:
        segmentor: θ_E.
        samples: Of a batch, all real.
        tasks: What is predicted.
    """
    own = not _keeps_mmseg_loss(segmentor)
    modules = [segmentor] if own else [head for _, head in heads_of(segmentor)]
    if not any(minds_ignored(module) for module in modules):
        return False
    return not any(known_samples(samples, tasks))


def _own_loss(
    head: Any, arguments: tuple, index: Tensor, batch_size: int, train_cfg: Any, samples: list,
    positions: list[int] | None,
) -> dict[str, Any]:  # fmt: skip
    index = index if positions is None else index[positions]
    with left_out(head, samples):
        return head.loss(*take(arguments, index, batch_size), samples, train_cfg)


def _refuse_weights(module: Any, kind: Kind, tasks: TaskSet) -> None:
    if any(is_soft(kind.samples, task) for task in tasks.values()):
        raise ValueError(
            f'{type(module).__name__} has a loss of its own, which knows no probabilities of classes; choose a label '
            'rule with hard labels (soft=False)'
        )
    weighted = any(task.weight_field in sample for task in tasks.values() for sample in kind.samples)
    if kind.divide_by != 'loss' or weighted:
        raise ValueError(
            f'{type(module).__name__} has a loss of its own, so pixels cannot be weighted; choose a label rule without '
            "weights, synthetic_weight=1 where normalize_by='pooled', and divide_by='loss', found "
            f'divide_by={kind.divide_by!r}'
        )


def _by_task(module: Any, losses: dict[str, Any], weights: Mapping[str, float], tasks: TaskSet) -> dict[str, Any]:
    """Losses times the weights of their tasks.

    Args:
        module: The head, or a segmentor with a `loss` of its own.
        losses: What it gave; of a head of several tasks `<task>.<name>`.
        weights: By task; of others 1.
        tasks: What is predicted.

    Raises:
        ValueError: One loss of several tasks.
    """
    if not weights:
        return losses
    if len(tasks) > 1 and hasattr(module, 'tasks') and all(name.split('.')[0] in tasks for name in losses):
        owners = {name: name.split('.')[0] for name in losses}
    else:
        field = module.task.field if hasattr(module, 'task') else 'gt_sem_seg'
        candidates = [name for name, task in tasks.items() if len(tasks) == 1 or task.field == field]
        if not candidates or len(tasks) > 1 and not isinstance(module, BaseDecodeHead):
            raise ValueError(
                f'{type(module).__name__} has losses of {", ".join(tasks)} in one; synthetic_weight must be one number '
                f'for all of them, found {dict(weights)}'
            )
        owners = dict.fromkeys(losses, candidates[0])
    return {name: _weighted(name, value, weights.get(owners[name], 1.0)) for name, value in losses.items()}


def _keeps_mmseg_loss(segmentor: Any) -> bool:
    def kept(name: str, *owners: type) -> bool:
        return getattr(type(segmentor), name, None) in [getattr(owner, name) for owner in owners]

    return (
        kept('loss', EncoderDecoder, DenoisingEncoderDecoder, DenseEstimator, SceneConditionedEstimator)
        and kept('_auxiliary_head_forward_train', EncoderDecoder)
        and kept('_decode_head_forward_train', EncoderDecoder, CascadeEncoderDecoder)
    )


def _head_calls(segmentor: Any, features: Any) -> Iterator[tuple[str, Any, tuple]]:
    """(prefix of the losses, head, arguments of its forward) in mmseg's order."""
    if isinstance(segmentor, CascadeEncoderDecoder):
        yield 'decode_0', segmentor.decode_head[0], (features,)
        previous: tuple = ()
        for stage in range(1, segmentor.num_stages):
            # mmseg runs a stage a second time for the next one. So do we: a process whose batch is all real goes
            # through mmseg's loss, and both must meet in the same collectives.
            previous = (segmentor.decode_head[stage - 1].forward(features, *previous),)
            yield f'decode_{stage}', segmentor.decode_head[stage], (features, *previous)
    else:
        yield 'decode', segmentor.decode_head, (features,)
    if segmentor.with_auxiliary_head:
        if isinstance(segmentor.auxiliary_head, nn.ModuleList):
            for i, head in enumerate(segmentor.auxiliary_head):
                yield f'aux_{i}', head, (features,)
        else:
            yield 'aux', segmentor.auxiliary_head, (features,)


def _weighted(name: str, value: Any, weight: float) -> Any:
    if 'loss' not in name:  # mmengine's rule for what is summed and differentiated
        return value
    return [part * weight for part in value] if isinstance(value, (list, tuple)) else value * weight
