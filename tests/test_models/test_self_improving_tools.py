"""mmseg's and mmengine's tools on the self-improving segmentor: configs, inference, TTA, a whole run; other tasks.

Images are 32 x 32 unless said, K = 3 classes.
"""

import copy

import mmseg.models  # noqa: F401  registers mmseg's parts
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.apis import inference_model, init_model
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import DATASETS, MODELS
from mmseg.structures import SegDataSample

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor
from mmdiff2in1.models.self_improving.construction import build_tasks
from mmdiff2in1.tasks import Depth, SemanticSegmentation

K, SIZE = 3, 32
BN = dict(type='BN', requires_grad=True)
PREPROCESSOR = dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size=(SIZE, SIZE))


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def config(**settings):
    backbone = dict(
        type='ResNetV1c', depth=18, base_channels=4, stem_channels=4, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1,), norm_cfg=BN,
    )  # fmt: skip
    head = dict(
        type='FCNHead', in_channels=8, in_index=0, channels=4, num_convs=1, concat_input=False, dropout_ratio=0,
        num_classes=K, norm_cfg=BN,
    )  # fmt: skip
    plain = dict(
        type='EncoderDecoder', data_preprocessor=PREPROCESSOR, backbone=backbone, decode_head=head, train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )  # fmt: skip
    return ConfigDict(copy.deepcopy(plain | settings))


def randomise(segmentor, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in segmentor.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0.0 if 'running_var' in name else 0.5))
    return segmentor


def wrapped(segmentor=None, **settings):
    """θ_C and θ_E with unlike weights."""
    model = SelfImprovingSegmentor(segmentor or config(), **settings)
    randomise(model.exploiter, 1)
    randomise(model.creator, 2)
    return model.eval()


def plain(seed, **settings):
    return randomise(MODELS.build(config(**settings)), seed).eval()


def images(size=SIZE):
    return [torch.randint(0, 256, (3, size, size), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)]


def samples(size=SIZE, **meta):
    shape = (size, size)
    return [SegDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, img_path='a.png', **meta))]


def test_the_creator_predicts_unless_asked_otherwise():
    model, data = wrapped(), dict(inputs=images(), data_samples=samples())
    by_creator, by_exploiter = (plain(seed).test_step(copy.deepcopy(data))[0].seg_logits.data for seed in (2, 1))

    def predicted():
        return model.test_step(copy.deepcopy(data))[0].seg_logits.data

    assert not torch.equal(by_creator, by_exploiter)
    assert torch.equal(predicted(), by_creator)
    with model.evaluated('exploiter') as same:
        assert same is model and model.evaluate == 'exploiter'
        assert torch.equal(predicted(), by_exploiter)
        with model.evaluated('creator'):
            assert torch.equal(predicted(), by_creator)
        assert torch.equal(model.val_step(copy.deepcopy(data))[0].seg_logits.data, by_exploiter)
    assert torch.equal(predicted(), by_creator)
    with pytest.raises(RuntimeError), model.evaluated('exploiter'):
        raise RuntimeError
    assert model.evaluate == 'creator'
    assert torch.equal(wrapped(evaluate='exploiter').test_step(data)[0].seg_logits.data, by_exploiter)


def test_tensor_mode_is_the_model_under_evaluation():
    x = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(wrapped()(x), plain(2)(x))
    assert torch.equal(wrapped(evaluate='exploiter')(x, mode='tensor'), plain(1)(x))


@pytest.mark.parametrize('which', ['theta_c', '', None])
def test_an_unknown_model_lists_the_known(which):
    with pytest.raises(ValueError, match='creator, exploiter'):
        SelfImprovingSegmentor(config(), evaluate=which)
    model = wrapped()
    with pytest.raises(ValueError, match='creator, exploiter'), model.evaluated(which):
        pass
    assert model.evaluate == 'creator'


