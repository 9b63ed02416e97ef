"""Cached views: the same training where nothing is drawn, exact resume, what makes a file anew, and what is refused."""

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from tiny_chain import chain_config
from tiny_configs import tiny_configs
from tiny_views import BATCH, LABELLED, STEPS, files, same, self_improving, train, warmup, without_chance

from mmdiff2in1.core.tensor_file import is_whole, read_tensor_file
from mmdiff2in1.datasets import CachedViewsDataset, StreamKey
from mmdiff2in1.models import FrozenFeatures
from mmdiff2in1.training import cached_views, view_cache
from mmdiff2in1.training.cached_views import costs, with_cached_views
from mmdiff2in1.training.chain import dry_run
from mmdiff2in1.training.rehearsal import rehearse
from mmdiff2in1.training.runs import build_runner
from mmdiff2in1.training.stages import warmup_config
from mmdiff2in1.training.view_cache import ViewCache
from mmdiff2in1.training.view_settings import CachedViews


@pytest.fixture(autouse=True)
def mmseg_scope():
    init_default_scope('mmseg')


@pytest.fixture
def own_folder(chain_folder, tmp_path):
    """Scenes and weights that a test may change."""
    for name in ('scenes', 'weights'):
        shutil.copytree(chain_folder / name, tmp_path / 'own' / name)
    return tmp_path / 'own'


@pytest.mark.parametrize('kind', ['classes', 'normals'])
def test_without_chance_and_in_float32_the_training_is_the_same_to_the_bit(chain_folder, tmp_path, kind):
    made = tiny_configs(chain_folder)[kind]
    plain = without_chance(warmup(chain_folder, tmp_path / 'plain', made()))
    cached = without_chance(warmup(chain_folder, tmp_path / 'cached', made(), views=2, dtype='float32'))
    (losses, weights, _), (others, same_weights, _) = train(plain), train(cached)
    assert len(losses) == STEPS and losses == others
    assert same(weights, same_weights)


def test_float16_stays_within_its_rounding(chain_folder, tmp_path):
    """A feature keeps 11 bits: 2^-11 = 5e-4 of it; the first losses of a head of a few layers stay as close."""
    plain, _, _ = train(without_chance(warmup(chain_folder, tmp_path / 'plain')), 2)
    cached, _, _ = train(without_chance(warmup(chain_folder, tmp_path / 'cached', views=1)), 2)
    assert [step['loss'] for step in cached] == pytest.approx([step['loss'] for step in plain], rel=2e-3)
    assert cached != plain


def test_created_images_are_cached_too_and_their_labels_predicted_anew(chain_folder, tmp_path, straight):
    store = straight[0] / 'synthetic'
    plain = without_chance(self_improving(chain_folder, tmp_path / 'plain', store))
    cached = without_chance(self_improving(chain_folder, tmp_path / 'cached', store, views=1, dtype='float32'))
    # Of 3 + 2 images at once; alone, the cache computes in batches of the real ones.
    (losses, weights, _), (others, own, _) = train(plain), train(cached)
    assert {'synthetic/decode.loss_ce', 'kept_share/semantic_segmentation'} <= set(losses[0])
    for step, other in zip(losses, others, strict=True):
        for name in [name for name in step if name.endswith('acc_seg')]:  # a pixel whose classes are even may turn
            assert other.pop(name) == pytest.approx(step.pop(name), abs=0.1)
        assert other == pytest.approx(step, rel=1e-4)
    # A number without a gradient to speak of is moved by AdamW as far as the others, either way.
    apart = [~torch.isclose(weights[name], own[name], rtol=1e-3, atol=1e-4) for name in weights]
    assert sum(each.sum() for each in apart) < 1e-3 * sum(each.numel() for each in apart)
    assert losses[0]['synthetic/decode.loss_ce'] != losses[1]['synthetic/decode.loss_ce']


def test_killed_and_resumed_equals_straight(chain_folder, tmp_path, monkeypatch):
    """The cache is cut off after four files, the training after two steps."""
    straight = train(warmup(chain_folder, tmp_path / 'straight', views=2))
    cut = warmup(chain_folder, tmp_path / 'cut', views=2)
    written, write = [], view_cache.write_tensor_file

    def dies(file, tensors, facts):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(file)
        write(file, tensors, facts)

    with monkeypatch.context() as patch:
        patch.setattr(view_cache, 'write_tensor_file', dies)
        with pytest.raises(KeyboardInterrupt):
            with_cached_views(copy.deepcopy(cut))
    views = tmp_path / 'cut' / 'views'
    assert len(files(views)) == 4
    times = {file: file.stat().st_mtime_ns for file in written}
    train(copy.deepcopy(cut), 2)
    assert {file: file.stat().st_mtime_ns for file in written} == times
    losses, weights, _ = train(cut)
    assert losses == straight[0][2:] and same(weights, straight[1])
    assert files(views) == files(tmp_path / 'straight' / 'views') and len(files(views)) == 2 * LABELLED


