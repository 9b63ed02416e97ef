"""`mmdiff2in1 denoise` end to end on eight scenes: what it writes, what starts from it, resume, what it refuses."""

import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image
from tiny_chain import chain_config

from mmdiff2in1.__main__ import main
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.config_options import change
from mmdiff2in1.models.checkpoints import load_weights, read_checkpoint, still_to_learn
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.unlabelled import UnlabelledPool
from mmdiff2in1.training.denoising import Denoising, check_denoising, pretrain_as_denoiser
from mmdiff2in1.training.distillation import plain_config
from mmdiff2in1.training.runs import build_runner, resume_where_possible
from mmdiff2in1.training.wrapping import wrap_config

WIDTH, SIZE = 4, 32


@pytest.fixture(scope='module')
def photos(chain_folder, tmp_path_factory):
    """Five images without labels: mirrored scenes."""
    folder = tmp_path_factory.mktemp('photos')
    for path in sorted((chain_folder / 'scenes/train/images').glob('*.png'))[:5]:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / path.name)
    return folder


def options(chain_folder) -> dict:
    """What makes ``unet_scenes`` a matter of seconds."""
    roots = {f'{part}_dataloader.dataset.data_root': str(chain_folder / 'scenes') for part in ('train', 'val', 'test')}
    return roots | {
        'model.backbone.base_channels': WIDTH,
        'model.decode_head.in_channels': WIDTH,
        'model.decode_head.channels': WIDTH,
        'model.data_preprocessor.size': (SIZE, SIZE),
        'train_dataloader.dataset.num_labelled': 3,
        'train_dataloader.dataset.pipeline.2.scale': (SIZE, SIZE),
        'train_dataloader.dataset.pipeline.3.crop_size': (SIZE, SIZE),
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
    }


def small(chain_folder) -> Config:
    cfg = read_config('unet_scenes')
    change(cfg, options(chain_folder))
    return cfg


def denoise(chain_folder, photos, work_dir, *flags):
    given = [f'{key}={value}' for key, value in options(chain_folder).items() if not isinstance(value, tuple)]
    given += [f'{key}=({SIZE},{SIZE})' for key, value in options(chain_folder).items() if isinstance(value, tuple)]
    asked = ('--images', str(photos), '--iters', '4', '--batch-size', '4', '--work-dir', str(work_dir))
    main(['denoise', 'unet_scenes', *asked, *flags, '--cfg-options', *given])


def test_what_is_written_and_what_starts_from_it(chain_folder, photos, tmp_path, capsys):
    work_dir = tmp_path / 'work'
    denoise(chain_folder, photos, work_dir)
    out = capsys.readouterr().out
    written = work_dir / 'denoiser.pth'
    assert f'mmdiff2in1 train unet_scenes --cfg-options load_from={written}\n' in out
    assert {each.name for each in work_dir.iterdir()} >= {'denoiser.pth', 'denoised.png', 'curves.png'}
    assert Image.open(work_dir / 'denoised.png').size[1] > 4 * 128

    # Names of the plain segmentor, but for its last layer.
    cfg, learned = small(chain_folder), read_checkpoint(written)['state_dict']
    init_default_scope('mmseg')
    expected = MODELS.build(cfg.model).state_dict()
    assert set(expected) - set(learned) == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    assert not set(learned) - set(expected)

    # A plain training, and both models of a self-improving one, start from it.
    wrapped = wrap_config(cfg, 'paste', load_from=str(written))
    wrapped.pop('stages')
    cfg.load_from = str(written)
    for name, config, prefixes in (('plain', cfg, ['']), ('both', wrapped, ['exploiter.', 'creator.'])):
        config.work_dir = str(tmp_path / name)
        runner = build_runner(config)
        runner.load_or_resume()
        started = runner.model.state_dict()
        for prefix in prefixes:
            assert all(torch.equal(started[f'{prefix}{name}'], tensor) for name, tensor in learned.items())

    # Asked again, it is not trained again.
    before = written.read_bytes()
    denoise(chain_folder, photos, work_dir)
    assert 'denoising: finished before, skipped' in capsys.readouterr().out
    again = read_checkpoint(written)['state_dict']
    assert len(before) and all(torch.equal(again[name], tensor) for name, tensor in learned.items())


