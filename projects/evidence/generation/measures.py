"""What is measured of a generator: its losses, its distribution, what a noise level T costs, and what it buys.

N images of H × W pixels: uint8 RGB (N, H, W, 3); K classes. `created` maps T to the images that were created with it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from mmseg.evaluation.metrics import IoUMetric
from torch import Tensor
from tqdm import tqdm

from mmdiff2in1.core.images import to_model
from mmdiff2in1.datasets.scenes import CLASSES
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.pretraining.mean_squared_error import MeanSquaredError
from mmdiff2in1.pretraining.objectives import AutoencoderObjective, DenoisingObjective

from .metrics import frechet_distance, kernel_distance, quartiles, rmse_matrix

BINS = 10
HALVES = 50

Created = Mapping[int, np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]
"""Images → predicted classes (N, H, W)."""


@torch.no_grad()
def denoising_loss(diffusion: LatentDiffusion, images: np.ndarray, captions: Sequence[str], batch_size: int) -> dict:
    """The loss that the U-Net was trained with, with the images' captions and with empty ones, by timestep.

    Every image is noised once in each of ten equal ranges of timesteps. The noise depends on the shape of the batch
    alone: both kinds of caption see the same, and so does another generator at the same batch size.

    Returns:
        `bins`: `timesteps` [first, last], `captions`, `empty`; and `mean` over the bins.
    """
    objective = DenoisingObjective(diffusion).eval()
    at_once = max(1, batch_size // BINS)
    errors: dict[str, list[Tensor]] = {'captions': [], 'empty': []}
    for start in tqdm(range(0, len(images), at_once), desc='denoising loss', unit='batch'):
        latents = diffusion.encode(to_model(list(images[start : start + at_once])).to(diffusion.device))
        for kind, found in errors.items():
            texts = list(captions[start : start + at_once]) if kind == 'captions' else [''] * len(latents)
            ids = diffusion.text.token_ids(texts)
            # In this mode sample i of B is given the timestep (i + 1/2) T_max / B: one range after the other.
            samples = objective(latents.repeat(BINS, 1, 1, 1), ids.repeat(BINS, 1), mode='predict')
            found.append(torch.stack([sample['mse'] for sample in samples]).view(BINS, -1).cpu())
    by_bin = {kind: torch.cat(found, 1).mean(1).tolist() for kind, found in errors.items()}
    T_max = diffusion.schedule.T_max
    bins = [
        dict(timesteps=[i * T_max // BINS, (i + 1) * T_max // BINS - 1], **{kind: by_bin[kind][i] for kind in by_bin})
        for i in range(BINS)
    ]
    return dict(images=len(images), bins=bins, mean={kind: float(np.mean(values)) for kind, values in by_bin.items()})


@torch.no_grad()
def reconstruction(diffusion: LatentDiffusion, images: np.ndarray, batch_size: int) -> dict:
    """`mse` in units of the 0 … 1 range and `psnr` in dB of what the autoencoder gives back."""
    objective = AutoencoderObjective(diffusion.vae).eval()
    samples: list[dict] = []
    for start in tqdm(range(0, len(images), batch_size), desc='autoencoder', unit='batch'):
        samples += objective(to_model(list(images[start : start + batch_size])).to(diffusion.device), mode='predict')
    metric = MeanSquaredError(psnr=True)
    metric.process({}, samples)
    return dict(images=len(images), **metric.compute_metrics(metric.results))


def distribution(created: Created, sources: np.ndarray, unseen: np.ndarray, seed: int) -> dict:
    """FID and KID of created images against real ones that are neither their sources nor known to the generator.

    Args:
        created: T → features (N, D).
        sources: Features of the sources: the floor, what real images in the place of the created ones score.
        unseen: Features (M, D) of other real images.
        seed: Of the random halves.

    Returns:
        `fid` and `kid` of the floor and of each T; `halves`: mean and standard deviation over random halves of all
        real images, what chance alone makes of two sets of that size.
    """
    real, rng = np.concatenate([sources, unseen]), np.random.default_rng(seed)
    drawn = []
    for _ in tqdm(range(HALVES), desc='random halves of the real images', unit='draw'):
        one, other = np.array_split(real[rng.permutation(len(real))], 2)
        drawn.append((frechet_distance(one, other), kernel_distance(one, other)))
    halves = dict(draws=HALVES, images=[len(real) // 2] * 2)
    for name, values in zip(('fid', 'kid'), np.transpose(drawn), strict=True):
        halves[name] = dict(mean=float(values.mean()), std=float(values.std(ddof=1)))
    rows = [
        dict(T=T, fid=frechet_distance(found, unseen), kid=kernel_distance(found, unseen))
        for T, found in ((None, sources), *created.items())
    ]
    return dict(
        note='FID is biased upwards at such numbers of images, alike in all rows: compare KID; '
        'neither is on the scale of those with Inception features',
        images=len(sources),
        against=len(unseen),
        floor={name: value for name, value in rows[0].items() if name != 'T'},
        created=rows[1:],
        halves=halves,
    )


def label_cost(created: Created, sources: np.ndarray, labels: np.ndarray, predict: Predict) -> dict:
    """How well what is seen in a created image agrees with the true label of its source, in percent IoU.

    `real` is the same score on the sources themselves: all below it, T has cost.
    """
    rows = {T: agreement(predict(images), labels) for T, images in created.items()}
    return dict(
        note='at the last T nothing of the source is left but its caption: chance',
        images=len(sources),
        real=agreement(predict(sources), labels),
        created=[dict(T=T, **row) for T, row in rows.items()],
    )


def agreement(predicted: np.ndarray, labels: np.ndarray) -> dict:
    """`mIoU` and `IoU` by class in percent over all pixels of (N, H, W) maps; None: a class that is in neither."""
    areas = IoUMetric.intersect_and_union(
        torch.from_numpy(predicted).long(), torch.from_numpy(labels).long(), len(CLASSES), 255
    )
    iou = 100 * IoUMetric.total_area_to_metrics(*areas)['IoU'].astype(float)
    return dict(
        mIoU=float(np.nanmean(iou)),
        IoU={name: None if np.isnan(value) else float(value) for name, value in zip(CLASSES, iou, strict=True)},
    )


def novelty(created: Created, own: np.ndarray, labelled: np.ndarray, new: np.ndarray, root_mean_square=True) -> dict:
    """How far created images lie from the nearest labelled image, beside how far new real images do.

    Args:
        created: T → images created from labelled sources, or features of them.
        own: Position in `labelled` of each created image's source.
        labelled: The labelled images.
        new: Real images without a label.
        root_mean_square: Distances of images, in grey levels; False: Euclidean distances of features.

    Returns:
        Quartiles of the distance to the nearest labelled image and to the own source, and the share of images whose
        nearest labelled image is their own source.
    """
    scale = 1.0 if root_mean_square else labelled.shape[1] ** 0.5
    rows = []
    for T, images in created.items():
        distances = scale * rmse_matrix(images, labelled)
        to_own = distances[np.arange(len(own)), own]
        rows.append(
            dict(
                T=T,
                nearest_labelled=quartiles(distances.min(1)),
                own_source=quartiles(to_own),
                own_source_is_nearest=float(np.mean(distances.argmin(1) == own)),
            )
        )
    return dict(
        images=len(own),
        labelled=len(labelled),
        created=rows,
        new_real=dict(images=len(new), nearest_labelled=quartiles(scale * rmse_matrix(new, labelled).min(1))),
    )
