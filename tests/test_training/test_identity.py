"""A stage is skipped only if everything it was made from is the same, and nothing else counts."""

import copy
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from safetensors.torch import load_file, save_file
from tiny_chain import chain_config

from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training import file_digests
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.file_digests import digests_of
from mmdiff2in1.training.identity import TESTED_BY, fingerprint, identity, store_mark, weights_mark
from mmdiff2in1.training.stages import warmup_config


@pytest.fixture
def stage(chain_folder, tmp_path):
    return warmup_config(chain_config(chain_folder), tmp_path)


@pytest.mark.parametrize(
    'change',
    [
        {'work_dir': 'elsewhere'},
        {'load_from': 'a.pth'},
        {'log_level': 'ERROR'},
        {'train_dataloader.num_workers': 2},
        {'test_dataloader.batch_size': 3},
        {'val_dataloader.batch_size': 3},
        {'find_unused_parameters': True},
        {'model.backbone.gradient_checkpointing': True},
        {'default_hooks.logger.interval': 7},
        {'custom_hooks': [dict(type='ExactResumeHook'), dict(type='ProgressBarHook')]},
        {'custom_hooks': [dict(type='ExactResumeHook'), dict(type='mmseg.ProgressBarHook')]},
        {'data_root': '/somewhere', 'my_root': '/somewhere'},
    ],
)
def test_places_pictures_and_speed_do_not_count(stage, change):
    other = copy.deepcopy(stage)
    other.merge_from_dict(change)
    assert fingerprint(other) == fingerprint(stage)


@pytest.mark.parametrize(
    'change',
    [
        {'optim_wrapper.optimizer.lr': 0.1},
        {'train_dataloader.batch_size': 3},
        {'train_cfg.max_iters': 21},
        {'model.decode_head.head.dropout_ratio': 0.2},
        {'randomness.seed': 1},
    ],
)
def test_what_decides_counts(stage, change):
    other = copy.deepcopy(stage)
    other.merge_from_dict(change)
    assert fingerprint(other) != fingerprint(stage)
    assert fingerprint(stage, {'the warm-up': 'a'}) != fingerprint(stage, {'the warm-up': 'b'})


def test_the_content_of_the_weights_counts(stage, tiny_diffusion, tmp_path):
    folder = tmp_path / 'weights'
    tiny_diffusion.save_folder(folder)
    stage.model.backbone.diffusion = str(folder)
    before, mark = fingerprint(stage), weights_mark(folder)
    assert weights_mark(folder) == mark
    file = folder / 'unet' / 'diffusion_pytorch_model.safetensors'
    state = load_file(file)
    state['conv_in.bias'] = state['conv_in.bias'] + 1
    save_file(state, file, metadata={'format': 'pt'})
    assert weights_mark(folder) != mark and fingerprint(stage) != before
    LatentDiffusion.from_pretrained(folder)


def test_weights_may_move(stage, tiny_diffusion, tmp_path):
    tiny_diffusion.save_folder(tmp_path / 'here')
    stage.model.backbone.diffusion = str(tmp_path / 'here')
    before = fingerprint(stage)
    (tmp_path / 'here').rename(tmp_path / 'there')
    stage.model.backbone.diffusion = str(tmp_path / 'there')
    assert fingerprint(stage) == before


@pytest.fixture
def data(chain_folder, tmp_path):
    """A copy of the scenes, and what points a config at a copy."""
    shutil.copytree(chain_folder / 'scenes', tmp_path / 'scenes')

    def at(place: Path) -> Config:
        cfg = chain_config(chain_folder)
        for loader in ('train', 'val', 'test'):
            dataset = cfg[f'{loader}_dataloader'].dataset
            dataset.get('dataset', dataset).data_root = str(place)
        cfg.stages.synthesis.captions = f'{place}/train/captions.jsonl'
        return cfg

    return tmp_path / 'scenes', at


def training_and_test(cfg: Config) -> tuple[str, str]:
    stage = warmup_config(cfg, Path('x'))
    return fingerprint(stage), fingerprint(stage, decisive=TESTED_BY)


def test_data_may_move(data):
    place, at = data
    before = training_and_test(at(place))
    absolute = at(place)  # folders that are no part of the root
    dataset = absolute.train_dataloader.dataset.dataset
    dataset.data_prefix = dict(img_path=f'{place}/train/images', seg_map_path=f'{place}/train/semantic')
    dataset.data_root = None
    assert training_and_test(absolute) == before
    moved = place.with_name('elsewhere')
    place.rename(moved)
    assert training_and_test(at(moved)) == before


