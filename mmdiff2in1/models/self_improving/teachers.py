"""Teachers: trained models that label created images in θ_C's place; never trained, averaged or stored.

S created images; C channels of an output; H, W the padded crop, h, w an image of it without its padding.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from mmseg.structures import SegDataSample
from torch import Tensor

from mmdiff2in1.core.randomness import kept_randomness
from mmdiff2in1.tasks import TaskSet

from ..image_region import image_region
from ..predicting import outputs_of
from .label_rules.teacher_settings import CREATOR, TeacherSettings
from .trained_teacher import Teacher


class Teachers:
    """The teachers of a `TeacherSettings`, loaded when they are first needed, on the device of the images.

    No `nn.Module`: what holds one has its tensors neither in its state dict nor in its optimizer.

    Args:
        settings: Who looks, and in how many views.
        tasks: What the student predicts.
        classes: The student's class names, where they are known.
    """

    def __init__(self, settings: TeacherSettings, tasks: TaskSet, classes: Sequence[str] | None = None) -> None:
        self.settings, self.tasks, self.classes = settings, tasks, classes
        self._loaded: list[Teacher] | None = None

    def load(self) -> list[Teacher]:
        """All but θ_C, once; the random numbers of the caller stay what they were.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: No such files, or a teacher that does not fit the student.
        """
        if self._loaded is None:
            with kept_randomness():
                found = [Teacher.load(**each) for each in self.settings.teachers if isinstance(each, Mapping)]
            for teacher in found:
                teacher.check(self.tasks, self.classes)
            self._loaded = found
        return self._loaded

    def mark(self) -> str:
        """Identity of the labels they give: a hash of all weights, and of how the images are seen.

        Raises:
            ValueError: θ_C is one of them, whose labels change with every step.
        """
        if self.settings.asks_creator:
            raise ValueError("teacher names 'creator': θ_C changes as it learns, and can label per step only")
        seen = [teacher.mark() for teacher in self.load()]
        text = repr((seen, self.settings.mirrored, self.settings.scales, self.tasks))
        return hashlib.sha256(text.encode()).hexdigest()

    def before(self, creator: Any, images: Tensor, samples: Sequence) -> 'TeachersBefore':
        """The teachers in front of the images of one batch.

        Args:
            creator: θ_C, with the student's data preprocessor.
            images: (S, 3, H, W) as that preprocessor leaves them.
            samples: Their S samples.

        Raises:
            TypeError: Features in the place of images.
        """
        if not isinstance(images, Tensor):
            raise TypeError(
                f'a teacher looks at images, found {type(images).__name__}: features that were computed before show it '
                'nothing. Give `loss` the images, or let θ_C label in one view (teacher=None)'
            )
        pixels = to_pixels(images, creator.data_preprocessor)
        height, width = images.shape[-2:]
        metas = [sample.metainfo for sample in samples]
        return TeachersBefore(self, creator, pixels, [image_region(meta, (height, width)) for meta in metas])

    def outputs(self, pixels: Tensor, metas: Sequence[Mapping], creator: Any = None, plain: Tensor | None = None):
        """Their mean output (S, C, h, w), float32, of equally large images.

        Args:
            pixels: (S, 3, h, w) in 0 … 255, channels as a pipeline loads them (BGR).
            metas: Metainfo of the images; shapes in it are not looked at.
            creator: θ_C, if it is one of them.
            plain: What that puts out, where it is known, (S, C, h, w).
        """
        found = []
        for teacher in self._all(creator, pixels.device):
            for scale in self.settings.scales:
                for mirrored in (False, True)[: 1 + self.settings.mirrored]:
                    if teacher.segmentor is creator and plain is not None and scale == 1 and not mirrored:
                        found.append(plain)
                    else:
                        found.append(self._seen(teacher, pixels, metas, scale, mirrored))
        return self.tasks.mean_output(found)

    def _all(self, creator: Any, device: torch.device) -> list[Teacher]:
        loaded = iter(self.load())
        for teacher in self.load():
            teacher.to(device)
        return [Teacher(creator, self.tasks) if each == CREATOR else next(loaded) for each in self.settings.teachers]

    def _seen(self, teacher: Teacher, pixels: Tensor, metas: Sequence[Mapping], scale: float, mirrored: bool) -> Tensor:
        """A teacher's output for one view of the images, brought back to the images themselves."""
        height, width = pixels.shape[-2:]
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        view = pixels if size == (height, width) else F.interpolate(pixels, size, mode='bilinear', antialias=scale < 1)
        view = view.flip(-1) if mirrored else view
        shapes = dict(ori_shape=size, img_shape=size, pad_shape=size)
        known = [{key: meta[key] for key in ('category_id', 'img_path') if key in meta} for meta in metas]
        samples = [SegDataSample(metainfo=shapes | each) for each in known]
        try:
            seen = outputs_of(teacher.segmentor, list(view), samples)
        except AssertionError as error:  # of a backbone that takes some sizes only
            of_it = f'scale {scale} of {height} × {width}: {error}'
            raise ValueError(f'a teacher cannot see images of {size[0]} × {size[1]} pixels, {of_it}') from error
        output = teacher.output_for(self.tasks, torch.cat(seen))
        output = self.tasks.flip_output(output) if mirrored else output
        return output if size == (height, width) else self.tasks.resize_output(output, (height, width))


@dataclass
class TeachersBefore:
    """Teachers in front of one batch: answers like a segmentor that is shown it.

    Attributes:
        teachers: Who looks.
        creator: θ_C.
        pixels: (S, 3, H, W), see `to_pixels`.
        regions: Rows and columns of each image in the padded input.
    """

    teachers: Teachers
    creator: Any
    pixels: Tensor
    regions: list[tuple[slice, slice]]

    def encode_decode(self, inputs: Any, batch_img_metas: Sequence[dict]) -> Tensor:
        """The mean output (S, C, H, W); 0 in the padding, which is shown to nobody but θ_C.

        Args:
            inputs: What θ_C takes for these images: themselves, or frozen features of them.
            batch_img_metas: Their metainfo.
        """
        asks_creator = self.teachers.settings.asks_creator
        plain = self.creator.encode_decode(inputs, batch_img_metas).float() if asks_creator else None
        places = defaultdict(list)
        for place, (rows, columns) in enumerate(self.regions):
            places[rows.start, rows.stop, columns.start, columns.stop].append(place)
        whole = None
        for own in places.values():
            cut = self.regions[own[0]]
            found = self.teachers.outputs(
                self.pixels[own][..., *cut],
                [batch_img_metas[place] for place in own],
                self.creator,
                None if plain is None else plain[own][..., *cut],
            )
            if whole is None:
                whole = found.new_zeros(len(self.regions), found.shape[1], *self.pixels.shape[-2:])
            whole[own, :, *cut] = found
        return whole


def to_pixels(images: Tensor, preprocessor: Any) -> Tensor:
    """Images (S, 3, H, W) as a data preprocessor leaves them → 0 … 255, channels as the pipeline had loaded them.

    Raises:
        TypeError: A preprocessor whose normalisation is not known.
    """
    if not isinstance(preprocessor, ImgDataPreprocessor):
        raise TypeError(
            f"the student's data preprocessor is a {type(preprocessor).__name__}; expected a SegDataPreProcessor, "
            'whose mean and std say how its images become pixels for a teacher'
        )
    pixels = images.float()
    if preprocessor._enable_normalize:
        pixels = pixels * preprocessor.std.to(pixels.device) + preprocessor.mean.to(pixels.device)
    if preprocessor._channel_conversion:
        pixels = pixels.flip(1)
    return pixels.clamp(0, 255)