def test_slide_inference():
    settings = dict(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(20, 20)))
    data = dict(inputs=images(48), data_samples=samples(48))
    expected = plain(2, **settings).test_step(copy.deepcopy(data))[0].seg_logits.data
    whole = plain(2).test_step(copy.deepcopy(data))[0].seg_logits.data
    assert torch.equal(wrapped(config(**settings)).test_step(data)[0].seg_logits.data, expected)
    assert not torch.equal(whole, expected)


@pytest.mark.parametrize('as_config', [True, False])
def test_test_time_augmentation(as_config):
    flipped = samples(flip=True, flip_direction='horizontal')
    data = dict(inputs=[images(), [images()[0].flip(-1)]], data_samples=[samples(flip=False), flipped])
    model = wrapped()
    if as_config:
        tta = MODELS.build(dict(type='SegTTAModel', module=dict(type='SelfImprovingSegmentor', segmentor=config())))
        tta.module.load_state_dict(model.state_dict())
    else:
        tta = MODELS.build(dict(type='SegTTAModel', module=model))
    reference = MODELS.build(dict(type='SegTTAModel', module=plain(2))).eval()
    merged = tta.eval().test_step(copy.deepcopy(data))[0].pred_sem_seg.data
    assert torch.equal(merged, reference.test_step(data)[0].pred_sem_seg.data)
    assert len(merged.unique()) > 1


def test_attributes_are_those_of_the_model_under_evaluation():
    model = wrapped()
    for name in ('backbone', 'decode_head', 'test_cfg', 'train_cfg'):
        assert getattr(model, name) is getattr(model.creator, name)
        with model.evaluated('exploiter'):
            assert getattr(model, name) is getattr(model.exploiter, name)
    assert (model.num_classes, model.out_channels, model.align_corners) == (K, K, False)
    assert (model.with_decode_head, model.with_neck, model.with_auxiliary_head) == (True, False, False)
    assert not hasattr(model, 'neck')


def test_complexity_tool_counts_the_creators_forward():
    x = torch.zeros(1, 3, SIZE, SIZE)
    of_wrapper = get_model_complexity_info(wrapped(), inputs=x, show_table=False, show_arch=False)
    of_plain = get_model_complexity_info(plain(2), inputs=x, show_table=False, show_arch=False)
    assert of_wrapper['flops'] == of_plain['flops'] > 0


def test_init_model_and_inference_model(tmp_path):
    model = wrapped()
    meta = dict(dataset_meta=dict(classes=('a', 'b', 'c'), palette=[[0] * 3] * 3))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / 'model.pth')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=dict(type='SelfImprovingSegmentor', segmentor=config()),
            test_pipeline=pipeline,
        )
    )
    loaded = init_model(cfg, str(tmp_path / 'model.pth'), device='cpu')
    assert loaded.dataset_meta['classes'] == ('a', 'b', 'c')
    image = images()[0].numpy().transpose(1, 2, 0)
    expected = plain(2).test_step(dict(inputs=images(), data_samples=samples()))[0]
    assert torch.equal(inference_model(loaded, image).seg_logits.data, expected.seg_logits.data)


def test_config_that_replaces_the_model_of_its_base(tmp_path):
    (tmp_path / 'base.py').write_text(f'model = {config().to_dict()}\n')
    wrapper = "type='SelfImprovingSegmentor', segmentor=_base_.model)\n"
    (tmp_path / 'good.py').write_text(f"_base_ = ['base.py']\nmodel = dict(_delete_=True, {wrapper}")
    (tmp_path / 'bad.py').write_text(f"_base_ = ['base.py']\nmodel = dict({wrapper}")
    good = MODELS.build(Config.fromfile(tmp_path / 'good.py').model)
    assert type(good.exploiter).__name__ == 'EncoderDecoder'
    with pytest.raises(TypeError, match=r'also got backbone, decode_head, test_cfg.*\(_delete_=True, type='):
        MODELS.build(Config.fromfile(tmp_path / 'bad.py').model)


