"""Stand-ins of the clones that `benchmark.py peers` is given: modules with the names and signatures of theirs.

What they compute comes from the independent references of the tests; no line is of those repositories.
"""

from pathlib import Path

VPD = {
    'vpd/__init__.py': 'from .models import TextAdapter, UNetWrapper\n',
    'vpd/models.py': """
import torch
from omegaconf import OmegaConf
from timm.models.layers import DropPath
from transformers.models.clip.modeling_clip import CLIPTextTransformer, _expand_mask
from tests_reference import vpd_features


class TextAdapter(torch.nn.Module):
    def __init__(self, text_dim):
        super().__init__()
        self.fc = torch.nn.Sequential(
            torch.nn.Linear(text_dim, text_dim), torch.nn.GELU(), torch.nn.Linear(text_dim, text_dim)
        )

    def forward(self, tokens, gamma):
        return tokens + gamma * self.fc(tokens)


class UNetWrapper(torch.nn.Module):
    def __init__(self, unet, base_size):
        super().__init__()
        self.whole, self.sides = unet, [base_size // 16, base_size // 32]

    def forward(self, images, tokens):
        return vpd_features(self.whole.names(), images, tokens, lambda width: 2, [1, 4, 7], self.sides)
""",
    'segmentation/models/vpd_seg.py': """
from mmseg.core import add_prefix  # of mmseg 0.x: this file cannot be imported


class VPDSeg:
    def extract_feat(self, img):
        features = self.unet(img, self.text_adapter(self.class_embeddings, self.gamma))
        assert torch.zeros(1, device="cuda").device == img.device
        print('much')
        return features
""",
    'stable-diffusion/ldm/models/diffusion/ddpm.py': """
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.distributed import rank_zero_only
from taming.modules.vqvae.quantize import VectorQuantizer2
from tests_reference import ldm_names, our_model


class Whole(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.parts = our_model()

    @rank_zero_only
    def names(self):
        return ldm_names(self.parts)


class LatentDiffusion(pl.LightningModule):
    def __init__(self, unet_config, first_stage_config, cond_stage_config, **schedule):
        super().__init__()
        assert unet_config['params']['num_heads'] == 2 and schedule['linear_end'] == 0.012
        self.model, self.first_stage_model = Whole(), torch.nn.Module()
        self.first_stage_model.decoder = torch.nn.Identity()

    def state_dict(self):
        return self.model.names()
""",
}
RELEASED = {
    'losses.py': '',
    'ldm/models/diffusion/ddim.py': '',
    'ldm/models/diffusion/ddpm.py': '',
    'ldm/models/sn_module.py': """
import functools
import torch
from black import diff
from torch import nn
from torchvision import transforms


class Conv(nn.Conv2d):
    def __init__(self, before, after, kernel_size=3, padding=1):
        super().__init__(before, after, kernel_size, padding=padding)
        self.register_buffer('u0', torch.randn(1, after))
        self.register_buffer('sv0', torch.ones(1))


class Mix(nn.Module):
    def __init__(self, in_channels, out_channels, con_channels, which_conv, which_linear, activation, upsample):
        super().__init__()
        self.which_conv, self.which_linear, self.activation = which_conv, which_linear, activation
        self.conv1, self.conv2 = which_conv(in_channels, out_channels), which_conv(out_channels, out_channels)
        self.conv_sc = which_conv(in_channels, out_channels, kernel_size=1, padding=0)
        for i, channels in ((1, in_channels), (2, out_channels)):
            self.register_buffer(f'stored_mean{i}', torch.randn(channels))
            self.register_buffer(f'stored_var{i}', torch.rand(channels))


class SNmodule(nn.Module):
    def __init__(self):
        super().__init__()
        for level in ('highest', 'high', 'mid'):
            setattr(self, f'{level}_feature_mix_conv', Mix(2, 2, 128, functools.partial(Conv), None, nn.ReLU(), False))
        for name in ('transfromer_decoder', 'mlp', 'to_k', 'to_q'):
            setattr(self, name, nn.Linear(2, 2))
""",
    'ldm/models/decoder.py': """
from torch import nn


class Up(nn.Module):
    def __init__(self, skip_input, output_features):
        super().__init__()
        conv = lambda before: nn.Conv2d(before, output_features, 3, padding=1)
        norm = lambda: nn.GroupNorm(8, output_features)
        self._net = nn.Sequential(conv(skip_input), norm(), nn.LeakyReLU(), conv(output_features), norm())


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        for i in range(1, 5):
            setattr(self, f'up{i}', Up(8, 8))
""",
    'training_2nd_stage.py': """
import nothing_that_exists


def main():
    def update_creation(keep_rate=0.9):
        for before, after in ((sn_module_c, sn_module_e), (bae_module_c, bae_module_e)):
            trained = after.state_dict()
            old = before.state_dict()
            mixed = {key: keep_rate * old[key] + (1 - keep_rate) * trained[key] for key in old}
            before.load_state_dict(mixed)

    for epoch in range(2):
        for iteration, samples in enumerate(train_loader):
            total = samples.cuda() + torch.ones(2, device="cuda")
            seen.append(float(total.sum()))
""",
}
REFERENCE = """
from ldm_names import ldm_names as names_of
from vpd_reference import vpd_features

from benchmarks.peers.diffusion import our_config
from mmdiff2in1.generators import LatentDiffusion


def our_model():
    return LatentDiffusion.from_config(our_config('small'))


def ldm_names(model):
    return {name: value for name, value in names_of(model).items() if not name.startswith('cond_stage_model.')}
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    """A stand-in of a clone, with packages where modules are and the module that leads to the references."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for parent in file.relative_to(folder).parents:
            inside = folder / parent
            if parent.name not in ('', 'stable-diffusion', 'segmentation'):
                (inside / '__init__.py').touch()
    (folder / 'tests_reference.py').write_text(REFERENCE)
    return folder
