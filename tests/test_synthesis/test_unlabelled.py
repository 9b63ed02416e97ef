"""Unlabelled images: which files, under which names, what is refused, and that nobody's files are touched."""

import hashlib
import json
import logging
import os
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.synthesis import SampleStore, job_of, run_job
from mmdiff2in1.synthesis.sheets import store_sheet
from mmdiff2in1.synthesis.unlabelled import image_files, shared
from mmdiff2in1.synthesis.upkeep import dry_run, remove_damaged, remove_others


def save(path, seed, size=(8, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Three images, one of them deeper, and what is none."""
    for seed, name in enumerate(('a.png', 'b.jpg', 'deep/a.png')):
        save(tmp_path / 'photos' / name, seed, (8, 12 + seed))
    (tmp_path / 'photos/notes.txt').write_text('no image')
    save(tmp_path / 'photos/.hidden/c.png', 9)
    return tmp_path / 'photos'


@pytest.fixture
def cfg(tmp_path, photos):
    """Two labelled images, two for val; nothing creates."""
    for number in range(2):
        save(tmp_path / f'data/train/{number}.png', 10 + number)
        save(tmp_path / f'data/val/{number}.png', 20 + number)

    def dataset(part):
        prefix = dict(img_path=part, seg_map_path='labels')
        return dict(type='BaseSegDataset', data_root=str(tmp_path / 'data'), img_suffix='.png', data_prefix=prefix)

    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type='SyntheticSampleDataset', dataset=dataset('train'), store=None)),
            val_dataloader=dict(dataset=dataset('val')),
            stages=dict(synthesis=dict(unlabelled=str(photos))),
        )
    )


def create(cfg, store):
    return run_job(job_of(cfg), store, progress=False)


def files_of(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob('*') if file.is_file()}


# Which.


def test_places_are_folders_files_and_patterns(photos):
    names = ['a.png', 'b.jpg', 'deep/a.png']
    everything = [(photos / name).as_posix() for name in names]
    assert image_files(str(photos)) == everything
    assert image_files([str(photos / '*.jpg'), photos / 'deep', photos / 'a.png', str(photos)]) == everything
    assert image_files(str(photos / '**/*.png')) == [everything[0], everything[2]]
    assert image_files(os.path.relpath(photos)) == everything
    for place, found in ((photos / 'none', 'nothing there'), (photos / '*.txt', 'no images in it')):
        with pytest.raises(FileNotFoundError, match=rf'unlabelled=.*{found}; expected a folder of images'):
            image_files([str(photos), str(place)])


def test_records_are_where_the_files_are(cfg, photos, tmp_path):
    before, store = files_of(photos), SampleStore(tmp_path / 'store')
    records = create(cfg, store).records()
    assert len(records) == 3 and files_of(photos) == before
    assert list(files_of(store.folder)) == ['manifest.jsonl']
    by_path = {record['path']: record for record in records}
    assert set(by_path) == set(image_files(str(photos)))
    for path, record in by_path.items():
        content = open(path, 'rb').read()
        digest = hashlib.sha256(content).hexdigest()
        stem = os.path.splitext(os.path.basename(path))[0]
        assert record['sample_id'] == f'{stem}-unlabelled-{digest[:12]}'
        assert (record['kind'], record['source'], record['caption']) == ('unlabelled', None, '')
        assert (record['image'], record['image_sha256'], record['bytes']) == (path, digest, len(content))
        assert store.image(record).as_posix() == path
        assert tuple(record['size']) == np.asarray(Image.open(path)).shape[:2]
    assert store.verify() == []
    manifest = (store.folder / 'manifest.jsonl').read_bytes()
    create(cfg, store)
    assert (store.folder / 'manifest.jsonl').read_bytes() == manifest


def test_copies_are_byte_by_byte(cfg, photos, tmp_path):
    cfg.stages.synthesis.copy_unlabelled = True
    store = SampleStore(tmp_path / 'store')
    records = create(cfg, store).records()
    assert sorted(files_of(store.folder / 'images').values()) == sorted(
        open(path, 'rb').read() for path in image_files(str(photos))
    )
    shutil.rmtree(photos)
    assert store.verify() == [] and all(store.is_whole(record) for record in records)


def test_equal_files_count_once(cfg, photos, tmp_path):
    shutil.copy(photos / 'b.jpg', photos / 'deep/copy.jpg')
    records = create(cfg, SampleStore(tmp_path / 'store')).records()
    assert sorted(record['path'] for record in records) == [
        (photos / name).as_posix() for name in ('a.png', 'b.jpg', 'deep/a.png')
    ]


def test_processes_share_the_work(cfg, tmp_path):
    alone, shared_store = SampleStore(tmp_path / 'alone'), SampleStore(tmp_path / 'shared')
    create(cfg, alone)
    for rank in (1, 0):
        run_job(job_of(cfg), shared_store, rank, 2, progress=False)
    assert files_of(shared_store.folder) == files_of(alone.folder)


# What is wrong.


def test_unreadable_files_are_named_before_anything_is_written(cfg, photos, tmp_path):
    (photos / 'cut.jpg').write_bytes((photos / 'b.jpg').read_bytes()[:300])
    (photos / 'text.png').write_text('no image')
    with pytest.raises(ValueError, match=r'2 unlabelled images cannot be read(.|\n)*cut\.jpg(.|\n)*text\.png'):
        create(cfg, SampleStore(tmp_path / 'store'))
    assert not (tmp_path / 'store').exists()


def test_images_of_the_evaluation_are_refused(cfg, photos, tmp_path):
    shutil.copy(tmp_path / 'data/val/1.png', photos / 'deep/renamed.png')
    with pytest.raises(
        ValueError, match=r'1 of 4 unlabelled images are also images of the val set, first .*renamed\.png'
    ):
        job_of(cfg)
    (photos / 'deep/renamed.png').unlink()
    (photos / 'link.png').symlink_to(tmp_path / 'data/val/0.png')
    with pytest.raises(ValueError, match=r'also images of the val set, first .*link\.png'):
        job_of(cfg)
    cfg.val_dataloader.dataset.data_prefix.img_path = 'nowhere'
    assert len(job_of(cfg).pool.images) == 4


def test_labelled_images_are_left_out_and_said(cfg, photos, tmp_path, caplog):
    cfg.stages.synthesis.unlabelled = [str(photos), str(tmp_path / 'data/train')]
    shutil.copy(tmp_path / 'data/train/1.png', photos / 'again.png')
    with caplog.at_level(logging.WARNING):
        pool = job_of(cfg).pool
    assert [image.path for image in pool.images] == [
        (photos / name).as_posix() for name in ('a.png', 'b.jpg', 'deep/a.png')
    ]
    cfg.stages.synthesis.unlabelled = str(tmp_path / 'data/train')
    with pytest.raises(ValueError, match='every one of the unlabelled images is a labelled one'):
        job_of(cfg)


def test_sharing_is_the_file_or_its_bytes(photos, tmp_path):
    files = image_files(str(photos))
    other = tmp_path / 'other.png'
    assert shared(files, [files[1], str(tmp_path / 'none.png')]) == [files[1]]
    content = (photos / 'a.png').read_bytes()
    other.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert shared(files, [str(other)]) == []
    other.write_bytes(content)
    assert shared(files, [str(other)]) == [files[0]]


def test_images_of_the_store_itself_are_refused(cfg, photos, tmp_path):
    cfg.stages.synthesis.unlabelled = str(tmp_path)
    cfg.val_dataloader = None
    save(tmp_path / 'store/images/made.png', 30)
    with pytest.raises(ValueError, match=r'made\.png is an image of the store'):
        create(cfg, SampleStore(tmp_path / 'store'))


def test_settings_that_do_not_fit(cfg):
    cfg.stages.synthesis.num_samples = 3
    with pytest.raises(ValueError, match='lacks diffusion and asks for created images by num_samples'):
        job_of(cfg)
    cfg.stages.synthesis = dict(unlabelled=cfg.stages.synthesis.unlabelled, unet='creator')
    with pytest.raises(ValueError, match='lacks diffusion; expected'):
        job_of(cfg)


# Later.


def test_a_moved_folder_is_found_by_content(cfg, photos, tmp_path):
    store = SampleStore(tmp_path / 'store')
    before = create(cfg, store).records()
    moved = photos.rename(tmp_path / 'moved')
    with pytest.raises(FileNotFoundError, match='photos: nothing there; .*name its new place'):
        job_of(cfg)
    assert sorted(str(damage) for damage in store.verify()) == sorted(f'{r["image"]}: is missing' for r in before)
    cfg.stages.synthesis.unlabelled = str(moved)
    after = create(cfg, store).records()
    assert [record['sample_id'] for record in after] == [record['sample_id'] for record in before]
    assert all(record['image'].startswith(moved.as_posix()) for record in after) and store.verify() == []


def test_damaged_files_are_named_and_stay(cfg, photos, tmp_path):
    store = SampleStore(tmp_path / 'store')
    create(cfg, store)
    (photos / 'a.png').write_bytes(b'damaged')
    (photos / 'b.jpg').unlink()
    problems = remove_damaged(store)
    assert {problem.file for problem in problems} == {(photos / name).as_posix() for name in ('a.png', 'b.jpg')}
    assert [problem.found.split(':')[0] for problem in sorted(problems, key=lambda p: p.file)] == [
        'is damaged',
        'is missing',
    ]
    assert (photos / 'a.png').read_bytes() == b'damaged' and len(store.records()) == 1


def test_what_is_not_asked_for_any_more_is_forgotten_not_deleted(cfg, photos, tmp_path):
    store = SampleStore(tmp_path / 'store')
    create(cfg, store)
    cfg.stages.synthesis.unlabelled = str(photos / 'deep')
    with pytest.raises(ValueError, match='2 samples that are not in this plan .* unlabelled images'):
        create(cfg, store)
    before = files_of(photos)
    assert len(remove_others(job_of(cfg), store)) == 2
    assert files_of(photos) == before and len(create(cfg, store).records()) == 1


def test_dry_run_and_sheet(cfg, photos, tmp_path):
    store = SampleStore(tmp_path / 'store')
    assert list(dry_run(job_of(cfg), store)) == [
        f'3 unlabelled images, used where they lie, of which 0 are known to {store.folder}',
        'unlabelled at 8x12, 8x13, 8x14 (HxW)',
        'nothing is created: there is no diffusion',
    ]
    create(cfg, store)
    assert 'of which 3 are known' in next(dry_run(job_of(cfg), store))
    assert store_sheet(store, None, 2).ndim == 3


def test_beside_created_ones(cfg, photos, tmp_path, tiny_diffusion):
    tiny_diffusion.save_folder(tmp_path / 'weights')
    lines = []
    for number, thing in enumerate(('bed', 'ball')):
        lines.append(json.dumps(dict(image=f'{number}.png', caption=f'a {thing} in a room {number}')))
    (tmp_path / 'captions.jsonl').write_text('\n'.join(lines))
    cfg.stages.synthesis.update(
        dict(
            diffusion=str(tmp_path / 'weights'), captions=str(tmp_path / 'captions.jsonl'), num_samples=2, T='noise',
            scenes=dict(type='recombined'), num_calls=2, device='cpu', restore_size=True,
            filters=dict(contrast=(0, None)),
        )
    )  # fmt: skip
    store = SampleStore(tmp_path / 'store')
    job = job_of(cfg)
    out = list(dry_run(job, store))
    assert out[0].startswith('3 unlabelled images')
    assert '2 source images, 2 samples, of which 0 are in' in out[2]
    assert "new scenes from noise under 2 captions (recombined), e.g. 'a b" in out[4]
    records = run_job(job, store, progress=False).records()
    made = [record for record in records if record.get('kind') != 'unlabelled']
    assert len(records) == 5 and {(record['source'], record['T']) for record in made} == {(None, 1000)}
    assert {record['caption'] for record in made} == {'a bed in a room 1', 'a ball in a room 0'}
    assert all(tuple(record['size']) == (8, 16) for record in made)  # 8 × 12, in multiples of 8
    assert run_job(job_of(cfg), store, progress=False).records() == records
    assert store_sheet(store, job.data_root, 4).ndim == 3
    assert job.others(store) == [] and store.verify() == []
