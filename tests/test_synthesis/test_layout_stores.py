"""Layouts through a config: what is read of a data set, what is stored and read again, identity, kill and resume."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from tiny_rooms import NAMES, WALL, Rooms

import mmdiff2in1.components  # noqa: F401  registers
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.datasets import DenseMapDataset, SyntheticSampleDataset
from mmdiff2in1.synthesis import SampleRecipe, SampleStore, create_batch, job_of, prepare, run_job
from mmdiff2in1.synthesis.labelled_set import LabelledSet
from mmdiff2in1.synthesis.sources import build_real_dataset
from mmdiff2in1.synthesis.upkeep import dry_run
from mmdiff2in1.training.synthesis_stage import SynthesisStage

CLASSES = dict(type='LoadAnnotations')
DEPTH = dict(type='LoadDenseAnnotation', task=dict(type='Depth'))
NORMAL = dict(type='LoadDenseAnnotation', task=dict(type='SurfaceNormal'))
FOLDERS = dict(seg_map_path='classes', depth_map_path='depth', normal_map_path='normal')


@DATASETS.register_module(force=True)
class TinyRooms(DenseMapDataset):
    METAINFO = dict(classes=NAMES, palette=[[0, 0, 0], [90, 60, 30], [200, 0, 200], [0, 200, 0]])


@pytest.fixture(autouse=True)
def alone():
    init_default_scope('mmseg')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Six rooms as files; `zero`: class maps one higher, 0 is not labelled; `eleven`: walls are 11, not labelled."""
    folder, rooms = tmp_path_factory.mktemp('rooms'), Rooms(6)
    lines = []
    for name, room in rooms.items():
        write_png(folder / 'images' / name, room.image)
        classes = room.labels['semantic_segmentation']
        unknown = np.arange(64)[None] < 2
        write_png(folder / 'classes' / name, classes)
        write_png(folder / 'zero' / name, np.where(unknown, 0, classes + 1).astype(np.uint8))
        write_png(folder / 'eleven' / name, np.where(unknown, 11, classes).astype(np.uint8))
        write_png(folder / 'depth' / name, rooms.tasks['depth'].encode(room.labels['depth']))
        write_png(folder / 'normal' / name, rooms.tasks['normal'].encode(room.labels['normal']))
        lines.append(json.dumps(dict(image=name, caption=room.caption)))
    (folder / 'captions.jsonl').write_text('\n'.join(lines))
    return folder


def config(root, *steps, kind='TinyRooms', folders=FOLDERS, synthesis=None, **settings):
    dataset = dict(
        type=kind, data_root=str(root), img_suffix='.png', seg_map_suffix='.png',
        data_prefix=dict(img_path='images', **folders), **settings,
        pipeline=[dict(type='LoadImageFromFile'), *steps, dict(type='PackDenseInputs')],
    )  # fmt: skip
    made = dict(layout=dict(type='ObjectPaste'), samples_per_image=2) | (synthesis or {})
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type='SyntheticSampleDataset', dataset=dataset, labels='stored')),
            stages=dict(synthesis=made),
        )
    )


def made(cfg, folder):
    job = prepare(cfg)
    return job, run_job(job, SampleStore(folder), progress=False)


def contents(store):
    files = [file for file in store.folder.rglob('*') if file.is_file()]
    return {file.relative_to(store.folder).as_posix(): file.read_bytes() for file in files}


def targets(data):
    sample = data['data_samples']
    return {field: sample.get(field).data for field in sample.keys() if field.startswith('gt_')}


MMSEG_DEPTH = dict(type='LoadDepthAnnotation', depth_rescale_factor=1e-3)
READ = {
    'classes': ([CLASSES], dict(seg_map_path='classes'), {}),
    'zero label': ([CLASSES], dict(seg_map_path='zero'), dict(reduce_zero_label=True)),
    'ignore 11': ([CLASSES], dict(seg_map_path='eleven'), dict(ignore_index=11)),
    'three tasks': ([dict(type='LoadClassAnnotation'), DEPTH, NORMAL], FOLDERS, {}),
    'depth without classes': ([DEPTH], FOLDERS, {}),
    'depth of mmseg': ([MMSEG_DEPTH], FOLDERS, {}),
    'another frame': ([NORMAL], FOLDERS, dict(label_axes=('-x', '-y', '-z'))),
}


