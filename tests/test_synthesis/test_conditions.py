"""Layout-conditioned creation: label maps read as in the training, drawn, in recipes, shown, and true of the image."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import write_png
from mmdiff2in1.synthesis import (
    Condition,
    ConditionPictures,
    LabelMaps,
    SampleRecipe,
    SampleStore,
    create_batch,
    prepare,
    synthesize_from_config,
)
from mmdiff2in1.tasks import Depth, SurfaceNormal

SIZE = (10, 20)
PALETTE = [[10, 0, 0], [0, 20, 0], [0, 0, 30]]
CLASSES = dict(classes=['floor', 'wall', 'ball'], palette=PALETTE)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture
def root(tmp_path):
    """Three images; classes 1 … 3 with 0 for ignored, as in ADE20K; depth; normals in another frame."""
    rng = np.random.default_rng(0)
    for index in range(3):
        write_png(tmp_path / f'images/{index}.png', rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        write_png(tmp_path / f'classes/{index}.png', rng.integers(0, 4, SIZE, dtype=np.uint8))
        write_png(tmp_path / f'depth/{index}.png', Depth().encode(rng.uniform(1, 9, SIZE)))
        vectors = rng.normal(size=(*SIZE, 3))
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        write_png(tmp_path / f'normal/{index}.png', SurfaceNormal().encode(vectors))
    return tmp_path


def raw(root, folder, index=0):
    return np.asarray(Image.open(root / f'{folder}/{index}.png'))


@pytest.fixture
def cfg(root, tiny_diffusion_config):
    dataset = dict(
        type='BaseSegDataset', data_root=str(root), img_suffix='.png', metainfo=CLASSES, reduce_zero_label=True,
        data_prefix=dict(img_path='images', seg_map_path='classes'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True),
            dict(type='RandomFlip', prob=1.0), dict(type='PackSegInputs'),
        ],
    )  # fmt: skip
    branch = dict(conditioning_embedding_out_channels=(4, 8))
    synthesis = dict(
        diffusion=tiny_diffusion_config | dict(controlnet=branch), caption_fallback='a red ball', samples_per_image=1,
        T=1000, num_calls=2, size=8, device='cpu', condition='semantic_segmentation',
    )  # fmt: skip
    wrapped = dict(type='SyntheticSampleDataset', dataset=dataset, store=None)
    return Config(dict(train_dataloader=dict(dataset=wrapped), stages=dict(synthesis=synthesis)))


def dense(root, **settings):
    """A set with depth and normals."""
    dataset = dict(
        type='DenseMapDataset', data_root=str(root), label_axes=('-x', '-y', '-z'),
        data_prefix=dict(img_path='images', depth_map_path='depth', normal_map_path='normal'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadDenseAnnotation', task=dict(type='Depth')),
            dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal')), dict(type='PackDenseInputs'),
        ],
        **settings,
    )  # fmt: skip
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def test_maps_are_read_as_the_training_reads_them(cfg, root):
    maps = LabelMaps(cfg, 'semantic_segmentation')
    assert maps.names == [f'images/{index}.png' for index in range(3)]
    found = maps.map('images/1.png')
    expected = raw(root, 'classes', 1).astype(int) - 1
    np.testing.assert_array_equal(found, np.where(expected < 0, 255, expected))
    np.testing.assert_array_equal(maps.map('images/1.png', (5, 10)), found[1::2, 1::2])
    assert (maps.task.num_classes, maps.task.classes) == (3, ('floor', 'wall', 'ball'))
    np.testing.assert_array_equal(maps.task.palette, PALETTE)


def test_depth_and_normals_in_our_units_and_frame(root):
    depth, normal = LabelMaps(dense(root), 'depth'), LabelMaps(dense(root), 'normal')
    assert isinstance(depth.task, Depth) and isinstance(normal.task, SurfaceNormal)
    np.testing.assert_array_equal(depth.map('images/2.png'), Depth().decode(raw(root, 'depth', 2)))
    plain = dense(root)
    plain.train_dataloader.dataset.label_axes = None
    np.testing.assert_allclose(normal.map('images/2.png'), -LabelMaps(plain, 'normal').map('images/2.png'))


def test_pictures_are_the_maps_at_the_size_of_creation_in_colours(cfg, root):
    pictures = ConditionPictures.from_cfg(cfg, 'semantic_segmentation')
    classes = pictures.maps.map('images/0.png')
    table = np.zeros((256, 3), np.uint8)
    table[:3] = PALETTE
    np.testing.assert_array_equal(pictures.picture('images/0.png', SIZE), table[classes])
    rows, columns = (np.arange(8) + 0.5) * 10 / 8, (np.arange(16) + 0.5) * 20 / 16
    nearest = classes[rows.astype(int)][:, columns.astype(int)]
    np.testing.assert_array_equal(pictures.picture('images/0.png', (8, 16)), table[nearest])
    other = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    recoloured = ConditionPictures.from_cfg(cfg, dict(task='semantic_segmentation', palette=other))
    assert set(map(tuple, recoloured.picture('images/0.png', SIZE).reshape(-1, 3))) == {(0, 0, 0), *map(tuple, other)}
    assert recoloured.digest != pictures.digest
    assert ConditionPictures.from_cfg(dense(root), 'depth').picture('images/0.png', SIZE).max() == 255


def test_a_recipe_holds_its_condition_and_old_recipes_keep_their_names(cfg):
    known = dict(
        source='images/train/room 7.png', caption='a red ball', seed=1, T=600, grid='even', num_calls=20, solver='ddim',
        guidance_scale=1.0, size=(64, 96), weights_hash='ab' * 32,
    )  # fmt: skip
    plain = SampleRecipe(**known)
    assert plain.sample_id == 'room_7-T600-s0001-6db1f3e6' and 'condition' not in plain.fields
    shown = SampleRecipe(**known, condition=Condition('depth', 'ff'))
    assert '"condition":{"picture":"ff","task":"depth"}' in shown.canonical
    others = [SampleRecipe(**known, condition=c) for c in (Condition('normal', 'ff'), Condition('depth', 'fe'))]
    assert len({recipe.sample_id for recipe in (plain, shown, *others)}) == 4
    assert shown.noise_seed == plain.noise_seed and shown.batch_key != plain.batch_key


def test_the_stage_creates_what_the_label_shows_and_trains_on_that_label(cfg, root, tmp_path):
    job = prepare(cfg)
    torch.manual_seed(5)
    for parameter in job.diffusion.controlnet.parameters():  # a new branch would change nothing
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    plan = job.plan(weights_hash=job.diffusion.weights_hash())
    images, _, _ = create_batch(job.diffusion, plan, job.data_root, pictures=job.pictures)
    shown = torch.stack([torch.tensor(job.pictures.picture(r.source, r.size)).permute(2, 0, 1) / 255 for r in plan])
    expected = job.diffusion.create(
        captions=['a red ball'] * 3, seeds=[r.noise_seed for r in plan], T=1000, num_calls=2, size=(8, 16),
        conditions=shown,
    ).images  # fmt: skip
    levels = ((expected + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(levels - images).max() <= 1
    for recipe in plan:
        assert recipe.condition == job.pictures.condition(recipe.source, (8, 16))

    store = synthesize_from_config(cfg, tmp_path / 'store', progress=False)
    records = store.records()
    assert [record['condition']['task'] for record in records] == ['semantic_segmentation'] * 3
    assert synthesize_from_config(cfg, tmp_path / 'store', progress=False).records() == records
    wrapped = cfg.train_dataloader.dataset.copy() | dict(store=str(store.folder), labels='source')
    wrapped['dataset'] = dict(wrapped['dataset'], serialize_data=False)
    sample = DATASETS.build(wrapped)[3]
    assert sample['data_samples'].synthetic
    label = sample['data_samples'].gt_sem_seg.data[0].numpy()
    name = next(r['source'] for r in records if r['sample_id'] == sample['data_samples'].sample_id)
    np.testing.assert_array_equal(label, job.pictures.maps.map(name, (8, 16))[:, ::-1])  # the pipeline mirrors


def test_a_changed_label_is_another_sample(cfg, root, tmp_path):
    synthesize_from_config(cfg, tmp_path / 'store', progress=False)
    job = prepare(cfg)
    plan, marks = job.plan(), job.marks()
    write_png(root / 'classes/1.png', np.full(SIZE, 2, np.uint8))
    with pytest.raises(ValueError, match=r'label of images/1\.png, or how it is drawn, has changed'):
        create_batch(job.diffusion, plan, job.data_root, pictures=job.pictures)
    again = prepare(cfg)
    assert len({r.sample_id for r in plan} & {r.sample_id for r in again.plan()}) == 2
    assert again.marks() != marks
    with pytest.raises(ValueError, match='holds 1 samples that are not in this plan'):
        synthesize_from_config(cfg, tmp_path / 'store', progress=False)
    assert len(SampleStore(tmp_path / 'store').records()) == 3


def test_what_cannot_be_shown_is_told_before_anything_is_created(cfg, root, tmp_path):
    def changed(**changes):
        other = Config(cfg.to_dict())
        other.stages.synthesis.update(changes)
        return other

    without = {key: value for key, value in cfg.stages.synthesis.diffusion.items() if key != 'controlnet'}
    other = changed()
    other.stages.synthesis.diffusion = Config(without)
    with pytest.raises(ValueError, match='is to follow its semantic_segmentation label, but this model has no Contr'):
        synthesize_from_config(other, tmp_path / 'store', progress=False)
    with pytest.raises(ValueError, match="there is no task 'edges'; known: depth, edge, .*normal, saliency, semantic"):
        prepare(changed(condition='edges'))
    with pytest.raises(ValueError, match='no step of the training pipeline loads labels of depth'):
        prepare(changed(condition='depth'))
    with pytest.raises(ValueError, match=r'expected the name of a task, or dict\(task=…, palette=\[…\]\)'):
        prepare(changed(condition=dict(name='depth')))
    with pytest.raises(ValueError, match='palette has 1 colours for 3 classes'):
        prepare(changed(condition=dict(task='semantic_segmentation', palette=[[1, 2, 3]])))
    with pytest.raises(ValueError, match='a palette, but depth has no classes'):
        ConditionPictures.from_cfg(dense(root), dict(task='depth', palette=PALETTE))
    with pytest.raises(ValueError, match='controlnet names weights on disk and diffusion random ones'):
        prepare(changed(controlnet='somewhere'))
    with pytest.raises(ValueError, match="is 'depth', but the training set has labels of semantic_segmentation"):
        prepare(changed(layout=dict(type='ObjectPaste'), condition='depth'))
    nameless = changed()
    nameless.train_dataloader.dataset.dataset.metainfo = None
    with pytest.raises(ValueError, match='BaseSegDataset names no classes'):
        prepare(nameless)
    with pytest.raises(ValueError, match=r'1 of 2 sources have no semantic_segmentation label \(new.png\)'):
        LabelMaps(cfg, 'semantic_segmentation').check(['images/0.png', 'new.png'])
