"""The small CNN and the perceiver with a U-shaped decoder on Scenes: sizes, one schedule, steps, resume."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.channels import check_channels
from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.training.runs import build_runner, resume_where_possible

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory, tiny_diffusion_config) -> Path:
    """``weights`` and ``scenes`` of 32 × 32."""
    folder = tmp_path_factory.mktemp('scenes')
    torch.manual_seed(0)
    LatentDiffusion.from_config(tiny_diffusion_config).save_folder(folder / 'weights')
    make_scenes(folder / 'scenes', {'train': 6, 'val': 2, 'test': 2}, size=32, workers=1, progress=False)
    return folder


def narrow(name: str, tiny: Path, work_dir: Path, steps: int) -> Config:
    file = {'unet': 'unet_scenes', 'ushaped': 'vpd_scenes-ushaped'}[name]
    cfg = Config.fromfile(ROOT / 'configs/baselines' / f'{file}.py', format_python_code=False)
    changes = {f'{part}_dataloader.dataset.data_root': str(tiny / 'scenes') for part in ('train', 'val', 'test')}
    changes |= {
        'train_dataloader.batch_size': 2,
        'train_dataloader.dataset.num_labelled': 5,
        'train_dataloader.dataset.pipeline.2.scale': (32, 32),
        'train_dataloader.dataset.pipeline.3.crop_size': (32, 32),
        'model.data_preprocessor.size': (32, 32),
        'train_cfg': dict(max_iters=steps, val_interval=steps),
        'default_hooks.checkpoint': dict(interval=2, max_keep_ckpts=3),
        'work_dir': str(work_dir),
    }
    if name == 'ushaped':
        changes |= {
            'model.backbone.diffusion': str(tiny / 'weights'),
            'model.backbone.bf16': False,
            # The one list that follows from the generator; the tiny one has a level less.
            'model.backbone.detail.stem': [16, 16],
            'model.decode_head.head.in_channels': [8 + 16, 8 + 16, 16 + 11, 16 + 11],
            'model.decode_head.head.widths': [8, 8, 8, 8],
        }
    cfg.merge_from_dict(changes)
    init_default_scope('mmseg')
    return cfg


WIDTHS = (16, 32, 64, 128)
STEM = sum(9 * below * w + 9 * w * w + 4 * w for w, below in zip(WIDTHS, (3, 16, 32, 64), strict=True))
LEVELS = zip((32, 64, 128, 235, 139), (16, 32, 64, 96, 128), (32, 64, 96, 128, 0), strict=True)
HEAD = sum(c * w + 9 * (w + below) * w + 9 * w * w + 6 * w for c, w, below in LEVELS) + 11 * (16 + 1)


@pytest.mark.parametrize(('name', 'trained'), [('unet_scenes', 450_763), ('vpd_scenes-ushaped', STEM + HEAD)])
def test_full_size(name, trained):
    """Classes at full resolution; trained parameters, of stem and head those of convolutions and norms."""
    init_default_scope('mmseg')
    cfg = Config.fromfile(ROOT / 'configs/baselines' / f'{name}.py', format_python_code=False)
    model = MODELS.build(cfg.model).eval()
    check_channels(model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 11, 64, 64)


def test_the_two_differ_in_the_model_alone():
    unet, ushaped = (
        Config.fromfile(ROOT / 'configs/baselines' / f'{name}.py', format_python_code=False).to_dict()
        for name in ('unet_scenes', 'vpd_scenes-ushaped')
    )
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'randomness'):
        assert unet[key] == ushaped[key], key
    assert unet['train_cfg']['max_iters'] == 1500 and unet['train_dataloader']['dataset']['num_labelled'] == 60
    assert unet['model']['data_preprocessor'] == ushaped['model']['data_preprocessor']


@pytest.mark.parametrize('name', ['unet', 'ushaped'])
def test_killed_and_resumed_equals_straight(name, tiny, tmp_path):
    """Every tensor, a stem's and running averages among them; all that is trained has moved."""

    def run(folder, *lengths):
        for steps in lengths:
            cfg = narrow(name, tiny, tmp_path / folder, steps)
            resume_where_possible(cfg)
            runner = build_runner(cfg)
            runner.model.init_weights()
            before = {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}
            runner.train()
        return runner.model, before

    straight, before = run('straight', 4)
    resumed, _ = run('resumed', 2, 4)
    weights, others = straight.state_dict(), resumed.state_dict()
    assert weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)
    assert not [key for key, value in before.items() if torch.equal(value, weights[key])]
    assert any('detail.stem' in key for key in weights) == (name == 'ushaped')
