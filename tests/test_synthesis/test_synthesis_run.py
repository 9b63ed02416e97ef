"""Making samples: what is stored, resuming after SIGKILL at every write, sharing work, and input found bad in time."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mmdiff2in1.core.images import load_image, to_model
from mmdiff2in1.synthesis import SampleStore, Source, batches_of, check_plan, describe, make_plan, synthesize

SIZES = [(8, 8), (8, 8), (8, 16), (8, 8), (8, 16)]


@pytest.fixture(autouse=True)
def one_thread():
    """Forked children must not use the parent's thread pool, and equal bytes need equal thread counts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'data').mkdir()
    for index, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / 'data' / f'{index}.png')
    return tmp_path / 'data'


@pytest.fixture
def make(tiny_diffusion, root, tmp_path):
    """make(store name, **options): synthesize a plan of seven samples into that store."""

    def plan_of(**options):
        sources = [Source(f'{index}.png', 'a red ball', size) for index, size in enumerate(SIZES)]
        options = dict(num_samples=7, T=[300, 600], num_calls=2, multiple=8) | options
        return make_plan(sources, weights_hash=tiny_diffusion.weights_hash(), **options)

    def run(name='store', plan=None, **options):
        plan = plan or plan_of()
        options = dict(data_root=root, batch_size=2, progress=False) | options
        return synthesize(tiny_diffusion, plan, SampleStore(tmp_path / name), **options)

    run.plan = plan_of
    return run


def contents(store):
    files = [file for file in store.folder.rglob('*') if file.is_file()]
    return {file.relative_to(store.folder).as_posix(): file.read_bytes() for file in files}