@pytest.mark.parametrize('part', ['train', 'val', 'test'])
def test_labels_that_are_corrected_count(data, part):
    """Another content, whatever its size; put back, it is the old data again."""
    place, at = data
    before = training_and_test(at(place))
    label = sorted((place / part / 'semantic').glob('*.png'))[0]
    content = label.read_bytes()
    label.write_bytes(content[:-13] + bytes([content[-13] ^ 1]) + content[-12:])
    after = training_and_test(at(place))
    assert [one != other for one, other in zip(before, after, strict=True)] == [part != 'test', part == 'test']
    label.write_bytes(content)
    assert training_and_test(at(place)) == before


def test_another_choice_of_images_counts(data):
    place, at = data
    before = training_and_test(at(place))
    other = at(place)
    other.train_dataloader.dataset.dataset.num_labelled = 5
    assert training_and_test(other)[0] != before[0]
    (image,) = sorted((place / 'val' / 'images').glob('*.png'))[:1]
    image.with_name('new.png').write_bytes(image.read_bytes())
    (place / 'val' / 'semantic' / 'new.png').write_bytes((place / 'val' / 'semantic' / image.name).read_bytes())
    assert training_and_test(at(place))[0] != before[0]


def test_a_file_that_the_config_names_counts_by_its_content(stage, tmp_path):
    marks = []
    for name, text in (('a', 'one'), ('b', 'one'), ('c', 'two')):
        (tmp_path / f'{name}.txt').write_text(text)
        stage.train_dataloader.dataset.dataset.pipeline[0].list = str(tmp_path / f'{name}.txt')
        marks.append(fingerprint(stage))
    assert marks[0] == marks[1] != marks[2]


def test_known_files_are_looked_at_and_not_read(tmp_path, monkeypatch):
    files = [str(tmp_path / f'{number}.png') for number in range(20)]
    for number, file in enumerate(files):
        Path(file).write_bytes(bytes([number]) * 50_000)
        os.utime(file, (1e9, 1e9))
    read = []
    real = file_digests.sampled_digest
    monkeypatch.setattr(file_digests, 'sampled_digest', lambda file, blocks: read.append(file) or real(file, blocks))
    # The change of a file is as fresh as this test: nothing is settled yet.
    monkeypatch.setattr(file_digests, 'SETTLED', -(10**12))
    first = digests_of(files, str(tmp_path))
    assert sorted(read) == sorted(files) and len(set(first)) == 20
    read.clear()
    assert digests_of(files, str(tmp_path)) == first and read == []
    Path(files[3]).write_bytes(b'x' * 50_000)
    os.utime(files[3], (1e9, 1e9))  # not even the time tells; that of the change does
    again = digests_of([*files, str(tmp_path / 'none')], str(tmp_path))
    assert read == [files[3]] and again[:3] == first[:3] and again[3] != first[3] and again[-1] == ''
    monkeypatch.setattr(file_digests, 'SETTLED', 10**12)
    Path(files[4]).write_bytes(b'y' * 50_000)
    for _ in range(2):  # too fresh to be sure of: read each time
        read.clear()
        digests_of(files, str(tmp_path))
        assert read == [files[4]]


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path, monkeypatch):
    (tmp_path / 'file').write_bytes(b'')
    monkeypatch.setenv('MMDIFF2IN1_CACHE', str(tmp_path / 'file' / 'below'))
    (tmp_path / 'a').write_bytes(b'a')
    monkeypatch.setattr(file_digests, 'SETTLED', -(10**12))
    assert digests_of([str(tmp_path / 'a')], '') == digests_of([str(tmp_path / 'a')], '')


def test_the_share_of_a_process_does_not_count(stage):
    stage.global_batch_size = 4
    before = fingerprint(stage)
    stage.train_dataloader.batch_size = 1
    assert fingerprint(stage) == before
    stage.global_batch_size = 8
    assert fingerprint(stage) != before


def test_another_start_is_another_chain(straight, chain_folder, tmp_path):
    """Without a warm-up, `load_from` is what the self-improving stage starts from."""
    cfg = chain_config(chain_folder, 'baselines')
    cfg.stages.warmup = None
    cfg.load_from = straight[1]['warmup']['checkpoint']
    train(cfg, tmp_path)
    cfg.load_from = straight[1]['self_improving']['checkpoint']
    with pytest.raises(ValueError, match='holds this stage of another config: load_from: another content .fingerprint'):
        train(cfg, tmp_path)
    cfg.load_from = 'nowhere.pth'
    with pytest.raises(FileNotFoundError, match='load_from=nowhere.pth: no such checkpoint'):
        train(cfg, tmp_path)


def test_other_samples_are_another_store(straight):
    records = SampleStore(straight[0] / 'synthetic')
    mark = store_mark(records)

    class Fewer(SampleStore):
        def records(self, rejected: bool = False) -> list[dict]:
            return super().records(rejected)[1:]

    assert store_mark(Fewer(straight[0] / 'synthetic')) != mark