@pytest.mark.parametrize('case', READ)
def test_what_is_stored_is_what_is_learned(root, tmp_path, case):
    """Real labels are read by the loaders of the pipeline, composed, stored and read by the same loaders again."""
    steps, folders, settings = READ[case]
    cfg = config(root, *steps, folders=folders, **settings)
    job, store = made(cfg, tmp_path / 'store')
    records = store.records()
    assert len(records) == 12 and store.verify() == []
    wrapped = cfg.train_dataloader.dataset
    dataset = SyntheticSampleDataset(wrapped.dataset, store.folder, labels='stored')
    real = {job.sources[i].image: targets(dataset[i]) for i in range(6)}
    changed = 0
    for index, record in enumerate(records):
        recipe = next(each for each in job.plan() if each.sample_id == record['sample_id'])
        (composed,) = job.composing.compose([recipe])
        learned = targets(dataset[6 + index])
        assert set(learned) == set(real[record['source']])
        for name, array in composed.labels.items():
            task = job.composing.samples.tasks[name]
            found = learned[task.field]
            np.testing.assert_allclose(found, task.to_target(array), atol=1e-3)
            before = real[record['source']][task.field]
            same = (abs(found.double() - before.double()) < 1e-3).all(0)
            outside = torch.ones_like(same)
            for facts in record['pasted']:
                top, left, height, width = facts['at']
                outside[top : top + height, left : left + width] = False
            assert same[outside].all()
            changed += int((~same).sum())
        assert dataset[6 + index]['data_samples'].metainfo['sample_id'] == record['sample_id']
    assert changed > 100
    if case == 'zero label':
        assert (targets(dataset[6])['gt_sem_seg'][0, :, 0] == 255).all() and targets(dataset[6])[
            'gt_sem_seg'
        ].min() == WALL
    if case == 'ignore 11':
        assert set(np.unique([targets(dataset[i])['gt_sem_seg'].numpy() for i in range(18)])) == {0, 1, 2, 3, 11}


def test_a_set_is_read_as_its_pipeline_reads_it(root):
    cfg = config(root, dict(type='RandomApply', transforms=[CLASSES], prob=1.0), DEPTH, NORMAL)
    samples = LabelledSet(build_real_dataset(cfg, with_pipeline=True), str(root), {'images/1.png': 'a room'})
    rooms = Rooms(6)
    assert list(samples) == [f'images/{index}.png' for index in range(6)] and len(samples) == 6
    assert samples.areas.classes == NAMES and list(samples.tasks) == ['semantic_segmentation', 'depth', 'normal']
    sample, room = samples['images/1.png'], rooms['1.png']
    assert sample.caption == 'a room' and samples['images/2.png'].caption == ''
    np.testing.assert_array_equal(sample.image, room.image)
    np.testing.assert_array_equal(sample.classes, room.classes)
    for name, atol in (('semantic_segmentation', 0), ('depth', 5e-4), ('normal', 1e-4)):
        np.testing.assert_allclose(sample.labels[name], room.labels[name], atol=atol)
    again = LabelledSet(build_real_dataset(cfg, with_pipeline=True), str(root), {'images/1.png': 'a room'})
    assert again.digest == samples.digest
    other = LabelledSet(build_real_dataset(cfg, with_pipeline=True), str(root), {})
    assert other.digest != samples.digest, 'captions count'


def test_what_changes_places_in_a_mirror_is_what_the_flip_says(root):
    cfg = config(root, CLASSES, dict(type='RandomFlip', prob=0.5, swap_seg_labels=[(2, 3)]))
    samples = LabelledSet(build_real_dataset(cfg, with_pipeline=True), str(root), {})
    assert samples.areas.flip(np.array([[2, 3, 0]], np.uint8)).tolist() == [[0, 2, 3]]


