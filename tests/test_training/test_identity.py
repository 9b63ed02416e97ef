"""A stage is skipped only if everything it was made from is the same, and nothing else counts."""

import copy

import pytest
from safetensors.torch import load_file, save_file
from tiny_chain import chain_config

from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.identity import fingerprint, store_mark, weights_mark
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
    assert fingerprint(stage, ['a']) != fingerprint(stage, ['b'])


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
    with pytest.raises(ValueError, match='holds this stage of another config, of other weights'):
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


def test_a_stage_folder_tells_its_own_result_from_another(tmp_path):
    folder = StageFolder(tmp_path, 'a' * 64)
    assert folder.result() is None
    folder.begin()
    assert folder.result() is None
    folder.finish(iters=3)
    assert StageFolder(tmp_path, 'a' * 64).result() == {'iters': 3}
    with pytest.raises(ValueError, match='fingerprint aaaaaaaa, expected bbbbbbbb'):
        StageFolder(tmp_path, 'b' * 64).result()


def test_another_noise_level_is_not_passed_over(straight, chain_folder):
    """The store of T = 600 does not serve a run that asks for T = 200."""
    cfg = chain_config(chain_folder)
    cfg.stages.synthesis.T = 200
    with pytest.raises(ValueError, match='samples that the settings do not ask for'):
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
