"""Neighbours of a region: the pixels under its foot, beside it and over its head. P points; N places; K classes.

A place is the row and column of the foot: the lowest row of the region's box, the middle of its columns.
"""

from dataclasses import dataclass

import numpy as np

SIDES = ('below', 'beside', 'above')
FOOT = 0.25
"""A column's lowest pixel belongs to the foot if it lies in the lowest so much of the region; so does its highest to
the head."""


@dataclass(frozen=True)
class Outline:
    """Of a mask, (row, column) relative to the foot: its extreme pixels (P, 2), float, and one step outwards (P, 2)."""

    pixels: dict[str, np.ndarray]
    steps: dict[str, np.ndarray]

    @classmethod
    def of(cls, mask: np.ndarray) -> 'Outline':
        """Of a mask, bool (h, w), whose box is as small as it can be."""
        height, width = mask.shape
        columns, rows = np.arange(width), np.arange(height)
        low, high = height - 1 - mask[::-1].argmax(0), mask.argmax(0)
        filled = mask.any(0)
        foot = filled & (low >= (1 - FOOT) * height - 1)
        head = filled & (high <= FOOT * height)
        left, right = mask.argmax(1), width - 1 - mask[:, ::-1].argmax(1)
        beside = mask.any(1)
        pixels = dict(
            below=np.stack([low[foot], columns[foot]], 1),
            above=np.stack([high[head], columns[head]], 1),
            beside=np.concatenate(
                [np.stack([rows[beside], left[beside]], 1), np.stack([rows[beside], right[beside]], 1)]
            ),
        )
        steps = dict(
            below=np.broadcast_to([1, 0], pixels['below'].shape),
            above=np.broadcast_to([-1, 0], pixels['above'].shape),
            beside=np.repeat([[0, -1], [0, 1]], beside.sum(), axis=0),
        )
        origin = np.array([height - 1, (width - 1) / 2])
        return cls({side: pixels[side] - origin for side in SIDES}, steps)

    def contacts(self, classes: np.ndarray, places: np.ndarray, zooms: np.ndarray, num_classes: int) -> np.ndarray:
        """Shares of the classes on each side, (N, 3, K), of the region at `places` (N, 2), enlarged by `zooms` (N,).

        A side of which no class is known, such as one beyond the picture, has shares of 0.
        """
        height, width = classes.shape
        found = np.zeros((len(places), len(SIDES), num_classes))
        for at, side in enumerate(SIDES):
            points = np.round(places[:, None] + self.pixels[side] * zooms[:, None, None]) + self.steps[side]
            rows, columns = points[..., 0].astype(int), points[..., 1].astype(int)
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            seen = classes[rows.clip(0, height - 1), columns.clip(0, width - 1)].astype(int)
            known = inside & (seen < num_classes)
            place = np.broadcast_to(np.arange(len(places))[:, None], seen.shape)
            np.add.at(found[:, at], (place[known], seen[known]), 1)
        total = found.sum(-1, keepdims=True)
        return np.divide(found, total, out=found, where=total > 0)

    def mirrored(self) -> 'Outline':
        """Of the mirrored mask."""
        sign = np.array([1, -1])
        return Outline(
            {side: each * sign for side, each in self.pixels.items()},
            {side: each * sign for side, each in self.steps.items()},
        )
