"""Reads and checks everything that a study of a generator needs, before the long work starts."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from images.creation import CreationSettings, KeptImages
from mmengine.device import get_device

from mmdiff2in1.captions import read_captions
from mmdiff2in1.datasets.scenes import CLASSES
from mmdiff2in1.generators import LatentDiffusion, timestep_grid
from mmdiff2in1.inference import Diff2in1Inferencer

from .data import PARTS, Part, labelled_positions, labelled_settings, read_part, source_positions
from .network import image_features, load_network

LEVELS = (200, 400, 600, 800)
LABELLED, SUBSET_SEED = 60, 0
"""What the configs of Scenes train on; a config that is given decides."""


@dataclass(frozen=True)
class Study:
    """Everything that is needed, read and checked.

    `sources` are positions in `train`, the first `num_own` of them labelled; `labelled` are all labelled ones.
    `predict` and `featurize` are None where their flag is missing.
    """

    maker: KeptImages
    levels: tuple[int, ...]
    parts: dict[str, Part]
    seen: list[str]
    labelled: np.ndarray
    sources: np.ndarray
    predict: Callable[[np.ndarray], np.ndarray] | None
    featurize: Callable[[np.ndarray], np.ndarray] | None

    @property
    def num_own(self) -> int:
        return int(np.isin(self.sources, self.labelled).sum())


def prepare(args: argparse.Namespace) -> Study:
    """Reads all inputs.

    Raises FileNotFoundError or ValueError for what is missing or does not fit, before the long work.
    """
    parts = {name: read_part(args.data_root, name) for name in PARTS}
    seen = list(read_captions(args.data_root / 'unlabelled' / 'captions.jsonl').values())
    train = parts['train']
    if args.samples > len(train):
        raise ValueError(f'--samples {args.samples}, but train holds {len(train)} images; each is a source once')
    diffusion = LatentDiffusion.from_pretrained(args.diffusion).to(get_device())
    levels = (*LEVELS, diffusion.schedule.T_max)
    for T in levels:
        timestep_grid(T, args.num_calls, T_max=levels[-1])
    sizes = {part.images.shape[1:3] for part in parts.values()}
    if len(sizes) > 1 or any(side % diffusion.multiple for size in sizes for side in size):
        raise ValueError(f'images of {sizes}: expected one size, its sides multiples of {diffusion.multiple}')
    count, subset_seed = LABELLED, SUBSET_SEED
    judge = None
    if args.config is not None:
        judge = Diff2in1Inferencer(args.config, args.checkpoint)
        if tuple(judge.dataset_meta.get('classes', ())) != CLASSES:
            raise ValueError(f'{args.config}: a segmentor of {CLASSES} is needed, not {judge.dataset_meta}')
        judge(train.images[0])  # fails now, if it fails
        count, subset_seed = labelled_settings(judge.cfg)
    labelled = labelled_positions(
        args.data_root,
        train,
        count if args.num_labelled is None else args.num_labelled,
        subset_seed if args.subset_seed is None else args.subset_seed,
    )
    sources = source_positions(labelled, len(train), args.samples)
    if np.isin(sources, labelled).all():
        raise ValueError('every image of train is labelled: none is left to judge labels on; set --num-labelled')
    featurize = None
    if args.network is not None:
        featurize = partial(image_features, load_network(args.network).to(get_device()), batch_size=args.batch_size)
        featurize(train.images[:1])
    settings = CreationSettings(args.num_calls, args.guidance_scale, args.batch_size)
    return Study(
        KeptImages(diffusion, settings, args.cache),
        levels,
        parts,
        seen,
        labelled,
        sources,
        None if judge is None else lambda images: _maps(judge, images, args.batch_size),
        featurize,
    )


def _maps(judge: Diff2in1Inferencer, images: np.ndarray, batch_size: int) -> np.ndarray:
    return np.stack([seen.map for seen in judge(list(images), batch_size, progress=True)])
