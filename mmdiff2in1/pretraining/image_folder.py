"""Images of a folder with optional captions, held in memory, for training a diffusion model from scratch."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import all_gather, barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from mmdiff2in1.captions.lookup import image_key
from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.folders import IMAGE_SUFFIXES
from mmdiff2in1.core.images import read_image
from mmdiff2in1.core.photos import photos_below
from mmdiff2in1.generators.latent_diffusion import LatentDiffusion


class ImageCaptionFolder(Dataset):
    """Images below a folder, resized (short side) and cropped in the middle to one size.

    Args:
        folder: Searched recursively; masks beside the images are left out, see `photos_below`.
        size: (H, W) in pixels.
        captions: Name relative to ``folder`` → caption; None: empty captions.
        names: Of the images, relative to ``folder`` or whole; None: all that are in it.

    Raises:
        FileNotFoundError: No folder, or no image in it.
        ValueError: An image cannot be read, or has no caption.
    """

    def __init__(
        self,
        folder: str | Path,
        size: tuple[int, int],
        captions: Mapping[str, str] | None = None,
        names: Sequence[str] | None = None,
    ):
        self.folder, self.size = Path(folder), size
        if not self.folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such folder of images')
        self.names = photos_below(self.folder) if names is None else list(names)
        if not self.names:
            raise FileNotFoundError(f'{folder}: no images ({", ".join(IMAGE_SUFFIXES)}) in it')
        keys = [image_key(name) for name in self.names]
        missing = [] if captions is None else [key for key in keys if key not in captions]
        if missing:
            raise ValueError(
                f'no caption for {len(missing)} of the {len(self.names)} images in {folder}, first {missing[0]}; '
                f'{len(captions)} captions were given'
            )
        self.captions = [(captions or {}).get(key, '') for key in keys]
        with ThreadPoolExecutor() as pool:
            self.images = torch.from_numpy(np.stack(list(pool.map(self._read, self.names))))

    def _read(self, name: str) -> np.ndarray:
        height, width = self.size
        image = Image.fromarray(read_image(self.folder / name))
        resized, top, left = framed((image.height, image.width), self.size)
        image = image.resize(resized[::-1], Image.Resampling.LANCZOS)
        return np.asarray(image.crop((left, top, left + width, top + height))).transpose(2, 0, 1)

    def digest(self) -> str:
        """SHA-256 of all pixels and captions."""
        found = hashlib.sha256(self.images.numpy().tobytes())
        found.update('\n'.join(self.captions).encode())
        return found.hexdigest()

    def __len__(self) -> int:
        return 2 * len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        """``images``: (3, H, W) float in [-1, 1]; ``captions``: its text. The second half are the mirrored images."""
        flipped, number = divmod(index, len(self.names))
        image = self.images[number].float().div(127.5).sub(1)
        return {'images': image.flip(-1) if flipped else image, 'captions': self.captions[number]}


def framed(native: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
    """How an image of (H, W) `native` comes to `size`: the (H, W) it is resized to, and the corner of the crop."""
    scale = max(wanted / side for wanted, side in zip(size, native, strict=True))
    height, width = (max(wanted, round(side * scale)) for wanted, side in zip(size, native, strict=True))
    return (height, width), (height - size[0]) // 2, (width - size[1]) // 2


class LatentCaptions(Dataset):
    """Latents and token ids of an :class:`ImageCaptionFolder`, encoded once (both flips): the VAE is frozen.

    The VAE's scaling factor is set so that the latents have a standard deviation of one. In a process group each
    process encodes its share. With a file, a training that is resumed reads the latents instead of encoding anew.

    Args:
        folder: The images.
        diffusion: Encodes them; its scaling factor is replaced.
        batch_size: Images encoded at a time.
        keep_scale: The scaling factor stays: the denoiser has been trained on it.
        file: Where the latents are kept (safetensors). Those of other images or another VAE are replaced.
        digest: Of the images, as :meth:`ImageCaptionFolder.digest` gives it; needed with ``file``.
    """

    def __init__(
        self,
        folder: ImageCaptionFolder,
        diffusion: LatentDiffusion,
        batch_size: int = 64,
        keep_scale: bool = False,
        file: Path | None = None,
        digest: str = '',
    ):
        self.token_ids = diffusion.text.token_ids(folder.captions).cpu()
        if file is None:
            self.latents = self._encoded(folder, diffusion, batch_size)
        else:
            self.latents = self._kept(file, digest, folder, diffusion, batch_size)
        if not keep_scale:
            diffusion.vae.register_to_config(scaling_factor=round(1 / float(self.latents.float().std()), 5))
        self.latents = diffusion.scaled(self.latents)

    @classmethod
    def _kept(
        cls, file: Path, digest: str, folder: ImageCaptionFolder, diffusion: LatentDiffusion, batch_size: int
    ) -> Tensor:
        """Those of the file, if they are of these images and this VAE; else encoded, and written there."""
        weights = hashlib.sha256(digest.encode())
        for name, value in sorted(diffusion.vae.state_dict().items()):
            weights.update(name.encode() + value.float().cpu().numpy().tobytes())
        if file.is_file():
            with safe_open(file, 'pt') as kept:
                if (kept.metadata() or {}).get('of') == weights.hexdigest():
                    print_log(f'latents of {file}', 'current')
                    return kept.get_tensor('latents')
        barrier()  # nobody writes before everybody has looked
        latents = cls._encoded(folder, diffusion, batch_size)
        if is_main_process():
            write_atomically(file, save(dict(latents=latents), metadata=dict(of=weights.hexdigest())))
        return latents

    @staticmethod
    def _encoded(folder: ImageCaptionFolder, diffusion: LatentDiffusion, batch_size: int) -> Tensor:
        """(2 · images, c, h, w) in float16, unscaled."""
        rank, world_size = get_rank(), get_world_size()
        share = -(-len(folder) // world_size)
        # The last shares wrap around, so that all are of one length and can be gathered.
        own = [(rank * share + i) % len(folder) for i in range(share)]
        chunks = [own[i : i + batch_size] for i in range(0, share, batch_size)]
        with torch.no_grad():
            encoded = torch.cat(
                [
                    diffusion.encode(
                        torch.stack([folder[i]['images'] for i in chunk]).to(diffusion.device), scale=False
                    ).half()
                    for chunk in tqdm(chunks, desc='encoding', unit='batch', disable=rank > 0)
                ]
            )
        return torch.cat(all_gather(encoded))[: len(folder)].cpu()

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``latents``: (c, h, w); ``token_ids``: (L,). The second half are the mirrored images."""
        return {'latents': self.latents[index].float(), 'token_ids': self.token_ids[index % len(self.token_ids)]}