def in_child(work):
    """Run `work` in a forked process; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_records_say_everything(make):
    labels = {f'{index}.png': dict(seg_map_path=f'labels/{index}.png') for index in range(4)}  # the fifth has none
    store = make(source_labels=labels)
    plan = {recipe.sample_id: recipe for recipe in make.plan()}
    records = store.records()
    assert [record['sample_id'] for record in records] == sorted(plan)
    for record in records:
        recipe = plan[record['sample_id']]
        for name in ('source', 'caption', 'seed', 'T', 'grid', 'num_calls', 'solver', 'guidance_scale', 'weights_hash'):
            assert record[name] == getattr(recipe, name)
        assert record['size'] == list(recipe.size)
        assert record['noise_seed'] == recipe.noise_seed
        assert record['timesteps'] == [recipe.T, 1]
        assert record['source_labels'] == labels.get(recipe.source, {})
        image = np.asarray(Image.open(store.image(record)))
        assert image.shape == (*recipe.size, 3)
        assert not {'labels', 'label', 'label_kind', 'ignore_label'} & set(record)
    assert {record['source'] for record in records} == {f'{index}.png' for index in range(5)}
    assert not (store.folder / 'labels').exists()
    assert store.verify() == []
    assert not list(store.folder.glob('*rank*'))


def test_stored_pixels_are_those_of_the_diffusion_model(make, tiny_diffusion, root):
    recipe = make.plan(num_samples=1, T=600)[0]
    store = make(plan=[recipe])
    source = load_image(root / recipe.source, recipe.size)
    creation = tiny_diffusion.create(
        to_model([source]), captions=['a red ball'], seeds=[recipe.noise_seed], T=600, num_calls=2
    )
    expected = ((creation.images[0] + 1) / 2 * 255).round().permute(1, 2, 0).numpy()
    record = store.records()[0]
    stored = np.asarray(Image.open(store.image(record)))
    assert np.array_equal(stored, expected)
    difference = stored.astype(float) - source
    assert record['scores']['source_distance'] == pytest.approx(np.sqrt((difference**2).mean()), abs=1e-3)


def test_a_source_whose_name_is_no_utf8(make, root):
    """It is created around, recorded and read back; the manifest is plain all the same."""
    name = os.fsdecode(b't\xfcr.png')
    os.rename(root / '0.png', root / name)
    recipe = replace(make.plan(num_samples=1, T=600, size=SIZES[0])[0], source=name)
    store = make(plan=[recipe], source_labels={name: dict(seg_map_path=f'labels/{name}')})
    (record,) = SampleStore(store.folder).records()
    assert record['source'] == name and record['source_labels'] == dict(seg_map_path=f'labels/{name}')
    assert record['sample_id'] == recipe.sample_id and recipe.sample_id.isascii()
    assert store.verify() == []
    (store.folder / 'manifest.jsonl').read_text(encoding='ascii')


def test_every_sample_has_noise_of_its_own(make):
    assert len({recipe.noise_seed for recipe in make.plan()}) == 7


def test_killed_at_any_write_and_resumed_is_as_if_nothing_happened(make):
    """Each sample syncs image, folder, manifest; the first one also syncs the manifest's folder."""
    options = dict(plan=make.plan(num_samples=3, T=600, num_calls=1, size=[8, 8]))
    straight = contents(make('straight', **options))

    def until_killed(sync):
        real_fsync, left = os.fsync, iter(range(sync - 1, -1, -1))

        def fsync(descriptor):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real_fsync(descriptor)

        os.fsync = fsync
        make(f'killed {sync}', **options)

    for sync in range(1, 13):  # 3 · 3 + 1 for the samples, 2 for the merged manifest
        _, status = os.waitpid(in_child(lambda sync=sync: until_killed(sync)), 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert contents(make(f'killed {sync}', **options)) == straight


def test_resume_makes_only_what_is_missing(make, tiny_diffusion, monkeypatch):
    store = make()
    before = contents(store)
    created = Counter()
    create = tiny_diffusion.create

    def counting(*args, **options):
        created['samples'] += len(options['captions'])
        return create(*args, **options)

    monkeypatch.setattr(tiny_diffusion, 'create', counting)
    assert contents(make()) == before
    assert created['samples'] == 0
    gone = store.records()[3]
    store.image(gone).unlink()
    assert contents(make()) == before
    assert created['samples'] <= 2  # one batch
    store.image(gone).write_bytes(b'damaged')
    store.remove(problem.sample_id for problem in store.verify())
    assert contents(make()) == before


def test_a_store_can_be_enlarged(make):
    make('grown', plan=make.plan(num_samples=4, T=600))
    grown = make('grown', plan=make.plan(num_samples=7, T=600))
    assert contents(grown) == contents(make('at once', plan=make.plan(num_samples=7, T=600)))


def images_of(store):
    return {record['sample_id']: np.asarray(Image.open(store.image(record))).astype(int) for record in store.records()}


def test_batch_size_changes_at_most_one_grey_level(make):
    two, three = images_of(make('two')), images_of(make('three', batch_size=3))
    assert two.keys() == three.keys()
    assert max(np.abs(two[name] - three[name]).max() for name in two) <= 1


@pytest.mark.parametrize('at_once', [True, False])
def test_two_processes_make_what_one_makes(make, at_once, tmp_path):
    one = images_of(make('one'))
    for rank in range(2):
        child = in_child(lambda rank=rank: make('two', rank=rank, world_size=2))
        if not at_once:
            os.waitpid(child, 0)
            assert bool(list((tmp_path / 'two').glob('manifest.rank*'))) == (rank == 0)
    if at_once:
        os.wait()
        os.wait()
    store = SampleStore(tmp_path / 'two')
    two = images_of(store)
    assert two.keys() == one.keys()
    assert max(np.abs(two[name] - one[name]).max() for name in one) <= 1
    assert sorted(file.name for file in store.folder.glob('manifest*')) == ['manifest.jsonl']
    assert store.verify() == []


def test_restored_size(make):
    plan = make.plan(size=[16, 8])
    store = make(plan=plan, restore_size=True)
    for record in store.records():
        assert record['size'] == [16, 8]
        with Image.open(store.image(record)) as image:
            assert image.size[::-1] == SIZES[int(record['source'][0])]
    with pytest.raises(ValueError, match='made with restore_size True, now it is False'):
        make(plan=plan)


def test_filters_that_let_nothing_pass(make, tiny_diffusion, tmp_path, monkeypatch):
    """At most the first 32 samples are made to find out; nothing is stored, so other limits begin anew."""
    found = [record['scores']['source_distance'] for record in make('all').records()]
    with pytest.raises(ValueError) as error:
        make('none', thresholds=dict(source_distance=(None, 0.5), contrast=(0, None)))
    assert f'all of the first 7 created samples: their source_distance is {min(found):g} to {max(found):g}' in str(
        error.value
    )
    assert '(lowest, highest) of source_distance is (None, 0.5)' in str(error.value)
    assert SampleStore(tmp_path / 'none').finished() == {}
    created, create = [], tiny_diffusion.create
    monkeypatch.setattr(
        tiny_diffusion,
        'create',
        lambda *a, **options: created.append(len(options['captions'])) or create(*a, **options),
    )
    with pytest.raises(ValueError, match='all of the first 32 created samples: their contrast'):
        make('none', plan=make.plan(num_samples=60, T=600), thresholds=dict(contrast=(127, None)))
    assert sum(created) == 32
    created.clear()
    limit = (min(found) + max(found)) / 2
    assert len(make('some', thresholds=dict(source_distance=(limit, None))).records()) in range(1, 7)
    assert sum(created) in (9, 11, 13), 'seven, and those until the first that passes'


def test_rejected_samples_are_not_made_again(make, tiny_diffusion, monkeypatch):
    distances = sorted(record['scores']['source_distance'] for record in make('all').records())
    limit = (distances[3] + distances[4]) / 2
    store = make('some', thresholds=dict(source_distance=(limit, None)))
    assert len(store.records()) == 3
    rejected = [record for record in store.records(rejected=True) if record.get('rejected')]
    assert len(rejected) == 4
    assert all(record['rejected'].startswith('source_distance') for record in rejected)
    assert len(list((store.folder / 'images').iterdir())) == 3
    monkeypatch.setattr(tiny_diffusion, 'create', None)
    assert len(make('some', thresholds=dict(source_distance=(limit, None))).records()) == 3


def test_from_pure_noise(make, tiny_diffusion):
    sources = [Source(None, 'a red ball', (8, 8)), Source(None, 'a table', (8, 8))]
    options = dict(weights_hash=tiny_diffusion.weights_hash(), multiple=8, num_calls=2, num_samples=3)
    records = make(plan=make_plan(sources, T=1000, **options)).records()
    assert [record['source'] for record in records] == [None] * 3
    assert {tuple(record['scores']) for record in records} == {('contrast',)}
    with pytest.raises(ValueError, match='without a source image T must be 1000, found 600'):
        make('other', plan=make_plan(sources, T=600, **options))


def test_batches_hold_equal_samples_only(make):
    plan = make.plan(num_samples=25)
    batches = batches_of(plan, 4)
    assert sorted(recipe.sample_id for batch in batches for recipe in batch) == sorted(r.sample_id for r in plan)
    assert all(len({(recipe.T, recipe.size) for recipe in batch}) == 1 and len(batch) <= 4 for batch in batches)
    sizes = Counter((recipe.T, recipe.size) for recipe in plan)
    assert len(batches) == sum(-(-count // 4) for count in sizes.values())


def test_costs_are_described(make, tiny_diffusion):
    plan = make.plan(num_samples=5, T=600, num_calls=8)
    assert describe(plan, check_plan(tiny_diffusion, plan)) == [
        'T=600: 5 samples, 8 U-Net calls each (even grid: 600, 514, 429, …, 87, 1)',
        '5 samples, 40 U-Net calls in all',
    ]


def nothing_is_created(diffusion, monkeypatch):
    def create(*_, **__):
        raise AssertionError('creation started before the input was checked')

    monkeypatch.setattr(diffusion, 'create', create)


@pytest.mark.parametrize('kind', ['missing', 'truncated'])
def test_bad_sources_are_named_before_the_work_starts(make, tiny_diffusion, monkeypatch, root, kind):
    plan = make.plan()
    nothing_is_created(tiny_diffusion, monkeypatch)
    if kind == 'missing':
        (root / '4.png').unlink()
    else:
        (root / '4.png').write_bytes((root / '4.png').read_bytes()[:-100])
    with pytest.raises((ValueError, FileNotFoundError), match=r'1 source images(.|\n)*data/4\.png'):
        make(plan=plan)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(T=1001), 'T=1001 is outside 1 … 1000'),
        (dict(T=1000, num_calls=1000), '1000 denoising calls do not fit'),
        (dict(grid='odd'), "unknown timestep grid 'odd'; known: even, released"),
        (dict(solver='euler'), r"unknown solver 'euler'; known: ddim, ddpm, dpm\+\+"),
        (dict(multiple=4, size=[12, 8]), r'size \(12, 8\) is no multiple of 8'),
    ],
)
def test_impossible_plans_are_found_before_the_work_starts(make, tiny_diffusion, monkeypatch, options, message):
    nothing_is_created(tiny_diffusion, monkeypatch)
    with pytest.raises(ValueError, match=message):
        make(plan=make.plan(**options))