def test_nothing_to_cut_out_is_found_before_the_warm_up(root, tmp_path):
    cfg = config(root, CLASSES, synthesis=dict(layout=dict(type='ObjectPaste', smallest=0.9)))
    with pytest.raises(ValueError, match='found no whole thing in 6 labelled images'):
        SynthesisStage(cfg, tmp_path / 'store').check()


def test_things_of_images_that_lack_a_map(root, tmp_path):
    """Two sets, one without depth: what is pasted from there brings a depth that says nothing."""
    steps = [dict(type='LoadClassAnnotation'), DEPTH]
    parts = [config(root, *steps, folders=FOLDERS), config(root, *steps, folders=dict(seg_map_path='classes'))]
    whole, blind = [part.train_dataloader.dataset.dataset for part in parts]
    whole.indices, blind.indices = [0, 1, 2], [3, 4, 5]
    cfg = parts[0]
    cfg.train_dataloader.dataset.dataset = dict(type='ConcatDataset', datasets=[whole, blind])
    job, store = made(cfg, tmp_path / 'store')
    names = [source.image for source in job.sources]
    mixed = 0
    for record in store.records():
        labels, given = store.labels(record), {facts['source'] for facts in record['pasted']}
        if record['source'] in names[3:]:
            assert 'depth' not in labels or given & set(names[:3])  # a map that says nothing is none
            continue
        depth, classes = (read_png(labels[task]) for task in ('depth', 'semantic_segmentation'))
        before = read_png(root / 'depth' / record['source'].split('/')[-1])
        for facts in record['pasted']:
            top, left, height, width = facts['at']
            window = slice(top, top + height), slice(left, left + width)
            if facts['source'] in names[3:] and len(record['pasted']) == 1:
                changed = (depth != before)[window]
                assert (depth[window][changed] == 0).all() and (classes[window][changed] == facts['label']).all()
                mixed += changed.any()
    assert mixed


def test_a_set_without_class_maps(root):
    with pytest.raises(ValueError, match='cuts things out by the class maps .* no image has one; name their folder'):
        job_of(config(root, DEPTH, folders=dict(depth_map_path='depth')))


def test_records_say_everything_and_remake_their_sample(root, tmp_path):
    """From the record alone, in a new process so to say, the same bytes."""
    captions = str(root / 'captions.jsonl')
    cfg = config(root, CLASSES, synthesis=dict(captions=captions))
    _, store = made(cfg, tmp_path / 'store')
    job = job_of(cfg)
    for record in store.records():
        assert record['T'] == 0 and record['timesteps'] == [] and record['weights_hash'] == ''
        assert record['source_caption'] == f'room {record["source"][7:-4]}'
        names = [facts['class'] for facts in record['pasted']]
        assert record['caption'] == ', '.join([record['source_caption'], *names])
        assert record['layout'] == dict(job.composing.layout.settings, samples=job.composing.samples.digest)
        assert all(facts['source'] != record['source'] for facts in record['pasted'])
        fields = {key: record[key] for key in SampleRecipe.__dataclass_fields__ if key in record} | dict(
            caption=record['source_caption']
        )
        recipe = SampleRecipe(**fields)
        assert recipe.sample_id == record['sample_id']
        (composed,) = job.composing.compose([recipe])
        assert composed.pasted == record['pasted']
        again = SampleStore(tmp_path / 'again').add(record, composed.image, job.composing.encoded(composed))
        assert again['image_sha256'] == record['image_sha256'] and again['labels'] == record['labels']


@pytest.mark.parametrize(
    ('change', 'kept'),
    [
        (dict(samples_per_image=1), 6),
        (dict(layout=dict(type='ObjectPaste', feather=2.0)), 0),
        (dict(layout=dict(type='ObjectPaste', objects=(1, 3))), 12),
        (dict(solver='dpm++', num_calls=7, size=8, batch_size=1), 12),
        (dict(seed=5), 0),
    ],
    ids=str,
)
def test_the_name_of_a_sample_is_made_of_what_decides_it(root, change, kept):
    names = [
        {recipe.sample_id for recipe in job_of(config(root, CLASSES, synthesis=changes)).plan()}
        for changes in ({}, change)
    ]
    assert len(names[0] & names[1]) == kept


