"""TaskSet: what is predicted, all of it; a single task is a set of one.

B samples; C_k channels of task k, C their sum; H, W: image size.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.registry import TASK_UTILS
from torch import Tensor

from .base import DenseTask


class TaskSet(Mapping[str, DenseTask]):
    """Dense tasks by name, in a fixed order. Immutable.

    A model of several tasks puts out their outputs one behind the other, (B, C, H, W), so whatever handles an output of
    mmseg (windows, mirrored means, resizing of logits) handles all of them; `split` gives them their names.

    Args:
        tasks: A task or its TASK_UTILS config, several of them, or names with them: `dict(depth=dict(type='Depth'))`.
            Without a name a task has its own.

    Raises:
        ValueError: No task, an unknown one, two of one name, or two that read or write the same field of a sample.
        TypeError: Something else than tasks or configs.
    """

    def __init__(self, tasks: 'DenseTask | Mapping[str, Any] | Sequence[Any]') -> None:
        if isinstance(tasks, DenseTask) or (isinstance(tasks, Mapping) and 'type' in tasks):
            tasks = [tasks]
        if isinstance(tasks, Mapping):
            named = [(name, built_task(task)) for name, task in tasks.items()]
        else:
            built = [built_task(task) for task in tasks]
            named = [(task.name, task) for task in built]
        for what, keys in (('name', [n for n, _ in named]), ('field', [task.field for _, task in named])):
            if len(set(keys)) < len(keys):
                raise ValueError(f'two tasks have the same {what}: found {", ".join(keys)}; expected one task for each')
        for name, _ in named:
            if 'loss' in name or not name.replace('_', '').replace('-', '').isalnum():
                raise ValueError(
                    f'a task cannot be called {name!r}: expected letters and digits, and no "loss" in them'
                )
        if not named:
            raise ValueError('a task set holds no tasks; name at least one')
        self._tasks = dict(named)

    def __getitem__(self, name: str) -> DenseTask:
        if name not in self._tasks:
            raise KeyError(f'no task {name!r}; known: {", ".join(self._tasks)}')
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f'TaskSet({self._tasks!r})'

    @property
    def only(self) -> DenseTask:
        """The task of a set of one.

        Raises:
            ValueError: There are several.
        """
        if len(self) > 1:
            raise ValueError(f'one task was expected, found {", ".join(self)}; name the one that is meant')
        return next(iter(self._tasks.values()))

    @property
    def channels(self) -> int:
        """C."""
        return sum(task.channels for task in self.values())

    def split(self, output: Tensor) -> dict[str, Tensor]:
        """Output (B, C, ...) of a model → (B, C_k, ...) by task.

        Raises:
            ValueError: Another number of channels.
        """
        if output.shape[1] != self.channels:
            wanted = ' + '.join(f'{task.channels} ({name})' for name, task in self.items())
            raise ValueError(
                f'the model gave an output of shape {tuple(output.shape)}, expected {self.channels} channels = '
                f'{wanted}; tasks and decode head must agree'
            )
        parts = output.split([task.channels for task in self.values()], dim=1)
        return dict(zip(self, parts, strict=True))

    def flip_output(self, output: Tensor) -> Tensor:
        """Output (B, C, H, W) for the horizontally mirrored images, each task as it wants it."""
        return torch.cat([self[name].flip_output(part) for name, part in self.split(output).items()], dim=1)

    def resize_output(self, output: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
        """Output (B, C, H, W) at another size; also puts means of outputs in order."""
        parts = self.split(output).items()
        return torch.cat([self[name].resize_output(part, size, align_corners) for name, part in parts], dim=1)

    def mean_output(self, outputs: Sequence[Tensor]) -> Tensor:
        """Mean of several outputs (B, C, H, W) of the same images, as each task defines it; of one, itself."""
        if len(outputs) == 1:
            return outputs[0]
        parts = [self.split(output) for output in outputs]
        return torch.cat([task.mean_output([part[name] for part in parts]) for name, task in self.items()], dim=1)

    def targets(
        self, samples: Sequence, size: tuple[int, int], device: torch.device | None = None
    ) -> dict[str, Tensor]:
        """Ground truth (B, c, H, W) by task; what a sample does not have says nothing."""
        return {name: stacked_targets(task, samples, size, device) for name, task in self.items()}

    def completed(self, samples: Sequence, size: tuple[int, int], device: torch.device | None = None) -> list:
        """Samples that all have all fields: in the place of a missing one a target that says nothing, in a copy."""
        complete = []
        for sample in samples:
            missing = [task for task in self.values() if task.field not in sample]
            if missing:
                fields = {task.field: PixelData(data=task.unknown_target(size, device)) for task in missing}
                sample = sample.new()
                sample.set_data(fields)
            complete.append(sample)
        return complete


def stacked_targets(
    task: DenseTask, samples: Sequence, size: tuple[int, int] | None = None, device: torch.device | None = None
) -> Tensor:
    """Ground truth (B, c, H, W) of one task in its own type.

    If a sample holds probabilities of classes (K, H, W), which label rules may give: (B, K, H, W), floating point, the
    classes of the others being sure, all zero where nothing is known.

    Args:
        task: Whose field is read.
        samples: B samples; one without the field says nothing.
        size: (H, W) of the targets that say nothing; None: that of the others.
        device: Of the result; None: that of the others, or the CPU.

    Raises:
        ValueError: No sample has the field and no size is given.
    """
    found = [sample.get(task.field) for sample in samples]
    known = next((each.data for each in found if each is not None), None)
    if known is None and size is None:
        raise ValueError(
            f'none of the {len(samples)} samples has {task.field}, and no size is known to fill it with what says '
            f"nothing; the pipeline needs dict(type='LoadDenseAnnotation', task=…) and dict(type='PackDenseInputs')"
        )
    size = tuple(known.shape[-2:]) if size is None else size
    device = device or (known.device if known is not None else None)
    maps = [task.unknown_target(size, device) if each is None else each.data.to(device) for each in found]
    if task.num_classes and any(len(each) != task.target_channels for each in maps):
        return torch.stack([_probabilities(task, each) for each in maps])
    return torch.stack([each.to(task.target_dtype) for each in maps])


def _probabilities(task: DenseTask, target: Tensor) -> Tensor:
    """(K, H, W) of classes (1, H, W), 0 where they are not known; probabilities as they are."""
    if len(target) != task.target_channels:
        return target
    valid = task.valid(target[None])[0]
    sure = F.one_hot(target[0].where(valid[0], 0).long(), task.num_classes).movedim(-1, 0)
    return sure.where(valid, 0).float()


def built_task(task: Any) -> DenseTask:
    """A task, or that of a config.

    Raises:
        ValueError: No task of that name.
        TypeError: Something else than a task or a config.
    """
    kind = task.get('type') if isinstance(task, Mapping) else None
    if isinstance(kind, str) and TASK_UTILS.get(kind) is None:
        tasks = (each for each in TASK_UTILS.module_dict.values() if isinstance(each, type))
        known = ', '.join(sorted(each.__name__ for each in tasks if issubclass(each, DenseTask)))
        raise ValueError(
            f'found the task {kind!r}, expected one of {known}; correct its name, or name its module in custom_imports'
        )
    built = TASK_UTILS.build(task) if isinstance(task, Mapping) else task
    if not isinstance(built, DenseTask):
        raise TypeError(f'found {task!r}, expected a DenseTask or the config of one, e.g. dict(type="Depth")')
    return built
