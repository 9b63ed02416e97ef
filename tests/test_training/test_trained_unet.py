"""Which U-Net denoises: the pretrained one, that of the warm-up, or that of a checkpoint."""

import gc
import json

import pytest
import torch
from tiny_chain import chain_config

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.trained_weights import load_trained_unet
from mmdiff2in1.synthesis import SynthesisSettings
from mmdiff2in1.synthesis.generator import build_diffusion
from mmdiff2in1.training.chain import check_weights, train
from mmdiff2in1.training.stages import check_chain


def moved(unet: torch.nn.Module, by: float) -> dict:
    return {name: tensor + by for name, tensor in unet.state_dict().items()}


def test_a_checkpoint_fills_the_unet(tiny_diffusion, tmp_path):
    """That of θ_C where there are two; all other parts stay."""
    plain = {f'backbone.diffusion.unet.{n}': t for n, t in moved(tiny_diffusion.unet, 1.0).items()}
    shared = {f'module.exploiter.backbone.diffusion.unet.{n}': t for n, t in moved(tiny_diffusion.unet, 4.0).items()}
    theta_e = {f'exploiter.backbone.diffusion.unet.{n}': t for n, t in moved(tiny_diffusion.unet, 2.0).items()}
    theta_c = {f'creator.backbone.diffusion.unet.{n}': t for n, t in moved(tiny_diffusion.unet, 3.0).items()}
    before = {name: tensor.clone() for name, tensor in tiny_diffusion.state_dict().items()}
    for file, state, by in (('plain.pth', plain, 1.0), ('both.pth', theta_e | theta_c, 3.0), ('one.pth', shared, 4.0)):
        torch.save(dict(state_dict=state), tmp_path / file)
        tiny_diffusion.load_state_dict(before)
        load_trained_unet(tiny_diffusion, tmp_path / file)
        for name, tensor in tiny_diffusion.state_dict().items():
            expected = before[name] + by if name.startswith('unet.') else before[name]
            assert torch.equal(tensor, expected), name


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: {'neck.weight': torch.zeros(1)}, 'holds no U-Net'),
        (lambda state: dict(list(state.items())[1:]), 'missing 1: unet'),
        (lambda state: state | {'backbone.diffusion.unet.more': torch.zeros(1)}, 'unexpected 1: unet.more'),
        (
            lambda state: state | {'backbone.diffusion.unet.conv_in.bias': torch.zeros(3)},
            'of another shape 1: unet.conv_in.bias',
        ),
    ],
)
def test_another_unet_is_refused(tiny_diffusion, tmp_path, change, message):
    state = {f'backbone.diffusion.unet.{n}': t for n, t in tiny_diffusion.unet.state_dict().items()}
    torch.save(dict(state_dict=change(state)), tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        load_trained_unet(tiny_diffusion, tmp_path / 'x.pth')


def test_creator_needs_a_warm_up(chain_folder):
    with pytest.raises(ValueError, match='which mmdiff2in1 train alone knows'):
        build_diffusion(SynthesisSettings(diffusion=str(chain_folder / 'weights'), unet='creator', num_samples=1))
    cfg = chain_config(chain_folder, variant='-finetune')
    cfg.stages.warmup = None
    with pytest.raises(ValueError, match='there is no stages.warmup'):
        check_chain(cfg)


def test_labels_of_a_model_that_has_learned_nothing(chain_folder, monkeypatch):
    """Neither a warm-up nor a checkpoint to start from: said, not refused, as the backbone may be pretrained."""
    cfg = chain_config(chain_folder)
    cfg.stages.warmup = None
    warned = []
    monkeypatch.setattr('mmdiff2in1.training.stages.print_log', lambda text, *_: warned.append(text))
    check_chain(cfg)
    assert len(warned) == 1 and 'neither stages.warmup nor load_from' in warned[0]
    cfg.load_from = 'trained.pth'
    check_chain(cfg)
    assert len(warned) == 1


def test_weights_are_looked_for_first(chain_folder, tmp_path):
    cfg = chain_config(chain_folder)
    check_weights(cfg)
    cfg.stages.synthesis.diffusion = str(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=r'none: found nothing.*\$SD_WEIGHTS'):
        check_weights(cfg)


def test_the_creator_creates(chain_folder, tmp_path):
    """The chain with a U-Net that learns and goes on denoising: its samples are those of the warm-up's U-Net."""
    cfg = chain_config(chain_folder, variant='-finetune')
    captions = str(chain_folder / 'scenes' / 'train' / 'captions.jsonl')
    cfg.train_dataloader.dataset.dataset.pipeline[-2].captions = captions
    for part in (cfg.train_cfg, cfg.stages.warmup.train_cfg):
        part.update(max_iters=8, val_interval=8)
    cfg.stages.synthesis.samples_per_image = 1
    gc.collect()
    before = sum(isinstance(each, LatentDiffusion) for each in gc.get_objects())
    results = train(cfg, tmp_path / 'run')
    gc.collect()
    assert sum(isinstance(each, LatentDiffusion) for each in gc.get_objects()) == before  # freed after use
    records = [json.loads(line) for line in (tmp_path / 'run/synthetic/manifest.jsonl').read_text().splitlines()]
    diffusion = LatentDiffusion.from_pretrained(chain_folder / 'weights')
    pretrained = diffusion.weights_hash()
    load_trained_unet(diffusion, results['warmup']['checkpoint'])
    assert {record['weights_hash'] for record in records} == {diffusion.weights_hash()} != {pretrained}
    logged = next((tmp_path / 'run/self_improving').glob('*/vis_data/scalars.json')).read_text()
    assert '"real/loss_denoising"' in logged
    again = train(cfg, tmp_path / 'run')
    assert again['test'] == results['test']