def test_segmentor_is_required_and_its_config_untouched():
    with pytest.raises(TypeError, match=r'segmentor=None.*_delete_=True'):
        SelfImprovingSegmentor()
    given = config()
    SelfImprovingSegmentor(given)
    assert given == config()
    SelfImprovingSegmentor(given.to_dict())  # a plain dict does as well


def test_one_data_preprocessor():
    model = wrapped()
    assert model.data_preprocessor is model.creator.data_preprocessor is model.exploiter.data_preprocessor
    torch.testing.assert_close(model.data_preprocessor.mean, torch.full((3, 1, 1), 120.0))
    # A runner gives the config's top-level one to every model without its own: the wrapped segmentor has its own, and
    # keeps it in both stages.
    other = PREPROCESSOR | dict(size=(64, 64))
    kept = SelfImprovingSegmentor(config(), data_preprocessor=other).exploiter.data_preprocessor
    assert kept.size == PREPROCESSOR.get('size')
    bare = config(data_preprocessor=None)
    assert SelfImprovingSegmentor(bare, data_preprocessor=other).exploiter.data_preprocessor.size == (64, 64)
    data = dict(inputs=images(), data_samples=samples())
    assert torch.equal(
        model.exploiter.test_step(copy.deepcopy(data))[0].seg_logits.data, plain(1).test_step(data)[0].seg_logits.data
    )


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(normalize_by='mean'), "'mean'; known: batch, real"),
        (dict(synthetic_weight=-1.0), 'synthetic_weight=-1.0.*at least 0'),
        (dict(synthetic_weight=float('nan')), 'synthetic_weight=nan'),
        (dict(synthetic_weight='much'), "synthetic_weight='much': expected a finite number, at least 0"),
        (dict(min_confidence=1.5), r'min_confidence=1.5.*\[0, 1\]'),
        (dict(min_confidence=0.5, use_stored_labels=True), 'drop all but one'),
        (dict(min_confidence=0.5, task=dict(type='SurfaceNormal')), "'normal' gives no confidence"),
        (dict(task=dict(type='SemanticSegmentation', num_classes=7)), 'task has 7 classes, the decode head 3'),
        (dict(task=dict(type='Depth')), 'has 1 channels, the decode head puts out 3'),
        (
            dict(task=dict(type='SemanticSegmentation', num_classes=3, ignore_index=200)),
            'ignores 200, the decode head 255',
        ),
        (
            dict(task=[dict(type='SemanticSegmentation', num_classes=3), dict(type='Depth')]),
            'has 4 channels.*TaskHeads',
        ),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SelfImprovingSegmentor(config(), **settings)


def test_the_default_task_is_that_of_the_decode_head():
    segmentor = config()
    segmentor.decode_head.ignore_index = 9
    task = SelfImprovingSegmentor(segmentor).tasks.only
    assert isinstance(task, SemanticSegmentation)
    assert (task.num_classes, task.ignore_index) == (K, 9)


@MODELS.register_module()
class DepthHeadOfTheTest(FCNHead):
    """Metres, learnt by the absolute error on known pixels."""

    def forward(self, inputs):
        return F.softplus(super().forward(inputs))

    def loss_by_feat(self, metres, batch_data_samples):
        target = torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])
        known = target > 0
        metres = F.interpolate(metres, size=target.shape[2:], mode='bilinear')
        return dict(loss_depth=((metres - target).abs() * known).sum() / known.sum())


@pytest.mark.parametrize('max_depth', [None, 80.0])
def test_mmsegs_depth_estimator_predicts_depth_by_itself(max_depth):
    """Without `task` it is not taken for two classes; a head that knows its range says it."""
    segmentor = config()
    segmentor.type = 'DepthEstimator'
    segmentor.decode_head.update(type='DepthHeadOfTheTest', num_classes=1, threshold=0.5)
    model = SelfImprovingSegmentor(segmentor)
    assert isinstance(model.tasks.only, Depth) and model.tasks.only.max_depth == 10.0
    model.exploiter.decode_head.max_depth = max_depth
    assert build_tasks(None, model.exploiter).only.max_depth == (max_depth or 10.0)


