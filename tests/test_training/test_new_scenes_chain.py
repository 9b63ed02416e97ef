"""The chain over new scenes from noise and over the user's own unlabelled images, on tiny weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_chain import SIZE, chain_config, logged_losses

from mmdiff2in1.synthesis import SampleStore, from_config
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.synthesis_stage import SynthesisStage

SHORT = {
    'stages.warmup.train_cfg': dict(max_iters=2, val_interval=2),
    'train_cfg': dict(max_iters=4, val_interval=4),
}


@pytest.fixture
def photos(tmp_path):
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE + 8 * number, 3), dtype=np.uint8)
        (tmp_path / 'photos').mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f'photos/{number}.png')
    return tmp_path / 'photos'


@pytest.fixture
def cfg(chain_folder):
    cfg = chain_config(chain_folder)
    cfg.merge_from_dict(SHORT)
    cfg.custom_hooks[-1].samples_per_update = 6
    return cfg


def new_scenes(cfg, **scenes):
    cfg.stages.synthesis.update(dict(scenes=scenes, samples_per_image=None, num_samples=7, T='noise'))


def captions_of(chain_folder):
    lines = (chain_folder / 'scenes/train/captions.jsonl').read_text().splitlines()
    return {json.loads(line)['caption'] for line in lines}


def test_new_scenes_and_unlabelled_images_train(cfg, chain_folder, photos, tmp_path, monkeypatch):
    new_scenes(cfg, type='recombined')
    cfg.stages.synthesis.unlabelled = str(photos)
    train(cfg, tmp_path / 'run')
    store = SampleStore(tmp_path / 'run/synthetic')
    records = store.records()
    made = [record for record in records if record.get('kind') != 'unlabelled']
    assert (len(made), len(records)) == (7, 12) and store.verify() == []
    assert {(record['source'], record['T'], tuple(record['size'])) for record in made} == {(None, 1000, (SIZE, SIZE))}
    captions = {record['caption'] for record in made}
    assert len(captions) == 7 and not captions & captions_of(chain_folder)
    losses = logged_losses(tmp_path / 'run/self_improving')
    synthetic = [value for line in losses for name, value in line.items() if 'synthetic' in name]
    assert len(losses) == 4 and synthetic and np.isfinite(synthetic).all() and max(synthetic) > 0
    monkeypatch.setattr(from_config, 'build_diffusion', None)  # what is finished loads nothing
    assert set(train(cfg, tmp_path / 'run')) == {'warmup', 'self_improving', 'test'}


def test_unlabelled_images_alone_need_no_generator(cfg, photos, tmp_path):
    cfg.stages.synthesis = dict(unlabelled=str(photos))
    train(cfg, tmp_path / 'run')
    records = SampleStore(tmp_path / 'run/synthetic').records()
    assert [Path(record['image']).name for record in records] == [f'{number}.png' for number in range(5)]
    assert logged_losses(tmp_path / 'run/self_improving')[-1]['iter'] == 4
    # Nobody trains on what has changed since.
    Image.new('RGB', (SIZE, SIZE)).save(photos / '3.png')
    with pytest.raises(ValueError, match='1 samples that the settings do not ask for, first 3-unlabelled-'):
        train(cfg, tmp_path / 'run')


def test_a_finished_stage_notices_other_images_and_captions(cfg, chain_folder, photos, tmp_path):
    (tmp_path / 'list.txt').write_text('a red ball\na table\n')
    new_scenes(cfg, type='file', path=str(tmp_path / 'list.txt'))
    cfg.stages.synthesis.update(captions=None, unlabelled=str(photos))

    def stage():
        return SynthesisStage(cfg, tmp_path / 'store')

    stage().check()
    stage().create()
    assert stage()._is_complete(None)
    records = SampleStore(tmp_path / 'store').records()
    made = [record for record in records if record.get('kind') != 'unlabelled']
    assert sorted((record['caption'], record['seed']) for record in made) == [
        *(('a red ball', seed) for seed in range(4)),
        *(('a table', seed) for seed in range(3)),
    ]
    (tmp_path / 'list.txt').write_text('a red ball\na wall\n')
    assert not stage()._is_complete(None)
    with pytest.raises(ValueError, match='3 samples that the settings do not ask for, first noise-T1000'):
        stage().check()
    (tmp_path / 'list.txt').write_text('a red ball\na table\n')
    Image.new('RGB', (SIZE, SIZE)).save(photos / 'new.png')
    assert not stage()._is_complete(None)
    stage().check()
    stage().create()
    assert len(SampleStore(tmp_path / 'store').records()) == 13


def test_leaks_are_found_before_the_warm_up(cfg, chain_folder, tmp_path):
    cfg.stages.synthesis = dict(unlabelled=[str(chain_folder / 'scenes/train/images')])
    stage = SynthesisStage(cfg, tmp_path / 'store')
    assert len(stage.job.pool.images) == 2  # of 8, 6 are labelled
    cfg.stages.synthesis.unlabelled = str(chain_folder / 'scenes/*/images')
    with pytest.raises(ValueError, match='4 of 16 unlabelled images are also images of the val set'):
        SynthesisStage(cfg, tmp_path / 'store')


def test_around_images_the_sources_stay(cfg, chain_folder, tmp_path):
    cfg.stages.synthesis.update(dict(scenes=dict(type='recombined'), samples_per_image=2, T=[400, 1000]))
    stage = SynthesisStage(cfg, tmp_path / 'store')
    stage.create()
    records = SampleStore(tmp_path / 'store').records()
    assert len(records) == 12 and len({record['source'] for record in records}) == 6
    assert all(record['source_labels'] for record in records)
    assert not {record['caption'] for record in records} & captions_of(chain_folder)