def test_another_label_is_another_sample(root, tmp_path):
    for folder in ('images', 'classes'):
        for index in range(6):
            target = tmp_path / folder / f'{index}.png'
            target.parent.mkdir(exist_ok=True)
            target.write_bytes((root / folder / f'{index}.png').read_bytes())
    cfg = config(tmp_path, CLASSES, folders=dict(seg_map_path='classes'))
    job, store = made(cfg, tmp_path / 'store')
    stage = SynthesisStage(cfg, store.folder)
    before, mark = {recipe.sample_id for recipe in job.plan()}, stage._fingerprint(None)
    assert SynthesisStage(cfg, store.folder)._fingerprint(None) == mark
    changed = Rooms(6)['3.png'].classes.copy()
    changed[:2] = 1
    write_png(tmp_path / 'classes/3.png', changed)
    assert SynthesisStage(cfg, store.folder)._fingerprint(None) != mark
    assert not before & {recipe.sample_id for recipe in prepare(cfg).plan()}


def test_plain_layouts_need_no_generator(root, tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mmdiff2in1.generators.loading.load_generator', lambda *_: pytest.fail('a generator was loaded')
    )
    _, store = made(config(root, CLASSES, synthesis=dict(diffusion='no/such/folder')), tmp_path / 'store')
    assert len(store.records()) == 12
    with pytest.raises(ValueError, match=r'T=\[0, 20\] redraws what the layout composes, but there is no diffusion'):
        prepare(config(root, CLASSES, synthesis=dict(T=[0, 20])))
    lines = list(dry_run(prepare(config(root, CLASSES)), store, timed=True))
    assert 'T=0: 12 samples, composed and not redrawn' in lines and '12 samples, 0 U-Net calls in all' in lines


@pytest.mark.parametrize('redraw', ['seam', 'surroundings', 'all'])
def test_a_generator_redraws_no_more_than_it_may(root, tmp_path, tiny_diffusion_config, redraw):
    layout = dict(type='ObjectPaste', redraw=redraw, seam=1, feather=0)
    captions = str(root / 'captions.jsonl')
    options = dict(layout=layout, diffusion=tiny_diffusion_config, num_calls=1, device='cpu', captions=captions)
    job, store = made(config(root, CLASSES, synthesis=options | dict(T=[0, 100, 300])), tmp_path / 'store')
    plain, redrawn = 0, 0
    for record in store.records():
        recipe = next(each for each in job.plan() if each.sample_id == record['sample_id'])
        (composed,) = job.composing.compose([recipe])
        image, label = read_png(store.image(record)), read_png(store.labels(record)['semantic_segmentation'])
        level = record['T']
        assert (record['weights_hash'] == '') == (level == 0) and record['timesteps'] == ([level] if level else [])
        may = composed.redraw > 0 if level else np.zeros(image.shape[:2], bool)
        np.testing.assert_array_equal(image[~may], composed.image[~may])
        if may.any():
            assert (image[may] != composed.image[may]).any(-1).mean() > 0.5
            redrawn += 1
        plain += level == 0
        # The arrangement and the labels do not depend on T.
        np.testing.assert_array_equal(label, composed.labels['semantic_segmentation'])
    assert plain and redrawn