def test_labels_in_a_store_count(tmp_path):
    """They teach where a config says labels='stored'."""
    image, marks = np.zeros((8, 8, 3), np.uint8), []
    for number, value in enumerate((1, 1, 2, None)):
        store = SampleStore(tmp_path / str(number))
        labels = None if value is None else dict(semantic_segmentation=np.full((8, 8), value, np.uint8))
        store.add(dict(sample_id='a', source='a.png'), image, labels)
        marks.append(store_mark(store))
    assert marks[0] == marks[1] and len(set(marks)) == 3


def test_a_stage_folder_tells_its_own_result_from_another(tmp_path):
    folder = StageFolder(tmp_path, 'a' * 64)
    assert folder.result() is None
    folder.begin()
    assert folder.result() is None
    folder.finish(iters=3)
    assert StageFolder(tmp_path, 'a' * 64).result() == {'iters': 3}
    with pytest.raises(ValueError, match='fingerprint aaaaaaaa, expected bbbbbbbb'):
        StageFolder(tmp_path, 'b' * 64).result()


def test_a_folder_says_what_differs(data, tmp_path):
    """A setting with both values, the list of the data, labels by their key, weights, what was made before."""
    place, at = data
    stage = warmup_config(at(place), tmp_path)
    folder = identity(stage, {'load_from': 'a' * 64}).folder(tmp_path / 'warmup')
    folder.begin()
    assert folder.result() is None

    def told(cfg, **parents):
        with pytest.raises(ValueError) as raised:
            identity(cfg, {'load_from': 'a' * 64} | parents).folder(tmp_path / 'warmup').result()
        start, _, rest = str(raised.value).partition(' (fingerprint ')
        assert rest.endswith('choose another --work-dir, or delete that folder to run the stage anew')
        return start.removeprefix(f'{tmp_path}/warmup holds this stage of another config: ')

    other = copy.deepcopy(stage)
    old = stage.optim_wrapper.optimizer.lr
    other.merge_from_dict({'optim_wrapper.optimizer.lr': 0.5, 'model.decode_head.head.new': [1]})
    assert set(told(other).split('; ')) == {
        f'optim_wrapper.optimizer.lr: {old} → 0.5', 'model.decode_head.head.new: not set → [1]'
    }  # fmt: skip
    assert told(stage, load_from='b' * 64) == 'load_from: another content'
    other = copy.deepcopy(stage)
    other.train_dataloader.dataset.dataset.num_labelled = 5
    number = stage.train_dataloader.dataset.dataset.get('num_labelled') or 'not set'
    assert told(other).startswith(f'train_dataloader.dataset.dataset.num_labelled: {number} → 5; ')
    assert 'data.train_dataloader[0].img_path.files: ' in told(other)
    label = sorted((place / 'val' / 'semantic').glob('*.png'))[0]
    content = label.read_bytes()
    label.write_bytes(content[:-13] + bytes([content[-13] ^ 1]) + content[-12:])
    assert told(stage) == 'data.val_dataloader[0].seg_map_path.content: another content'


def test_weights_that_differ_are_named(stage, tiny_diffusion, tmp_path):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    stage.model.backbone.diffusion = str(tmp_path / 'weights')
    identity(stage).folder(tmp_path / 'run').begin()
    file = tmp_path / 'weights' / 'unet' / 'diffusion_pytorch_model.safetensors'
    state = load_file(file)
    state['conv_in.bias'] = state['conv_in.bias'] + 1
    save_file(state, file, metadata={'format': 'pt'})
    with pytest.raises(ValueError, match='another config: weights.weights: another content .fingerprint'):
        identity(stage).folder(tmp_path / 'run').result()


def test_another_noise_level_is_not_passed_over(straight, chain_folder):
    """The store of T = 600 does not serve a run that asks for T = 200."""
    cfg = chain_config(chain_folder)
    cfg.stages.synthesis.T = 200
    with pytest.raises(ValueError, match=r'samples that the settings do not ask for, first .* \(T: 600 → 200.*\): run'):
        train(cfg, straight[0])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'stages.synthesis.T': 0}, 'T'),
        ({'stages.synthesis.num_calls': 700}, '700'),
        ({'stages.synthesis.captions': 'nowhere.jsonl'}, 'nowhere.jsonl'),
        ({'stages.synthesis.steps': 3}, 'unknown keys'),
        ({'stages.synthesis.diffusion': 'nowhere'}, 'nowhere'),
        ({'train_dataloader.dataset.mix': dict(ratio=(3, 2))}, 'ratio'),
        ({'stages.polish': dict()}, 'unknown stages'),
    ],
)
def test_wrong_settings_are_found_before_the_warm_up(chain_folder, tmp_path, change, message):
    cfg = chain_config(chain_folder)
    cfg.merge_from_dict(change)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(cfg, tmp_path)
    assert not list(tmp_path.iterdir())
