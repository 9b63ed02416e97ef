"""ObjectPaste: labelled things cut by their true masks and pasted into other labelled images."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from mmseg.registry import TASK_UTILS

from .base import Composed, LabelledSample, LabelledSamples, Layout
from .context import Context, Example, example_of, foot_of
from .draws import Draws
from .objects import Region, cut, hidden_share, regions_of
from .pasting import Canvas, enlarged, faded, feet_of, mirrored, paste, recoloured, visible
from .placing import corner, find_places
from .things import class_name, learned_things, named_things

REDRAWS = ('seam', 'surroundings', 'all')
TRIES = 6
"""Things of a class that are tried before another class is drawn."""
HIDDEN = 0.08
"""A thing of whose outline more lies behind others is not cut out: its shape is not known."""


@TASK_UTILS.register_module()
class ObjectPaste(Layout):
    """Connected things of other images, classes drawn evenly, put where things of their class occur.

    Each image gets `objects` of them. Where distances are known the nearer wins, pixel by pixel, and the zoom of a
    thing is what its new distance asks for. The labels of all tasks are composed as the image is; the caption gets the
    names of what was pasted in addition. A place where things of that class do not occur is not taken: an image in
    which nothing fits stays as it is.

    Args:
        objects: Lowest and highest number per image.
        classes: Names or indices of the classes that are pasted; None: those that are things, see `learned_things`.
        mirror: Probability that a thing is mirrored.
        zoom: Lowest and highest enlargement.
        smallest: Smallest thing that is cut out, as a share of its image.
        covered: Of the pixels that a thing covers, at most so many are of other things.
        seen: At least so much of a thing must be seen.
        feather: Pixels over which its image fades in, 0: hard edges.
        recolour: Probability that a thing gets any other hue, and 0.7 … 1.3 times its light and its saturation: for
            things that come in any colour.
        redraw: What a generator may redraw if `stages.synthesis.T` is not 0: the `seam`, a ring around what was pasted;
            the `surroundings`, everything but what was pasted; or `all`.
        seam: Pixels of that ring on each side of the edge.

    Raises:
        ValueError: A setting out of its range.
    """

    def __init__(
        self,
        objects: tuple[int, int] = (1, 3),
        classes: Sequence[str | int] | None = None,
        mirror: float = 0.5,
        zoom: tuple[float, float] = (0.5, 1.6),
        smallest: float = 0.0008,
        covered: float = 0.25,
        seen: float = 0.6,
        feather: float = 1.0,
        redraw: str = 'seam',
        seam: int = 2,
        recolour: float = 0.0,
    ) -> None:
        if not 1 <= objects[0] <= objects[1]:
            raise ValueError(f'layout.objects={tuple(objects)}: expected the lowest and the highest number, from 1 on')
        if not 0 < zoom[0] <= 1 <= zoom[1]:
            raise ValueError(f'layout.zoom={tuple(zoom)}: expected a number in (0, 1] and one from 1 on')
        for name, share in dict(
            mirror=mirror, smallest=smallest, covered=covered, seen=seen, recolour=recolour
        ).items():
            if not 0 <= share <= 1:
                raise ValueError(f'layout.{name}={share}: expected a share, 0 … 1')
        for name, pixels in dict(feather=feather, seam=seam).items():
            if pixels < 0:
                raise ValueError(f'layout.{name}={pixels}: expected pixels, 0 or more')
        if redraw not in REDRAWS:
            raise ValueError(f'unknown layout.redraw={redraw!r}; known: {", ".join(REDRAWS)}')
        self.objects, self.zoom = (int(objects[0]), int(objects[1])), (float(zoom[0]), float(zoom[1]))
        self.classes = None if classes is None else list(classes)
        self.mirror, self.smallest, self.covered, self.seen = map(float, (mirror, smallest, covered, seen))
        self.feather, self.redraw, self.seam, self.recolour = float(feather), redraw, int(seam), float(recolour)

    @property
    def settings(self) -> dict[str, Any]:
        """See `Layout`."""
        own = {name: list(each) if isinstance(each, tuple) else each for name, each in vars(self).items()}
        return dict(type=type(self).__name__, version=self.version, **own)

    def study(self, samples: LabelledSamples) -> 'Paster':
        """Paster that knows what can be cut out of the samples, and where it occurs.

        Raises:
            ValueError: Unknown `classes`, or no whole thing in any sample.
        """
        regions = [region for name in samples for region in self._regions(samples, name)]
        areas = samples.areas
        if self.classes is None:
            things = learned_things(regions, areas.num_classes)
        else:
            things = named_things(self.classes, areas)
        whole: dict[int, list[Region]] = defaultdict(list)
        examples: dict[int, list[Example]] = defaultdict(list)
        for region in regions:
            if region.label not in things or not region.cuttable:
                continue
            sample = samples[region.sample]
            if hidden_share(sample, region, samples.tasks, frozenset(things)) <= HIDDEN:
                whole[region.label].append(region)
                examples[region.label].append(example_of(region, sample.classes, areas.num_classes))
        if not whole:
            found = ', '.join(class_name(each, areas) for each in things) or 'none'
            raise ValueError(
                f'ObjectPaste found no whole thing in {len(samples)} labelled images; classes of things: {found}. Name '
                'classes with layout=dict(type="ObjectPaste", classes=[…]), lower smallest, or label more images'
            )
        return Paster(
            self, samples, frozenset(things), dict(sorted(whole.items())), Context(examples, areas.num_classes)
        )

    def _regions(self, samples: LabelledSamples, name: str) -> list[Region]:
        sample = samples[name]
        return regions_of(sample, samples.areas, max(4, round(self.smallest * sample.classes.size)))


@dataclass(frozen=True)
class Paster:
    """`ObjectPaste` with what it has learned: `things`, classes; `whole`, by class what can be cut out; `context`."""

    layout: ObjectPaste
    samples: LabelledSamples
    things: frozenset[int]
    whole: Mapping[int, Sequence[Region]]
    context: Context

    def compose(self, name: str, seed: int) -> Composed:
        """See `Composer`."""
        sample, draws = self._sample(name), Draws('layout', name, seed)
        canvas = Canvas(
            sample.image, sample.labels, sample.classes, feet_of(sample.classes, self.things),
            np.zeros(sample.classes.shape, bool),
        )  # fmt: skip
        pasted: list[dict[str, Any]] = []
        for _ in range(draws.integer(*self.layout.objects)):
            found = self._one_more(canvas, name, draws)
            if found is not None:
                canvas = found[0]
                pasted.append(found[1])
        caption = ', '.join([text for text in (sample.caption, *(facts['class'] for facts in pasted)) if text])
        redraw = self._redraw(canvas.pasted)
        return Composed(sample.image, canvas.image, canvas.labels, caption, pasted, redraw)

    def _sample(self, name: str) -> LabelledSample:
        """The sample with a map of every task; one that it lacks says nothing."""
        sample = self.samples[name]
        unknown = {
            task: kind.unknown(sample.classes.shape)
            for task, kind in self.samples.tasks.items()
            if task not in sample.labels
        }
        return replace(sample, labels={**sample.labels, **unknown}) if unknown else sample

    def _one_more(self, canvas: Canvas, name: str, draws: Draws) -> tuple[Canvas, dict[str, Any]] | None:
        """The canvas with one thing more, and what that is: of the class that is drawn, or if none of its fits, of
        another one; None: nothing fits."""
        for label in draws.shuffled(list(self.whole)):
            for _ in range(TRIES):
                region = draws.one_of(self.whole[label])
                found = self._pasted(canvas, region, draws) if region.sample != name else None
                if found is not None:
                    return found
        return None

    def _pasted(self, canvas: Canvas, region: Region, draws: Draws) -> tuple[Canvas, dict[str, Any]] | None:
        """The canvas with that region, and what was done with it; None: it fits nowhere."""
        tasks, areas, layout = self.samples.tasks, self.samples.areas, self.layout
        origin = self._sample(region.sample)
        piece = cut(origin, region)
        flipped = draws.share() < layout.mirror
        if flipped:
            piece = mirrored(piece, tasks, areas)
        colours = self._colours(draws)
        if colours:
            piece = recoloured(piece, colours)
        (row, column), (rows, columns) = foot_of(region.box), origin.classes.shape
        home = (row + 1) / rows, (columns - 1 - column if flipped else column) / columns
        for place in find_places(canvas, piece, region.label, home, self.context, layout.zoom, tasks, draws):
            large = enlarged(piece, place.zoom, tasks, areas)
            at = corner(large, place, canvas.classes.shape)
            if at is None:
                continue
            (top, left), (height, width) = at, large.mask.shape
            seen = visible(canvas, large, top, left, tasks, self.things)
            under = canvas.feet[top : top + height, left : left + width][seen] >= 0
            if seen.sum() < max(4, layout.seen * large.mask.sum()) or under.mean() > layout.covered:
                continue
            facts = dict(
                source=region.sample, box=list(region.box), first=list(region.first), mirrored=flipped,
                zoom=place.zoom, at=[top, left, height, width], label=region.label, **colours,
            )  # fmt: skip
            facts['class'] = class_name(region.label, areas)
            return paste(canvas, large, seen, top, left, layout.feather), facts
        return None

    def _colours(self, draws: Draws) -> dict[str, float]:
        """What `recolour` makes of the next thing; nothing: it stays as it is."""
        if not self.layout.recolour or draws.share() >= self.layout.recolour:
            return {}
        hue, brightness, saturation = draws.shares(3).tolist()
        return dict(hue=360 * hue - 180, brightness=0.7 + 0.6 * brightness, saturation=0.7 + 0.6 * saturation)

    def _redraw(self, pasted: np.ndarray) -> np.ndarray:
        """See `Composed.redraw`."""
        if self.layout.redraw == 'all':
            return np.ones(pasted.shape, np.float32)
        kernel = np.ones((2 * self.layout.seam + 1,) * 2, np.uint8)
        mask = pasted.astype(np.uint8)
        inner = cv2.erode(mask, kernel, borderValue=1) > 0
        if self.layout.redraw == 'surroundings':
            return faded(~inner, self.layout.feather)
        ring = (cv2.dilate(mask, kernel, borderValue=0) > 0) & ~inner
        return faded(ring, self.layout.feather)
