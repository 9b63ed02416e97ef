"""A teacher labels the images of a store: once each, resumable, shared by processes that never wait for each other.

S images of a batch; K classes; H, W image size.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from tqdm import tqdm

from mmdiff2in1.core.images import image_size, read_image
from mmdiff2in1.models.self_improving import Label, TeacherLabel, Teachers
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.tasks import DenseTask, TaskSet
from mmdiff2in1.tasks.soft_classes import TOPK_OF, as_file, to_topk


@dataclass(frozen=True)
class Labelling:
    """Settings of a labelling: the rule that labels, and what it labels.

    Attributes:
        rule: With teachers of its own; its views, confidence, softness and temperature count.
        tasks: What is labelled.
        classes: The student's class names, where they are known.
        topk: k, classes per pixel of a soft label; their probabilities have 16 bits, the others share what is left.

    Raises:
        ValueError: A rule that labels by θ_C, which learns, or over a whole batch; probabilities that no file keeps.
    """

    rule: TeacherLabel
    tasks: TaskSet
    classes: Sequence[str] | None = None
    topk: int = 4

    def __post_init__(self) -> None:
        if self.rule.teachers is None or self.rule.teachers.asks_creator:
            raise ValueError(
                'labels that are kept need a teacher that stays what it is: teacher=dict(config=…, checkpoint=…), or '
                'several; θ_C labels in every step anew (label_rule)'
            )
        if self.rule.balanced:
            raise ValueError(
                'balanced=True looks at all pixels of a training batch, which is not known when labels are written: '
                'label in every step (label_rule), or leave it out'
            )
        self.rule.check(self.tasks)
        others = [name for name, task in self.tasks.items() if task.num_classes and task.field != TOPK_OF]
        if self.rule.soft and others:
            raise ValueError(
                'soft=True: a store keeps the probabilities of semantic segmentation alone, not those of '
                f'{", ".join(others)}; label in every step (label_rule), or with soft=False'
            )
        if self.rule.soft and any(getattr(task, 'mirrored_pairs', ()) for task in self.tasks.values()):
            raise ValueError(
                'soft=True, and classes that change places in a mirror: a pipeline would mirror a kept label wrongly; '
                'label in every step (label_rule), or with soft=False'
            )

    @cached_property
    def teachers(self) -> Teachers:
        """Loaded when they are first asked."""
        return Teachers(self.rule.teachers, self.tasks, self.classes)

    @cached_property
    def mark(self) -> str:
        """Identity of the labels, 16 digits: of the teachers' weights and of all settings."""
        settings = (self.rule.min_confidence, self.rule.soft, self.rule.temperature, self.rule.soft and self.topk)
        return hashlib.sha256(repr((self.teachers.mark(), settings)).encode()).hexdigest()[:16]

    def maps(self, pixels: Tensor) -> list[dict[str, np.ndarray]]:
        """The content of the label files of images (S, 3, H, W) in 0 … 255, BGR, by task."""
        outputs = self.tasks.split(self.teachers.outputs(pixels, [{}] * len(pixels)))
        labels = self.rule.label({}, outputs, self.tasks)
        return [
            {name: self._written(self.tasks[name], label, i) for name, label in labels.items()}
            for i in range(len(pixels))
        ]

    def _written(self, task: DenseTask, label: Label, index: int) -> np.ndarray:
        target = label.target[index]
        if self.rule.soft and task.num_classes:
            return as_file(to_topk(target, self.topk))
        return task.encode(task.to_map(target))


@torch.no_grad()
def label_store(
    store: SampleStore,
    labelling: Labelling,
    *,
    batch_size: int = 8,
    device: str | None = None,
    replace: bool = False,
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> SampleStore:
    """Writes a teacher's labels of all samples of a store that do not have them yet; returns the store.

    A sample keeps the labels of its own that it has (those of a pasted layout, which are true): only tasks without one
    are labelled. The teacher sees the stored image at its own size, through its own data preprocessor, once per scale
    and side of the rule; its test pipeline is not asked. Killed at any moment, a run loses at most the image in hand.
    Process `rank` of `world_size` takes every world_size-th sample and waits for nobody.

    Training reads the labels with `labels='stored'` of `SyntheticSampleDataset` and the rule `GivenLabel`, through the
    pipeline, geometry included; colours change after the teacher has looked.

    Args:
        store: With the samples.
        labelling: Who labels, and as what.
        batch_size: Images per forward pass.
        device: 'cpu', 'cuda:0' …; None: the GPU of this process if there is one.
        replace: Labels of another teacher, or of other settings, are written anew; else they are an error.
        progress: Show a bar with the time that is left.

    Raises:
        FileNotFoundError: No store, or a teacher's files are not there.
        ValueError: Labels of another teacher in the store, damaged samples, or a teacher that does not fit.
    """
    records, mark, names = store.records(), labelling.mark, list(labelling.tasks)
    others = [each['sample_id'] for each in records if _by_another(each, names, mark)]
    if others and not replace:
        raise ValueError(
            f'{store.folder} holds labels of another teacher, or of other settings, for {len(others)} of '
            f'{len(records)} samples, first {others[0]}; ask for them to be replaced '
            '(stages.labelling.replace=True), or use another folder of samples'
        )
    share = records[rank::world_size]
    todo = [record for record in share if not is_labelled(record, names, mark, store)]
    print_log(f'{store.folder}: {len(todo)} of {len(share)} samples are to be labelled (teacher {mark})', 'current')
    store.check_whole(todo)
    writer = SampleStore(store.folder, rank) if world_size > 1 else store
    where = device or (f'cuda:{rank % torch.cuda.device_count()}' if torch.cuda.is_available() else 'cpu')
    bar = tqdm(total=len(share), initial=len(share) - len(todo), desc='labelling', unit='img', disable=not progress)
    with SampleStore(store.folder, rank).writing('labelling samples'), bar:
        for batch in _batches(todo, store, batch_size):
            images = np.stack([read_image(store.image(each)) for each in batch])
            # BGR, as pipelines load images.
            pixels = torch.from_numpy(images[..., ::-1].copy()).permute(0, 3, 1, 2).float().to(where)
            for record, maps in zip(batch, labelling.maps(pixels), strict=True):
                writer.label(record, {name: maps[name] for name in names if not _own(record, name)}, mark)
                bar.update()
        if todo and all(is_labelled(record, names, mark, store) for record in store.records()):
            store.merge([record['sample_id'] for record in records])
    return store


def is_labelled(record: dict, names: Sequence[str], mark: str, store: SampleStore) -> bool:
    """True if a sample has a label of each task, its own or of just this teacher, and its files are there."""
    labels = record.get('labels', {})
    return all(_own(record, name) or labels.get(name, {}).get('by') == mark for name in names) and store.is_whole(
        record
    )


def _own(record: dict, name: str) -> bool:
    label = record.get('labels', {}).get(name)
    return label is not None and 'by' not in label


def _by_another(record: dict, names: Sequence[str], mark: str) -> bool:
    found = [record.get('labels', {}).get(name, {}).get('by') for name in names]
    return any(by not in (None, mark) for by in found)


def _batches(records: Sequence[dict], store: SampleStore, batch_size: int) -> Iterator[list[dict]]:
    """Images of one size, at most `batch_size` at a time."""
    by_size = defaultdict(list)
    for record in records:
        by_size[image_size(store.image(record))].append(record)
    for group in by_size.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]
