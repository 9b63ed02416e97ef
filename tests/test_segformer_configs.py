"""SegFormer as mmseg has it, and with synthetic samples: numbers against mmseg's own config, a step at full size."""

from pathlib import Path

import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.channels import check_channels
from mmdiff2in1.models import TeacherLabel
from mmdiff2in1.training.stages import check_chain

ROOT = Path(__file__).parents[1]
MMSEG = Path(mmseg.__file__).parent / '.mim/configs/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'


@pytest.fixture(autouse=True)
def mmseg_scope():
    init_default_scope('mmseg')


def config(part):
    return Config.fromfile(ROOT / 'configs' / part / 'segformer_ade20k.py')


@pytest.mark.skipif(not MMSEG.is_file(), reason='mmsegmentation was installed without its configs')
def test_the_baseline_is_mmsegs_own_config():
    ours, theirs = config('baselines'), Config.fromfile(MMSEG)
    wanted = theirs.model.to_dict()
    assert wanted.pop('pretrained') is None
    wanted['decode_head']['norm_cfg']['type'] = 'BN'  # SyncBN needs GPUs
    assert wanted['backbone'].pop('init_cfg')['type'] == ours.model.backbone.init_cfg.type == 'Pretrained'
    own = ours.model.to_dict()
    own['backbone'].pop('init_cfg')
    defaults = dict(
        in_channels=3, out_indices=(0, 1, 2, 3), mlp_ratio=4, qkv_bias=True, drop_rate=0.0, attn_drop_rate=0.0
    )
    own['backbone'] |= defaults
    assert own == wanted
    assert ours.optim_wrapper.optimizer == theirs.optim_wrapper.optimizer
    assert ours.optim_wrapper.paramwise_cfg == theirs.optim_wrapper.paramwise_cfg
    keys = ('type', 'begin', 'end', 'power', 'start_factor')
    assert [[each.get(key) for key in keys] for each in ours.param_scheduler] == [
        [each.get(key) for key in keys] for each in theirs.param_scheduler
    ]
    assert ours.global_batch_size == 8 * theirs.train_dataloader.batch_size
    assert ours.train_cfg.max_iters == theirs.train_cfg.max_iters


def test_a_step_with_synthetic_samples():
    """The full model, on images of 64 pixels: θ_E learns from both kinds, θ_C labels one of them and stays."""
    cfg = config('diff2in1')
    check_chain(cfg)
    assert cfg.load_from == 'work_dirs/segformer_ade20k/iter_160000.pth'  # where the baseline leaves it
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    check_channels(model)
    counts = [
        sum(p.numel() for p in part.parameters()) for part in (model.exploiter.backbone, model.exploiter.decode_head)
    ]
    head = sum(width * 256 + 2 * 256 for width in (32, 64, 160, 256)) + 4 * 256 * 256 + 2 * 256 + 150 * (256 + 1)
    assert counts == [3_319_392, head]
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {id(p): group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert rates.keys() == {id(p) for p in model.exploiter.parameters()}
    assert rates[id(model.exploiter.decode_head.conv_seg.weight)] == pytest.approx(6e-5)
    assert rates[id(next(model.exploiter.backbone.parameters()))] == pytest.approx(6e-6)

    samples = []
    for synthetic in (False, True):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), synthetic=synthetic))
        sample.gt_sem_seg = PixelData(data=torch.full((1, 64, 64), 255 if synthetic else 7))
        samples.append(sample)
    model.label_rule = TeacherLabel()  # untrained, it is sure of nothing
    before = [p.detach().clone() for p in model.creator.parameters()]
    total, logged = model.parse_losses(model.loss(torch.randn(2, 3, 64, 64), samples))
    wrapper.update_params(total)
    assert logged['real/decode.loss_ce'] > 3 and 0 < logged['synthetic/decode.loss_ce'] < 0.3 * 6
    assert all(torch.equal(p, old) for p, old in zip(model.creator.parameters(), before, strict=True))