def test_a_damaged_file_is_named_and_made_anew(chain_folder, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(cached_views, 'MMLogger', SimpleNamespace(get_current_instance=lambda: _Log(said)))
    cfg = warmup(chain_folder, tmp_path, views=2)
    with_cached_views(cfg)
    before = files(tmp_path / 'views')
    flipped, cut, gone, *_ = sorted((tmp_path / 'views').rglob('*.safetensors'))
    data = bytearray(flipped.read_bytes())
    data[-5] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-9])
    gone.unlink()
    assert not any(is_whole(file) for file in (flipped, cut, gone))
    listed = with_cached_views(cfg).train_dataloader.dataset
    damaged = [line.split(' is damaged')[0] for line in said if ' is damaged; ' in line]
    assert sorted(damaged) == [str(flipped), str(cut)]
    assert files(tmp_path / 'views') == before
    gone.unlink()
    dataset = CachedViewsDataset(listed.dataset, listed.files)
    with pytest.raises(RuntimeError, match=f'{gone.name} is missing or damaged; start the training again'):
        [dataset[StreamKey(i, position=p)] for i in range(LABELLED) for p in (0, LABELLED)]


class _Log:
    def __init__(self, said):
        self.info = self.warning = said.append


def test_what_has_changed_makes_other_files(own_folder, tmp_path):
    plain = warmup(own_folder, tmp_path)
    runner = build_runner(plain)

    def named(**changes):
        cfg = copy.deepcopy(plain)
        cfg.cached_views = dict(views=changes.pop('views', 1))
        cfg.merge_from_dict(changes)
        cache = ViewCache(cfg, runner, tmp_path, CachedViews.of(cfg), MMLogger.get_current_instance())
        return {f'{cache.folder.name}/{name}' for views in cache.names for name in views}

    first = named()
    assert len(first) == LABELLED
    assert named(**{'optim_wrapper.optimizer.lr': 1.0, 'model.decode_head.head.channels': 4}) == first
    assert len(named(views=2)) == 2 * LABELLED and named(views=2) > first
    for change in (
        {'cached_views.seed': 1},
        {'cached_views.dtype': 'float32'},
        {'train_dataloader.dataset.dataset.pipeline.4.prob': 0.4},
        {'model.data_preprocessor.mean': [127.0] * 3},
        {'model.backbone.feature.timestep': 51},
    ):
        assert not named(**change) & first, change
    dataset = DATASETS.build(plain.train_dataloader.dataset)
    used = [Path(dataset.get_data_info(i)['img_path']) for i in range(LABELLED)]
    shutil.copy(used[0], used[1])
    assert len(named() & first) == LABELLED - 1
    labels = used[0].parents[1] / 'semantic'
    shutil.copy(labels / used[0].name, labels / used[2].name)
    assert len(named() & first) == LABELLED - 2
    with torch.no_grad():
        runner.model.backbone.diffusion.unet.conv_in.bias += 1
    assert not named() & first


def test_every_view_is_seen_once_in_as_many_rounds_and_is_what_the_pipeline_gives(chain_folder, tmp_path):
    cfg = warmup(chain_folder, tmp_path, views=3, dtype='float32')
    listed = with_cached_views(cfg).train_dataloader.dataset
    dataset = CachedViewsDataset(listed.dataset, listed.files)
    dataset.full_init()
    assert len(dataset) == dataset.real_length == LABELLED

    def maps(position):
        item = dataset[StreamKey(2, position=position)]
        assert item['data_samples'].synthetic is False
        return tuple(item['inputs']['level.0'].flatten().tolist()), item['data_samples'].gt_sem_seg.data

    rounds = [maps(round_ * LABELLED + 5) for round_ in range(4)]
    assert len({features for features, _ in rounds[:3]}) == 3
    assert rounds[3][0] == rounds[0][0] and torch.equal(rounds[3][1], rounds[0][1])
    view = view_cache.made_view(dataset.dataset, 2, (2 + 1) % 3, 0)['data_samples']
    assert torch.equal(rounds[1][1], view.gt_sem_seg.data) and rounds[1][1].dtype == torch.int64
    assert view.flip == dataset[StreamKey(2, position=LABELLED)]['data_samples'].flip


