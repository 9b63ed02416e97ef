"""Stable Diffusion 1.5 at its full size, random weights: its file and its folder are the same model."""

import gc

import pytest
import torch
from ldm_names import ldm_names
from safetensors.torch import save_file

from mmdiff2in1.generators import LatentDiffusion


def stable_diffusion_1() -> LatentDiffusion:
    """The published architecture, in half precision to spare memory."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    try:
        return LatentDiffusion.from_config(dict(architecture='stable-diffusion-1.5'))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_file_and_folder_give_the_same_features(tmp_path):
    """Needs 8 GB of memory, 4 GB of disk, and a minute of one core."""
    made = stable_diffusion_1()
    counts = [sum(p.numel() for p in part.parameters()) for part in (made.unet, made.vae, made.text)]
    assert counts == [859_520_964, 83_653_863, 123_060_480]  # those of the published model
    save_file({name: value.half().contiguous() for name, value in ldm_names(made).items()}, tmp_path / 'sd.safetensors')
    made.save_folder(tmp_path / 'folder', torch.float16)
    del made
    shown = []
    for name in ('sd.safetensors', 'folder'):
        gc.collect()
        model = LatentDiffusion.from_pretrained(tmp_path / name)
        with torch.no_grad():
            z = model.encode(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64), scale=False)
            tokens = model.encode_text(['a red ball on a chair'])
            taps = ('out.1', 'out.4', 'out.7', 'out.11')
            features = model.features(z, torch.tensor([1]), tokens, taps=taps, map_levels=(1, 2))
        shown.append([z, tokens, *(features.taps[tap] for tap in taps), *features.maps.values()])
        del model
    assert [tensor.shape[1] for tensor in shown[0][2:6]] == [1280, 1280, 640, 320]
    assert all(torch.equal(a, b) for a, b in zip(*shown, strict=True))