def test_plans_of_nothing_of_other_weights_and_twice_the_same(make, tiny_diffusion):
    with pytest.raises(ValueError, match='the plan holds no samples'):
        check_plan(tiny_diffusion, [])
    with pytest.raises(ValueError, match='stands in the plan twice'):
        check_plan(tiny_diffusion, make.plan(num_samples=1) * 2)
    plan = make.plan()
    with torch.no_grad():
        tiny_diffusion.unet.conv_in.bias += 1
    with pytest.raises(ValueError, match='the plan is for weights'):
        check_plan(tiny_diffusion, plan)


def test_resuming_with_other_weights_is_refused(make, tiny_diffusion):
    make()
    with torch.no_grad():
        tiny_diffusion.unet.conv_in.bias += 1
    with pytest.raises(ValueError, match='holds 7 samples made with weights_hash .* choose another folder'):
        make()


def test_a_store_of_version_0_1_0_is_gone_on_with(make):
    """Records with empty label maps count as finished, whatever value those ignored; what is missing is made."""
    store = make()
    new = {record['sample_id']: record for record in store.records()}
    old = {name: dict(record, label=f'labels/{name}.png', ignore_label=11) for name, record in new.items()}
    for record in old.values():
        record.pop('source_labels')
    missing = sorted(old)[2]
    lines = [json.dumps(record) + '\n' for name, record in old.items() if name != missing]
    (store.folder / 'manifest.jsonl').write_text(''.join(lines))
    records = {record['sample_id']: record for record in make().records()}
    assert records == old | {missing: new[missing]}


def test_samples_of_another_plan_are_not_mixed_in_silently(make):
    make(plan=make.plan(T=600))
    with pytest.raises(ValueError, match=r'7 samples that are not in this plan .*T600.* …\): T: 600 → 300.*--prune'):
        make(plan=make.plan(T=300))
    assert len(make(plan=make.plan(T=300), keep_others=True).records()) == 14


def test_not_a_number_is_never_stored(make, tiny_diffusion, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny_diffusion, 'decode', lambda z: torch.full((len(z), 3, 8, 8), float('nan')))
    with pytest.raises(FloatingPointError, match='NaN or infinite'):
        make()
    assert not SampleStore(tmp_path / 'store').exists


def test_manifest_lines_are_plain_json(make):
    for line in (make().folder / 'manifest.jsonl').read_text(encoding='ascii').splitlines():
        assert json.loads(line)['weights_hash']


def test_batch_size_must_be_positive(make):
    with pytest.raises(ValueError, match='batch_size is 0, expected 1 or more'):
        make(batch_size=0)