def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_killed_and_resumed_is_as_if_nothing_happened(root, tmp_path):
    cfg = config(
        root, dict(type='LoadClassAnnotation'), DEPTH, NORMAL, synthesis=dict(num_samples=4, samples_per_image=None)
    )
    job = prepare(cfg)
    straight = contents(run_job(job, SampleStore(tmp_path / 'straight'), progress=False))
    assert len(straight) == 4 * 4 + 1

    def until_killed(sync):
        real_fsync, left = os.fsync, iter(range(sync - 1, -1, -1))

        def fsync(descriptor):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real_fsync(descriptor)

        os.fsync = fsync
        run_job(job, SampleStore(tmp_path / f'killed {sync}'), progress=False)

    for sync in (1, 3, 6, 8, 13):
        _, status = os.waitpid(in_child(lambda sync=sync: until_killed(sync)), 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert contents(run_job(job, SampleStore(tmp_path / f'killed {sync}'), progress=False)) == straight


def test_two_processes_make_what_one_makes(root, tmp_path):
    job = prepare(config(root, CLASSES))
    one = run_job(job, SampleStore(tmp_path / 'one'), progress=False)
    children = [
        in_child(lambda rank=rank: run_job(job, SampleStore(tmp_path / 'two'), rank, 2, progress=False))
        for rank in range(2)
    ]
    for child in children:
        os.waitpid(child, 0)
    run_job(job, SampleStore(tmp_path / 'two'), progress=False)
    assert contents(SampleStore(tmp_path / 'two')) == contents(one)


def test_a_store_without_layouts_keeps_its_mark(tmp_path, root, monkeypatch, tiny_diffusion_config):
    """What a finished store of earlier versions is known by does not name layouts."""
    options = dict(layout=None, diffusion=tiny_diffusion_config, caption_fallback='', size=8)
    stage, seen, dumps = SynthesisStage(config(root, CLASSES, synthesis=options), tmp_path), [], json.dumps
    monkeypatch.setattr(
        'mmdiff2in1.training.synthesis_stage.json.dumps', lambda value, **kw: seen.append(value) or dumps(value, **kw)
    )
    stage._fingerprint(None)
    own, weights, sources = seen[-1]
    assert sorted(own) == [
        'T', 'dtype', 'filters', 'grid', 'guidance_scale', 'num_calls', 'num_samples', 'restore_size',
        'samples_per_image', 'seed', 'size', 'solver',
    ]  # fmt: skip
    assert len(weights) == 1 and set(sources[0]) == {'image', 'caption', 'native_size'}


def test_a_generator_follows_the_composed_label(root, tiny_diffusion_config):
    """Redrawn from noise, shown the label of what was composed; T = 0 follows nothing; colours are part of the name."""
    diffusion = tiny_diffusion_config | dict(controlnet=dict(conditioning_embedding_out_channels=(4, 8)))
    settings = dict(diffusion=diffusion, T=[0, 1000], num_calls=2, device='cpu', condition='semantic_segmentation')
    settings |= dict(captions=str(root / 'captions.jsonl'), layout=dict(type='ObjectPaste', redraw='all'))
    job = prepare(config(root, CLASSES, synthesis=settings))
    torch.manual_seed(5)
    for parameter in job.diffusion.controlnet.parameters():  # a new branch would change nothing
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    plan = job.plan(weights_hash=job.diffusion.weights_hash())
    assert {(recipe.T, recipe.condition is None) for recipe in plan} == {(0, True), (1000, False)}
    batch = [recipe for recipe in plan if recipe.T]
    composed = job.composing.compose(batch)
    images, _, _ = create_batch(job.diffusion, batch, job.data_root, composed, job.pictures)
    palette = np.array(TinyRooms.METAINFO['palette'])
    shown = np.stack([palette[each.labels['semantic_segmentation']] for each in composed])
    arguments = dict(
        captions=[each.caption for each in composed], seeds=[each.noise_seed for each in batch], T=1000, num_calls=2,
        size=(48, 64),
    )  # fmt: skip
    expected, blind = (
        job.diffusion.create(**arguments, conditions=conditions).images
        for conditions in (torch.tensor(shown).permute(0, 3, 1, 2) / 255, None)
    )
    levels = ((expected + 1) * 127.5).round().permute(0, 2, 3, 1).numpy()
    assert np.abs(levels - np.stack(images)).max() <= 1 < (expected - blind).abs().max() * 127.5
    other = dict(settings, condition=dict(task='semantic_segmentation', palette=palette[::-1].tolist()))
    others = prepare(config(root, CLASSES, synthesis=other)).plan()
    same = {recipe.sample_id for recipe in others} & {recipe.sample_id for recipe in job.plan()}
    assert same == {recipe.sample_id for recipe in plan if not recipe.T}