def test_dry_run_says_what_it_takes_and_writes_nothing(chain_folder, tmp_path):
    cfg = chain_config(chain_folder, 'baselines')
    cfg.stages.warmup.cached_views = dict(views=2)
    (said, other, *_) = dry_run(copy.deepcopy(cfg), tmp_path / 'work')
    assert not (tmp_path / 'work').exists()
    assert said.startswith('warm-up: 12 files (2 views of 6 images, float16) in') and '12 of them to be made' in said
    assert other == 'self-improving: no cached_views, every step computes its features anew'
    stage = warmup_config(cfg, tmp_path / 'work' / 'warmup')
    with_cached_views(stage)
    held = [read_tensor_file(file)[0].values() for file in (tmp_path / 'work' / 'views').rglob('*.safetensors')]
    size = sum(tensor.numel() * tensor.element_size() for tensors in held for tensor in tensors)
    assert f'{size / 1e9:.3g} GB' in said
    assert next(costs({'warm-up': stage})).endswith(', all there')


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
def test_features_come_back_in_float32_under_autocast_too(dtype):
    """--amp: bfloat16 autocast on a CPU refuses to stack float16."""
    pyramid = tuple(torch.randn(2, 3, side, side).half().float() for side in (8, 4))
    frozen = FrozenFeatures((16, 24), pyramid=pyramid, images=torch.randn(2, 3, 16, 24).half().float())
    kept = [{n: t.to(getattr(torch, dtype)) if n != 'size' else t for n, t in each.items()} for each in frozen.kept()]
    with torch.autocast('cpu', torch.bfloat16):
        back = FrozenFeatures.of_kept({name: [each[name] for each in kept] for name in kept[0]})
    assert back.size == frozen.size and torch.equal(back.images, frozen.images)
    assert all(torch.equal(a, b) and b.dtype == torch.float32 for a, b in zip(pyramid, back.pyramid, strict=True))


def test_no_room_is_found_before_anything_is_written(chain_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(view_cache.shutil, 'disk_usage', lambda place: ConfigDict(free=1000))
    with pytest.raises(OSError, match='needs .* GB for 6 views, the disk has'):
        with_cached_views(warmup(chain_folder, tmp_path, views=1))
    assert not files(tmp_path / 'views')


def test_features_that_float16_cannot_hold(chain_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(view_cache.MOST, 'float16', 1e-3)
    with pytest.raises(
        ValueError, match=r"level.0 .* reaches .* float16 cannot hold; set cached_views.dtype='float32'"
    ):
        with_cached_views(warmup(chain_folder, tmp_path, views=1))


REFUSED = {
    'text adapter': ({'model.backbone.text_adapter': True}, 'the text adapter is trained, and stands before the U-Net'),
    'finetune': ({'model.backbone.regime': 'finetune'}, 'parts of DiffusionBackbone are trained'),
    'noise': ({'model.backbone.feature.noise': True}, 'drawn anew at every step; fix_draws=True gives each view'),
    'posterior': ({'model.backbone.feature.posterior': 'sample'}, 'noise or a sampled posterior'),
    'mosaic': (
        {'train_dataloader.dataset.dataset.pipeline.5': dict(type='RandomMosaic', prob=1.0)},
        'RandomMosaic puts several images into one',
    ),
    'batch augments': (
        {'model.data_preprocessor.batch_augments': [dict(type='BatchFixedSizePad', size=(40, 40))]},
        'batch_augments changes images',
    ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_where_it_would_be_wrong(chain_folder, tmp_path, name):
    change, reason = REFUSED[name]
    cfg = warmup(chain_folder, tmp_path, views=1)
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match=f'cached_views cannot be used here: .*{reason}'):
        with_cached_views(cfg)
    assert not files(tmp_path / 'views')


def test_a_backbone_that_is_trained_from_the_first_layer_is_refused_before_the_chain_starts(chain_folder, tmp_path):
    cfg = tiny_configs(chain_folder)['plain']()
    cfg.work_dir, cfg.cached_views = str(tmp_path), dict(views=1)
    with pytest.raises(ValueError, match='training cannot run: cached_views: .*MixVisionTransformer is trained from'):
        rehearse({'training': cfg})


def test_fixed_draws_are_those_of_the_view(chain_folder, tmp_path):
    """Computed alone or among others, at once or after a kill: the noise is that of (seed, sample, view)."""

    def cfg(folder, **views):
        stage = without_chance(warmup(chain_folder, tmp_path / folder, fix_draws=True, **views))
        stage.model.backbone.feature.noise = True
        return stage

    with_cached_views(cfg('both', views=2))
    with_cached_views(cfg('one', views=1))
    with_cached_views(cfg('one', views=2))
    both = files(tmp_path / 'both' / 'views')
    assert both == files(tmp_path / 'one' / 'views') and len(set(both.values())) == 2 * LABELLED


@pytest.mark.parametrize(
    ('asked', 'said'),
    [
        (dict(view=2), 'cached_views has view; known: views, dtype'),
        (dict(dtype='float32'), 'cached_views does not say how many views'),
        (dict(views=0), 'cached_views.views is 0, expected an integer of 1 or more'),
        (dict(views=2, dtype='int8'), "cached_views.dtype is 'int8'; known: float16, float32"),
    ],
)
def test_impossible_settings(asked, said):
    with pytest.raises(ValueError, match=said):
        CachedViews.of(dict(cached_views=asked))
    assert CachedViews.of({}) is None and CachedViews.of(dict(cached_views=None)) is None


def test_a_batch_is_smaller_than_the_images(chain_folder):
    """What the tests above rely on: several batches, the last of them whole."""
    assert LABELLED % BATCH == 0 and LABELLED > BATCH