def test_images_smaller_than_a_crop(chain_folder, tmp_path):
    """They are padded, in the picture as in the training."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    for index, size in enumerate([(20, 300), (7, 7), (400, 31)]):
        Image.new('RGB', size, (90, 40 * index, 0)).save(photos / f'{index}.png')
    denoise(chain_folder, photos, tmp_path / 'work')
    assert (tmp_path / 'work/denoised.png').is_file()


def test_other_images_in_the_same_work_dir(chain_folder, photos, tmp_path, capsys):
    """What a store lists and the second call does not name is an error that says what to do here."""
    work_dir, fewer = tmp_path / 'work', tmp_path / 'fewer'
    fewer.mkdir()
    shutil.copy(min(photos.iterdir()), fewer)
    UnlabelledPool.of(str(photos)).add(SampleStore(work_dir / 'images'))
    said = refusal(capsys, chain_folder, fewer, work_dir)
    assert '4 images that --images does not name' in said and 'delete that folder' in said and 'prune' not in said
    assert '--images=' in refusal(capsys, chain_folder, tmp_path / 'nowhere', work_dir)


def test_a_perceiver_learns_what_is_not_frozen(chain_folder, photos, tmp_path):
    """Of a frozen diffusion model under a head, in a self-improving config, the head alone is trained and written."""
    cfg = chain_config(chain_folder)
    written = pretrain_as_denoiser(cfg, Denoising(images=str(photos), iters=2, batch_size=2), tmp_path)
    learned = read_checkpoint(written)
    init_default_scope('mmseg')
    plain = MODELS.build(plain_config(cfg).model)
    trained = {name for name, parameter in plain.named_parameters() if parameter.requires_grad}
    assert {name for name in learned['state_dict'] if name in dict(plain.named_parameters())} == {
        name for name in trained if not name.startswith('decode_head.head.conv_seg')
    }
    assert still_to_learn(str(written)) == ['decode_head.head.conv_seg']


def test_killed_and_resumed_equals_straight(chain_folder, tmp_path):
    """The noise of a step is that of the step, wherever it starts."""

    def run(name, *lengths):
        for steps in lengths:
            stage = Denoising(iters=4, batch_size=2).config(small(chain_folder), tmp_path / name)
            stage.train_cfg.max_iters = steps
            stage.default_hooks.checkpoint.interval = 2
            init_default_scope('mmseg')
            resume_where_possible(stage)
            runner = build_runner(stage)
            runner.train()
        return runner.model.state_dict()

    straight, resumed = run('straight', 4), run('resumed', 2, 4)
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def refusal(capsys, chain_folder, photos, work_dir) -> str:
    """What a dry run says when it ends with an error."""
    with pytest.raises(SystemExit) as end:
        denoise(chain_folder, photos, work_dir, '--dry-run')
    said = capsys.readouterr()
    assert end.value.code not in (0, None)
    return f'{end.value.code}{said.out}{said.err}'


def test_images_of_the_test_set_are_refused(chain_folder, tmp_path, capsys):
    shutil.copytree(chain_folder / 'scenes/test/images', tmp_path / 'photos')
    said = refusal(capsys, chain_folder, tmp_path / 'photos', tmp_path / 'work')
    assert '4 of 4 unlabelled images are also images of the test set' in said
    assert 'Take them out of --images' in said


def test_a_key_of_the_data_set_that_nothing_reads(chain_folder, tmp_path):
    cfg = plain_config(chain_config(chain_folder))
    cfg.train_dataloader.dataset = dict(
        type='SyntheticSampleDataset', dataset=cfg.train_dataloader.dataset, num_labelled=3
    )
    with pytest.raises(ValueError, match='num_labelled'):
        check_denoising(cfg, Denoising(iters=2, batch_size=2), tmp_path / 'work')


def test_a_dry_run_counts_and_writes_nothing(chain_folder, photos, tmp_path, capsys):
    denoise(chain_folder, photos, tmp_path / 'work', '--dry-run')
    out = capsys.readouterr().out
    assert '5 images without labels beside the training set, 4 steps of 4' in out
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--iters', '0'), '--iters 0: expected 1 or more'),
        (('--lr', '0'), '--lr 0.0: expected a number > 0'),
        (('--lr', 'nan'), '--lr nan: expected a number > 0'),
        (('--noise', '0.5', '0.2'), '--noise 0.5 0.2: expected a number in (0, 1], or the lowest and the highest'),
    ],
)
def test_numbers_that_cannot_be(flags, message, capsys):
    with pytest.raises(SystemExit):
        main(['denoise', 'unet_scenes', *flags])
    assert message in capsys.readouterr().err


def test_who_labels_must_have_learned_first(chain_folder, tmp_path):
    """A denoiser knows no classes: where θ_C labels, the config's own training comes first, from the denoiser."""
    torch.save(
        dict(state_dict=dict(x=torch.ones(1)), meta=dict(load_from_may_differ=['decode_head.conv_seg'])),
        tmp_path / 'd.pth',
    )
    torch.save(dict(state_dict=dict(x=torch.ones(1)), meta={}), tmp_path / 'trained.pth')
    warmups = {
        name: 'warmup' in wrap_config(small(chain_folder), 'careful', str(tmp_path / name), diffusion='x').stages
        for name in ('d.pth', 'trained.pth')
    }
    assert warmups == {'d.pth': True, 'trained.pth': False}
    assert still_to_learn(str(tmp_path / 'nothing.pth')) == still_to_learn(None) == []
    torch.save(dict(state_dict=dict(x=torch.ones(1)), meta=None), tmp_path / 'foreign.pth')
    assert still_to_learn(str(tmp_path / 'foreign.pth')) == []
    (tmp_path / 'damaged.pth').write_bytes(b'no checkpoint')
    assert still_to_learn(str(tmp_path / 'damaged.pth')) == []


def test_a_denoiser_is_no_trained_model(tmp_path):
    """Where a trained one is expected, as in a test or an export, it is told what it is."""
    torch.save(
        dict(state_dict=dict(weight=torch.ones(1, 1)), meta=dict(load_from_may_differ=['bias'])), tmp_path / 'd.pth'
    )
    with pytest.raises(RuntimeError, match=r'd\.pth is no trained model: .* lacks bias, as one of mmdiff2in1 denoise'):
        load_weights(torch.nn.Linear(1, 1), tmp_path / 'd.pth')