def test_depth():
    segmentor = config()
    segmentor.decode_head.update(type='DepthHeadOfTheTest', num_classes=1, threshold=0.5)
    model = wrapped(segmentor, task=dict(type='Depth', max_depth=10.0), normalize_by='real')
    x = torch.randn(2, 3, SIZE, SIZE)
    batch = [*samples(synthetic=False), *samples(synthetic=True)]
    batch[1].set_metainfo(dict(img_shape=(16, SIZE)))
    for sample in batch:
        sample.set_data(dict(gt_depth_map=PixelData(data=torch.full((1, SIZE, SIZE), 4.0))))
    losses = model.loss(x, batch)
    with torch.no_grad():
        metres = [
            F.interpolate(m._forward(x), size=(SIZE, SIZE), mode='bilinear') for m in (model.creator, model.exploiter)
        ]
    torch.testing.assert_close(losses['real/decode.loss_depth'], (metres[1][0] - 4).abs().mean())
    expected = (metres[1][1, :, :16] - metres[0][1, :, :16]).abs().mean()
    torch.testing.assert_close(losses['synthetic/decode.loss_depth'], expected)
    assert losses['kept_share/depth'] == 1
    model.parse_losses(losses)[0].backward()


@DATASETS.register_module()
class MixedScenesOfTheTest(torch.utils.data.Dataset):
    """Eight images, every second one synthetic."""

    metainfo = dict(classes=('a', 'b', 'c'), palette=[[0] * 3] * 3)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        sample = samples(synthetic=index % 2 == 1)[0]
        sample.gt_sem_seg = PixelData(data=torch.from_numpy(generator.integers(0, K, (1, SIZE, SIZE))))
        image = torch.from_numpy(generator.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8))
        return dict(inputs=image, data_samples=sample)


def run(work_dir, load_from=None, **model):
    loader = dict(batch_size=4, num_workers=0, dataset=dict(type='MixedScenesOfTheTest'))
    runner = Runner(
        model=dict(type='SelfImprovingSegmentor', segmentor=config(data_preprocessor=None), **model),
        work_dir=str(work_dir),
        data_preprocessor=PREPROCESSOR,
        train_dataloader=loader | dict(sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01)),
        val_dataloader=loader | dict(sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        load_from=load_from,
        default_scope='mmseg',
        experiment_name=work_dir.name,
        randomness=dict(seed=0),
        log_level='WARNING',
    )
    runner.train()
    return runner


def test_a_run_of_mmengine_from_a_plain_checkpoint(tmp_path):
    start = plain(5)
    torch.save(dict(meta={}, state_dict=start.state_dict()), tmp_path / 'plain.pth')
    runner = run(tmp_path / 'first', load_from=str(tmp_path / 'plain.pth'))
    model, start = runner.model, start.state_dict()
    for name, tensor in model.creator.state_dict().items():
        assert torch.equal(tensor, start[name]), name  # no hook averages here: θ_C stays at its start
    moved = [not torch.equal(tensor, start[name]) for name, tensor in model.exploiter.named_parameters()]
    assert all(moved)
    assert {
        'train/real/decode.loss_ce',
        'train/synthetic/decode.loss_ce',
        'train/kept_share/semantic_segmentation',
    } <= set(runner.message_hub.log_scalars)
    stored = torch.load(tmp_path / 'first' / 'iter_2.pth', weights_only=False)['state_dict']
    assert stored.keys() == model.state_dict().keys()
    assert all(torch.equal(stored[key], tensor) for key, tensor in model.state_dict().items())

    foreign = {f'other.{name}': tensor for name, tensor in start.items()}
    torch.save(dict(meta={}, state_dict=foreign), tmp_path / 'foreign.pth')
    with pytest.raises(RuntimeError, match=r'(?s)does not fit.*missing \d+: exploiter.backbone'):
        run(tmp_path / 'second', load_from=str(tmp_path / 'foreign.pth'))
