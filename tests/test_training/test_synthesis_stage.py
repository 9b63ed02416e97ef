"""The synthesis stage loads its generator at most once, and not at all where the samples are there."""

import json
import shutil

import pytest
import torch
from modes import read_only
from tiny_chain import chain_config

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.synthesis import SampleStore, from_config
from mmdiff2in1.synthesis.generator import check_unet
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.synthesis_stage import SynthesisStage


@pytest.fixture
def costs(monkeypatch):
    """How often a generator was loaded and its weights hashed since the last look."""
    counts = dict(loads=0, hashes=0)

    def counted(name, real):
        def call(*args, **kwargs):
            counts[name] += 1
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(from_config, 'build_diffusion', counted('loads', from_config.build_diffusion))
    monkeypatch.setattr(LatentDiffusion, 'weights_hash', counted('hashes', LatentDiffusion.weights_hash))

    def look() -> tuple[int, int]:
        found = counts['loads'], counts['hashes']
        counts.update(loads=0, hashes=0)
        return found

    return look


@pytest.fixture
def cfg(chain_folder, tmp_path):
    """With captions of its own."""
    cfg = chain_config(chain_folder)
    shutil.copy(chain_folder / 'scenes' / 'train' / 'captions.jsonl', tmp_path)
    cfg.stages.synthesis.captions = str(tmp_path / 'captions.jsonl')
    return cfg


def run(cfg, store, warmup=None, known=None):
    creation = SynthesisStage(cfg, store)
    creation.check(known)
    creation.create(warmup)


def test_loaded_once_and_then_never(cfg, tmp_path, costs):
    store = tmp_path / 'store'
    run(cfg, store)
    assert costs() == (1, 1)
    before = SampleStore(store).records()
    assert len(before) == 12
    run(cfg, store)
    assert costs() == (0, 0) and SampleStore(store).records() == before
    cfg.stages.synthesis.update(batch_size=2, device='cpu')
    run(cfg, store)
    assert costs() == (0, 0), 'what changes no sample'
    store.rename(tmp_path / 'moved')
    run(cfg, tmp_path / 'moved')
    assert costs() == (0, 0)


def test_a_complete_store_that_cannot_be_written(cfg, tmp_path, costs):
    """With the record of its completeness, or without, as tools/synthesize.py leaves it."""
    store = tmp_path / 'store'
    run(cfg, store)
    before = SampleStore(store).records()
    with read_only(store):
        run(cfg, store)
    (store / 'finished.json').unlink()
    with read_only(store):
        run(cfg, store)
        assert SampleStore(store).records() == before
    assert not (store / 'finished.json').exists() and not (store / '.lock').exists()


def test_a_sample_that_is_gone_is_made_again(cfg, tmp_path, costs):
    store = tmp_path / 'store'
    run(cfg, store)
    costs()
    before = SampleStore(store).records()
    image = SampleStore(store).image(before[3])
    content = image.read_bytes()
    image.unlink()
    run(cfg, store)
    assert costs() == (1, 1) and image.read_bytes() == content
    SampleStore(store).remove([before[5]['sample_id']])
    run(cfg, store)
    assert costs() == (1, 1) and SampleStore(store).records() == before
    run(cfg, store)
    assert costs() == (0, 0)


def test_whatever_decides_the_samples_is_noticed(cfg, tmp_path, costs, tiny_diffusion):
    store, captions = tmp_path / 'store', tmp_path / 'captions.jsonl'
    run(cfg, store)
    text = captions.read_text()
    changed = [json.loads(line) for line in text.splitlines()]
    for entry in changed:
        entry['caption'] += ' and a lamp'
    captions.write_text(''.join(json.dumps(entry) + '\n' for entry in changed))
    with pytest.raises(ValueError, match='12 samples that the settings do not ask for'):
        run(cfg, store)
    captions.write_text(text)
    for name, value in dict(T=500, num_calls=4, guidance_scale=2.0, seed=7, size=16).items():
        other = cfg.stages.synthesis.copy()
        cfg.stages.synthesis[name] = value
        with pytest.raises(ValueError, match='12 samples that the settings do not ask for'):
            run(cfg, store)
        cfg.stages.synthesis = other
    with torch.no_grad():
        tiny_diffusion.unet.conv_in.bias.add_(1)
    tiny_diffusion.save_folder(tmp_path / 'weights')
    other = cfg.stages.synthesis.diffusion
    cfg.stages.synthesis.diffusion = str(tmp_path / 'weights')
    with pytest.raises(ValueError, match='12 samples that the settings do not ask for'):
        run(cfg, store)
    cfg.stages.synthesis.diffusion = other
    costs()
    run(cfg, store)
    assert costs() == (0, 0)
    cfg.train_dataloader.dataset.num_samples = 13
    with pytest.raises(ValueError, match='holds 12 samples, expected at least 13'):
        run(cfg, store)


def test_samples_of_others_are_refused_unless_kept(cfg, tmp_path, costs):
    store = tmp_path / 'store'
    cfg.stages.synthesis.T = 500
    run(cfg, store)
    cfg.stages.synthesis.update(T=600, keep_others=True)
    run(cfg, store)
    assert costs() == (2, 2)
    run(cfg, store)
    assert costs() == (0, 0) and len(SampleStore(store).records()) == 24
    cfg.stages.synthesis.keep_others = False
    with pytest.raises(ValueError, match='12 samples that the settings do not ask for'):
        run(cfg, store)


def test_the_creator_is_loaded_once_as_well(chain_folder, tmp_path, costs, tiny_diffusion):
    """The generator that was checked before the warm-up takes the U-Net that was trained in it."""
    cfg, store = chain_config(chain_folder, variant='-finetune'), tmp_path / 'store'
    cfg.stages.synthesis.samples_per_image = 1
    for file, by in (('one.pth', 0.0), ('two.pth', 0.5)):
        unet = {f'backbone.diffusion.unet.{name}': t + by for name, t in tiny_diffusion.unet.state_dict().items()}
        torch.save(dict(state_dict=unet), tmp_path / file)
    one, two = (str(tmp_path / file) for file in ('one.pth', 'two.pth'))
    run(cfg, store, one)
    assert costs() == (1, 1)
    records = SampleStore(store).records()
    assert len(records) == 6
    run(cfg, store, one, known=one)
    assert costs() == (0, 0)
    straightaway = tmp_path / 'straightaway'
    cfg.stages.synthesis.unet = one
    run(cfg, straightaway)
    assert SampleStore(straightaway).records() == records
    cfg.stages.synthesis.unet = 'creator'
    costs()
    with pytest.raises(ValueError, match='weights_hash|not in this plan'):
        run(cfg, store, two, known=two)
    assert costs() == (1, 1)


def test_what_has_no_unet_is_found_before_the_warm_up():
    with pytest.raises(ValueError, match="unet='creator', but object has no U-Net that we train"):
        check_unet(object(), 'creator')


def test_a_finished_chain_loads_nothing(straight, chain_folder, costs):
    train(chain_config(chain_folder), straight[0])
    assert costs() == (0, 0)
