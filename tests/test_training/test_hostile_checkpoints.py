"""Every way into which a checkpoint is handed to this package: nothing in the file is run."""

import builtins
import shutil

import hostile
import pytest
import torch
from checkpoint_entries import ENTRIES, runner
from mmengine.runner import CheckpointLoader
from tiny_chain import chain_config

import mmdiff2in1.engine
import mmdiff2in1.models
from mmdiff2in1.engine.stage_folder import StageFolder
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.synthesis.generator import take_trained_unet
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.identity import fingerprint
from mmdiff2in1.training.stages import warmup_config


def unet(path, diffusion=None):
    take_trained_unet(LatentDiffusion.from_config(diffusion), str(path))


@pytest.mark.parametrize('kind', ['system', 'replaces eval'])
@pytest.mark.parametrize('entry', ENTRIES)
def test_nothing_of_a_file_is_run(entry, kind, tmp_path):
    watch = hostile.Watch(tmp_path / 'ran')
    path = hostile.write(kind, tmp_path / 'iter_1.pth', watch.marker, optimizer={}, param_schedulers=[])
    with pytest.raises(ValueError, match=r'iter_1\.pth (holds|cannot be read)'):
        ENTRIES[entry](path)
    watch.assert_nothing_ran()


def test_the_config_in_a_checkpoint_is_not_run(tmp_path):
    """mmengine runs `meta.config` as Python on resume, to count GPUs."""
    first = runner(tmp_path / 'run')
    first.train()
    file = tmp_path / 'run' / 'iter_1.pth'
    content = CheckpointLoader.load_checkpoint(str(file), 'cpu')
    content['meta']['config'] = f"import os\nos.system('touch {tmp_path / 'ran'}')\n"
    torch.save(content, file)
    resumed = runner(tmp_path / 'run', resume=True, load_from=str(file))
    resumed.train()
    assert resumed.iter == 2 and torch.equal(resumed.model.weight, first.model.weight)
    assert not (tmp_path / 'ran').exists()


def test_a_shared_warm_up_is_not_run(chain_folder, tmp_path):
    cfg = chain_config(chain_folder, 'baselines')
    cfg.stages.warmup.work_dir = str(tmp_path / 'warmup')
    watch = hostile.Watch(tmp_path / 'ran')
    folder = StageFolder(tmp_path / 'warmup', fingerprint(warmup_config(cfg, tmp_path / 'warmup')))
    folder.finish(checkpoint='iter_20.pth', iters=20, seconds=1.0, metrics={})
    hostile.write('system', tmp_path / 'warmup' / 'iter_20.pth', watch.marker)
    with pytest.raises(ValueError, match=r'iter_20\.pth holds posix\.system'):
        train(cfg, tmp_path / 'run')
    watch.assert_nothing_ran()


def test_a_trained_unet_and_a_folder_in_pickles(tiny_diffusion_config, tmp_path):
    watch = hostile.Watch(tmp_path / 'ran')
    path = hostile.write('system', tmp_path / 'unet.pth', watch.marker)
    with pytest.raises(ValueError, match='posix.system'):
        unet(path, tiny_diffusion_config)
    LatentDiffusion.from_config(tiny_diffusion_config).save_folder(tmp_path / 'weights')
    for file in (tmp_path / 'weights' / 'unet').glob('*.safetensors'):
        file.unlink()
    shutil.copy(path, tmp_path / 'weights' / 'unet' / 'diffusion_pytorch_model.bin')
    with pytest.raises((OSError, ValueError)):
        LatentDiffusion.from_pretrained(tmp_path / 'weights')
    watch.assert_nothing_ran()


@pytest.mark.parametrize('name', ['s3://a/b.pth', 'petrel:s3://a/b.pth', 'pavi://a', 'torchvision://nothing-such'])
def test_what_mmengine_would_fetch_unsafely_is_refused(name):
    with pytest.raises((ValueError, ImportError), match=r'copy it to a file|no such model|torchvision'):
        CheckpointLoader.load_checkpoint(name)


def test_what_is_fetched_is_read_alike(tmp_path, monkeypatch):
    """From an address: the file of the cache, which torch would read unsafely."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    watch = hostile.Watch(tmp_path / 'ran')
    (tmp_path / 'hub' / 'checkpoints').mkdir(parents=True)
    hostile.write('system', tmp_path / 'hub' / 'checkpoints' / 'model.pth', watch.marker)
    with pytest.raises(ValueError, match=r'model\.pth holds posix\.system'):
        CheckpointLoader.load_checkpoint('https://example.org/models/model.pth')
    watch.assert_nothing_ran()


def test_every_reader_of_mmengine_is_ours():
    readers = CheckpointLoader._schemes.values()
    assert {reader.__module__ for reader in readers} == {mmdiff2in1.models.mmengine_checkpoints.__name__}
    assert builtins.eval is eval
