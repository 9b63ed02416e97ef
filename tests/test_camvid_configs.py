"""Light students on CamVid: sizes, one recipe, draws of labels, and a short training, plain and with pasted cars."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from tiny_camvid import write_camvid

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.checks.channels import check_channels
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.runs import build_runner

ROOT = Path(__file__).parents[1]
SIZES = {'unet_camvid': 450_763, 'segformer_camvid': 3_319_392 + 395_776 + 11 * 257}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_camvid(tmp_path_factory.mktemp('camvid') / 'camvid', train=6, val=2)


@pytest.fixture(autouse=True)
def mmseg_scope():
    init_default_scope('mmseg')


def config(name: str, data: Path | None = None, steps: int = 2) -> Config:
    """Of `configs`; with data two images a step, and two steps."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py', format_python_code=False)
    if data is None:
        return cfg
    inner = 'train_dataloader.dataset' + ('.dataset' if 'stages' in cfg else '')
    changes = {
        f'{place}.data_root': str(data) for place in (inner, 'val_dataloader.dataset', 'test_dataloader.dataset')
    }
    changes |= {f'{inner}.num_labelled': 4, 'train_dataloader.batch_size': 2}
    changes |= {'train_cfg': dict(max_iters=steps, val_interval=steps), 'param_scheduler': []}
    cfg.merge_from_dict(changes)
    return cfg


@pytest.mark.parametrize('name', SIZES)
def test_full_size(name):
    """All of it is trained, and no file of weights is asked for."""
    model = MODELS.build(config(f'baselines/{name}').model)
    model.init_weights()
    check_channels(model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == SIZES[name]
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, 96, 128))
    assert logits.shape == ((1, 11, 96, 128) if name == 'unet_camvid' else (1, 11, 24, 32))


def test_the_two_students_see_the_same_images():
    unet, segformer = (config(f'baselines/{name}').to_dict() for name in SIZES)
    assert unet['optim_wrapper']['optimizer'].pop('lr') != segformer['optim_wrapper']['optimizer'].pop('lr')
    assert (unet['train_cfg']['max_iters'], segformer['train_cfg']['max_iters']) == (1500, 400)
    for key in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'randomness'):
        assert unet[key] == segformer[key], key
    for cfg in (unet, segformer):
        assert cfg['model']['decode_head']['ignore_index'] == cfg['model']['data_preprocessor']['seg_pad_val'] == 11
        crop = next(step for step in cfg['train_dataloader']['dataset']['pipeline'] if step['type'] == 'RandomCrop')
        assert crop['crop_size'] == cfg['model']['data_preprocessor']['size'] == (64, 96) and crop['ignore_index'] == 11


def test_draws_of_labels(data):
    """A smaller draw is part of a larger one; the seed says which; more than there are is an error."""

    def names(num_labelled, seed):
        cfg = config('baselines/unet_camvid', data).train_dataloader.dataset
        dataset = DATASETS.build(dict(cfg, num_labelled=num_labelled, subset_seed=seed))
        return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]

    whole = names(None, 0)
    assert len(whole) == 6 and whole == sorted(whole) == names(6, 5)
    draws = {tuple(names(3, seed)) for seed in range(5)}
    assert len(draws) > 1 and all(len(draw) == 3 for draw in draws)
    assert set(names(3, 1)) < set(names(5, 1)) < set(whole)
    with pytest.raises(ValueError, match=r'num_labelled=7: expected 1 to 6'):
        names(7, 0)


@pytest.mark.parametrize('name', SIZES)
def test_a_plain_training_moves_every_weight(name, data, tmp_path):
    cfg = config(f'baselines/{name}', data)
    cfg.work_dir = str(tmp_path)
    runner = build_runner(cfg)
    runner.model.init_weights()
    before = {key: value.detach().clone() for key, value in runner.model.named_parameters()}
    runner.train()
    assert not [key for key, value in runner.model.named_parameters() if torch.equal(value, before[key])]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['unet_camvid-paste', 'segformer_camvid'])
def test_cars_are_pasted_and_trained_on(name, data, tmp_path):
    cfg = config(f'diff2in1/{name}', data)
    cfg.stages.synthesis.samples_per_image = 2
    cfg.custom_hooks[-1].samples_per_update = 4
    results = train(cfg, tmp_path / 'run')
    assert {'mIoU', 'exploiter/mIoU'} <= results['test'].keys()
    records = SampleStore(tmp_path / 'run/synthetic').records()
    assert len(records) == 2 * 4
    pasted = [thing for record in records for thing in record['pasted']]
    assert pasted and {thing['class'] for thing in pasted} == {'car'}


def test_weights_can_be_named(tmp_path):
    """As the config says: an encoder's file by options."""
    weights = MODELS.build(config('baselines/segformer_camvid').model).backbone.state_dict()
    marked = {key: torch.full_like(value, 0.25) for key, value in weights.items()}
    torch.save(dict(state_dict=marked), tmp_path / 'mit_b0.pth')
    cfg = config('baselines/segformer_camvid')
    cfg.merge_from_dict(
        {
            'model.backbone.init_cfg.type': 'Pretrained',
            'model.backbone.init_cfg.checkpoint': str(tmp_path / 'mit_b0.pth'),
        }
    )
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert all(torch.equal(value, marked[key]) for key, value in model.backbone.state_dict().items())
