"""Diff2in1Inferencer: image → map, and prompt or image → new image with its map, from a config and a checkpoint.

B images; H, W in pixels; C channels of the logits. θ_C is `creator`, θ_E `exploiter`.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import init_default_scope
from mmengine.utils import import_modules_from_strings
from mmseg.registry import MODELS
from torch import nn
from tqdm import tqdm

from mmdiff2in1.core.building import building
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.images import from_model, to_model
from mmdiff2in1.datasets.dataset_meta import dataset_meta_of, zero_is_ignored
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.models.self_improving.construction import last_head

from .generation import (
    Generation,
    GenerationSettings,
    Request,
    diffusion_for,
    requests_from_images,
    requests_from_prompts,
    settings_for,
)
from .hub import find_model_folder
from .image_files import Images, iterate_images, read_images
from .model_card import Claims
from .model_folder import read_model_folder, write_model_folder
from .onnx_file import OnnxFile, write_onnx
from .perception import (
    Perception,
    array_pipeline,
    batches_of_equals,
    category_index,
    logits_of,
    perceived,
    perceptions,
    tasks_of,
)
from .perceptions import Perceptions

EVALUATED = ('creator', 'exploiter')
SOLVING = ('T', 'num_calls', 'grid', 'solver', 'guidance_scale')


class Diff2in1Inferencer:
    """One trained model for both jobs: `inferencer(images)` perceives, `inferencer.generate(...)` creates.

        inferencer = Diff2in1Inferencer('vpd_scenes', 'iter_600.pth')
        inferencer('room.png').save('map.png')
        for made in inferencer.generate('a green table in a room', seeds=range(4)):
            print(made.image.shape, made.map.shape, made.calls)

    Args:
        config: Path of a config, or a config: of a `SelfImprovingSegmentor` or of any mmseg segmentor.
        checkpoint: A checkpoint of either, see `load_weights`; None leaves the weights as the config builds them.
        model: θ_C, `creator`, which is the one that ships, or θ_E, `exploiter`. Only a self-improving config has both.
        device: 'cpu', 'cuda:0' …; None: a GPU if there is one.
        diffusion: Diffusers folder to create with; None: the backbone's own diffusion model, and for a segmentor
            without one `stages.synthesis.diffusion` of the config. Loaded when it is first needed.

    Attributes:
        segmentor: The mmseg segmentor that predicts.
        tasks: What it predicts (`mmdiff2in1.tasks.TaskSet`).
        dataset_meta: `classes` and `palette`, from the checkpoint or else from the config's test set.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: No checkpoint, a damaged one, or one that does not fit; an unknown
            model, or `exploiter` asked of a config that has one model.
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path | None = None,
        model: str = 'creator',
        device: str | torch.device | None = None,
        diffusion: str | Path | None = None,
    ) -> None:
        if model not in EVALUATED:
            raise ValueError(f'there is no model {model!r}; known: {", ".join(EVALUATED)}')
        self.cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
        if self.cfg.get('custom_imports'):
            import_modules_from_strings(**self.cfg.custom_imports)
        init_default_scope(self.cfg.get('default_scope') or 'mmseg')
        self._diffusion_folder = diffusion
        with warnings.catch_warnings():
            # Of mmseg's losses, with which nothing is computed here.
            warnings.filterwarnings('ignore', 'Default ``avg_non_ignore`` is False', UserWarning)
            whole = _build(self.cfg)
        two_models = hasattr(whole, 'evaluated')
        if model == 'exploiter' and not two_models:
            raise ValueError(
                f'model={model!r} was asked for, but the config holds one {type(whole).__name__}; leave `model` out, '
                'or use the self-improving config'
            )
        meta: dict[str, Any] = {}
        if checkpoint is None:
            print_log('no checkpoint: the weights are those that the config builds, untrained', 'current')
        else:
            meta = load_weights(whole, checkpoint, model)
        self.segmentor = getattr(whole, model) if two_models else whole
        self.segmentor.to(device or ('cuda' if torch.cuda.is_available() else 'cpu')).eval()
        self.dataset_meta = meta.get('dataset_meta') or dataset_meta_of(self.cfg)
        asked = self.dataset_meta.get('reduce_zero_label')  # mmseg's data sets say so in a checkpoint
        self._zero_is_ignored = zero_is_ignored(self.cfg) if asked is None else bool(asked)
        self.tasks = tasks_of(self.segmentor, self.dataset_meta, getattr(whole, 'tasks', None))
        self._pipeline = array_pipeline(self.cfg)

    def __repr__(self) -> str:
        size = sum(each.numel() for each in self.segmentor.parameters()) / 1e6
        what = f'{type(self.segmentor).__name__}, {size:.1f} M parameters; sees {", ".join(self.tasks)}'
        return f'{type(self).__name__}({what})'

    @classmethod
    def from_pretrained(
        cls,
        place: str | Path,
        device: str | torch.device | None = None,
        diffusion: str | Path | None = None,
    ) -> 'Diff2in1Inferencer':
        """A trained model of a folder. Nothing in the folder is run.

            model = Diff2in1.from_pretrained('builtin:scenes')
            model('room.png').save('map.png')

        Args:
            place: A folder that `save_pretrained` or `mmdiff2in1 export --folder` wrote; `builtin:NAME`, which comes
                with the package; `OWNER/NAME` of the Hugging Face hub.
            device: See the class.
            diffusion: See the class; and the diffusion model that the backbone reads, for a model that needs one which
                is not in its folder. Its card says so.

        Raises:
            FileNotFoundError, ValueError, RuntimeError: No such folder, a file of it is missing, damaged, does not fit,
                or names what could run code.
        """
        cfg, weights = read_model_folder(find_model_folder(place), diffusion)
        return cls(cfg, weights, device=device, diffusion=diffusion)

    def save_pretrained(self, folder: str | Path, claims: Claims | None = None, half: bool = False) -> Path:
        """Writes the model as a folder that `from_pretrained` reads, see `write_model_folder`; returns its path."""
        folder = Path(folder).expanduser()
        meta = {**self.dataset_meta, 'reduce_zero_label': self._zero_is_ignored}
        write_model_folder(folder, self.cfg, self.segmentor, self.tasks, meta, claims or Claims(), half)
        return folder

    def save_onnx(self, path: str | Path, size: tuple[int, int] | None = None, free_size: bool = False) -> OnnxFile:
        """Writes the perceiving side as an ONNX file, see `write_onnx`; the model must be on the CPU."""
        return write_onnx(
            Path(path).expanduser(), self.segmentor, self.tasks, self.dataset_meta, size, free_size=free_size
        )

    def __call__(
        self, images: Images, batch_size: int = 8, progress: bool = False, category: str | int | None = None
    ) -> Perceptions:
        """The maps that the model sees in each image, in the order of the images.

        Each image goes through the config's test pipeline (its resizing included), as in a test; the map is brought
        back to the image's own size. Images of one size are predicted together.

        Args:
            images: A file, a folder, an array, a Pillow image, or a sequence of those, see `read_images`.
            batch_size: Images per forward pass.
            progress: Show a bar.
            category: What kind of scene the images show, name or index, for models that must be told (VPD's depth).

        Raises:
            FileNotFoundError, ValueError, TypeError: Images that cannot be read, before the model runs.
        """
        category_id = category_index(self.segmentor, self.dataset_meta, category)
        pictures = read_images(images)
        results: dict[int, Perception] = {}
        with tqdm(total=len(pictures), desc='perceiving', unit='img', disable=not progress) as bar:
            for batch in batches_of_equals([picture.image.shape for picture in pictures], batch_size):
                chosen = [pictures[i] for i in batch]
                seen = perceptions(
                    self.segmentor, self.tasks, self._pipeline, chosen, batch_size, category_id, self._zero_is_ignored
                )
                results |= zip(batch, seen, strict=True)
                bar.update(len(batch))
        return Perceptions(results[i] for i in range(len(pictures)))

    def iterate(self, images: Images, batch_size: int = 8, category: str | int | None = None) -> Iterator[Perception]:
        """As a call, one result after the other in the order of the images: for more of them than the memory holds.

        Neighbours of one size are predicted together, and files are read when it is their turn. Arguments and errors
        are those of a call.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size is {batch_size}, expected 1 or more')
        category_id = category_index(self.segmentor, self.dataset_meta, category)
        pictures = iterate_images(images)
        return perceptions(
            self.segmentor, self.tasks, self._pipeline, pictures, batch_size, category_id, self._zero_is_ignored
        )

    @torch.no_grad()
    def generate(
        self,
        prompts: str | Sequence[str] | None = None,
        images: Images | None = None,
        captions: str | Sequence[str] | None = None,
        *,
        seeds: int | Sequence[int] = 0,
        T: int | None = None,
        num_calls: int | None = None,
        grid: str | None = None,
        solver: str | None = None,
        guidance_scale: float | None = None,
        size: int | Sequence[int] | None = None,
        batch_size: int = 8,
        progress: bool = False,
        category: str | int | None = None,
    ) -> list[Generation]:
        """New images with their maps: from prompts out of pure noise, or from images by partial noise and denoising.

        The map of a created image comes from its final latent where the decode head can read that
        (`GenerativeDecodeHead`) and the backbone's own diffusion model created it, and from its pixels otherwise.

        Args:
            prompts: A sentence, or several.
            images: To vary; any form that `read_images` takes.
            captions: One for all images or one each; None: '', no caption. The caption that describes an image keeps
                its content; another one changes it.
            seeds: Of the initial noise, on which a sample depends alone: one per prompt or image, or several for a
                single one. An integer is the seed of the first; the next have the next.
            T: Noise level, 1 … T_max: how much of an image is re-invented. With prompts T_max, the default.
            num_calls, grid, solver, guidance_scale: See `LatentDiffusion.create`.
            size: Shorter side or (H, W); rounded to what the model can encode. None: the config's, else the image's
                own or the one the U-Net was trained at.
            batch_size: Images per call. The same call with the same batches is bit-identical.
            progress: Show a bar.
            category: As for perception.

        Where T, num_calls, grid, solver, guidance_scale or size is None, `stages.synthesis` of the config counts, see
        `settings_for`.

        Raises:
            ValueError: Both or none of prompts and images, an empty prompt, impossible settings, captions or seeds that
                do not fit in number; and what `read_images` raises, before anything is created.
        """
        if (prompts is None) == (images is None):
            raise ValueError('give either prompts or images: prompts start from pure noise, images are varied')
        category_id = category_index(self.segmentor, self.dataset_meta, category)
        given = dict(T=T, num_calls=num_calls, grid=grid, solver=solver, guidance_scale=guidance_scale, size=size)
        pictures = None if images is None else read_images(images)
        settings = settings_for(self.cfg, pictures is not None, self.diffusion.T_max, **given)
        if pictures is None:
            prompts = [prompts] if isinstance(prompts, str) else list(prompts)
            requests = requests_from_prompts(prompts, seeds, settings, self.diffusion)
        else:
            requests = requests_from_images(pictures, captions, seeds, settings, self.diffusion.multiple)
        results: dict[int, Generation] = {}
        with tqdm(total=len(requests), desc='creating', unit='img', disable=not progress) as bar:
            for batch in batches_of_equals([request.size for request in requests], batch_size):
                results |= zip(batch, self._create([requests[i] for i in batch], settings, category_id), strict=True)
                bar.update(len(batch))
        return [results[i] for i in range(len(requests))]

    @cached_property
    def diffusion(self) -> LatentDiffusion:
        """The diffusion model that creates, see `diffusion_for`."""
        return diffusion_for(self.segmentor, self.cfg, self._diffusion_folder)

    def _create(
        self, requests: list[Request], settings: GenerationSettings, category_id: int | None
    ) -> Iterator[Generation]:
        """Requests of one size in one call."""
        backbone, head, size = self.segmentor.backbone, last_head(self.segmentor), requests[0].size
        # Latents of another autoencoder mean nothing to this model.
        reads_latents = hasattr(head, 'predict_created') and getattr(backbone, 'diffusion', None) is self.diffusion
        # VPD's depth head counts on padding that created images have not; it sees their pixels in its windows.
        reads_latents = reads_latents and not any(getattr(head, 'fmap_border', ()))
        reads_last_call = reads_latents and head.created == 'released'
        creation = self.diffusion.create(
            None if requests[0].source is None else to_model([request.source for request in requests]),
            captions=[request.caption for request in requests],
            seeds=[request.seed for request in requests],
            size=size,
            record=backbone.wanted() if reads_last_call else None,
            **{name: getattr(settings, name) for name in SOLVING},
        )
        images = from_model(creation.images)
        if reads_latents:
            metas = [dict(ori_shape=size, img_shape=size, pad_shape=size, category_id=category_id) for _ in requests]
            logits = head.predict_created(self.segmentor, creation, metas).float().split(1)
        else:
            logits = logits_of(self.segmentor, self._pipeline, list(images), category_id)
        for request, image, one in zip(requests, images, logits, strict=True):
            yield Generation(
                image=image,
                maps=perceived(self.tasks, one, self._zero_is_ignored),
                caption=request.caption,
                seed=request.seed,
                source=request.source,
                path=request.path,
                calls=creation.calls,
                perception_calls=0 if reads_last_call else 1,
                **{name: getattr(settings, name) for name in SOLVING},
            )


def _build(cfg: Config) -> nn.Module:
    if cfg.get('data_preprocessor'):  # the runner does so as well
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with building(cfg.model, 'model'):
        return MODELS.build(cfg.model)
