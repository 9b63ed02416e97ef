"""The set on disk: complete, exact, the same for any number of processes, and never half-made."""

import importlib.util
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdiff2in1.datasets.scenes import CLASSES, make_scenes, render_scene
from mmdiff2in1.datasets.scenes.write import PART_STARTS
from mmdiff2in1.tasks import Depth, Edges, SurfaceNormal

COUNTS = {'unlabelled': 3, 'train': 6, 'val': 2}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp('set') / 'scenes', COUNTS, size=32, seed=4, workers=1, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def tool():
    path = Path(__file__).parents[2] / 'tools/dataset_converters/make_scenes.py'
    spec = importlib.util.spec_from_file_location('make_scenes_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_hold_the_scene(made):
    scene = render_scene(4, PART_STARTS['train'] + 5, size=32)
    read = {name: cv2.imread(str(made / 'train' / name / '000005.png'), cv2.IMREAD_UNCHANGED)
            for name in ('images', 'semantic', 'depth', 'normal', 'saliency', 'edge')}  # fmt: skip
    np.testing.assert_array_equal(read['images'][..., ::-1], scene.image)
    np.testing.assert_array_equal(read['semantic'], scene.semantic)
    np.testing.assert_allclose(Depth().decode(read['depth']), scene.depth, atol=5.01e-4)
    np.testing.assert_allclose(SurfaceNormal().decode(read['normal'][..., ::-1]), scene.normal, atol=1e-4)
    np.testing.assert_array_equal(read['saliency'], scene.saliency)
    np.testing.assert_array_equal(Edges().decode(read['edge']), scene.edge)
    lines = [json.loads(line) for line in (made / 'train/captions.jsonl').read_text().splitlines()]
    assert [line['image'] for line in lines] == [f'{i:06d}.png' for i in range(6)]
    assert lines[5]['caption'] == scene.caption


def test_layout_and_meta(made):
    meta = json.loads((made / 'meta.json').read_text())
    assert (meta['seed'], meta['size'], meta['counts']) == (4, 32, COUNTS)
    assert meta['classes'] == list(CLASSES) and len(meta['palette']) == len(CLASSES)
    assert sorted(path.name for path in (made / 'unlabelled').iterdir()) == ['captions.jsonl', 'images']
    assert not list(made.glob('*.partial'))
    images = [path.read_bytes() for path in made.glob('*/images/*.png')]
    assert len(images) == len(set(images)) == sum(COUNTS.values())  # the parts share no scene


def test_number_of_processes_does_not_matter(made, tmp_path):
    other = make_scenes(tmp_path / 'scenes', COUNTS, size=32, seed=4, workers=2, progress=False)
    assert contents(other) == contents(made)


def test_complete_parts_are_kept_and_interrupted_ones_made_anew(made, tmp_path):
    out = tmp_path / 'scenes'
    shutil.copytree(made, out)
    (out / 'val').rename(out / 'val.partial')  # as a kill leaves it, with a file that does not belong there
    (out / 'val.partial/images/junk.png').write_bytes(b'junk')
    before = {path: path.stat().st_mtime_ns for path in (out / 'train').rglob('*')}
    make_scenes(out, COUNTS, size=32, seed=4, workers=1, progress=False)
    assert contents(out) == contents(made)
    assert before == {path: path.stat().st_mtime_ns for path in (out / 'train').rglob('*')}


def test_a_part_of_an_earlier_version_gets_the_labels_that_it_lacks(made, tmp_path):
    out = tmp_path / 'scenes'
    shutil.copytree(made, out)
    for part in ('train', 'val'):
        shutil.rmtree(out / part / 'saliency')
        shutil.rmtree(out / part / 'edge')
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.png')}
    make_scenes(out, COUNTS, size=32, seed=4, workers=1, progress=False)
    assert contents(out) == contents(made)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.rglob('*.png')}.items()


@pytest.mark.parametrize(
    'change,message',
    [
        (dict(seed=5), 'has seed=4, but seed=5'),
        (dict(size=64), 'has size=32, but size=64'),
        (dict(counts={'train': 7}), 'train holds 6 scenes, but 7'),
        (dict(counts={'trian': 7}), "unknown part 'trian'; known parts: unlabelled, train, val, test"),
        (dict(counts={'test': 0}), "part 'test': 0 scenes asked for"),
    ],
)
def test_another_set_is_not_mixed_in(made, change, message):
    before = contents(made)
    with pytest.raises(ValueError, match=message):
        make_scenes(made, **{**dict(counts=COUNTS, size=32, seed=4, workers=1, progress=False), **change})
    assert contents(made) == before


def test_another_version_is_refused(made, tmp_path):
    meta = json.loads((made / 'meta.json').read_text())
    (tmp_path / 'meta.json').write_text(json.dumps({**meta, 'version': 0}))
    with pytest.raises(ValueError, match='has version=0'):
        make_scenes(tmp_path, COUNTS, size=32, seed=4, progress=False)


def test_tool(tmp_path, capsys):
    arguments = ['--out', str(tmp_path / 's'), '--counts', 'train=3', 'val=2', '--size', '16', '--workers', '1']
    tool().main([*arguments, '--dry-run'])
    assert 'train: 3 scenes of 16 x 16' in capsys.readouterr().out and not (tmp_path / 's').exists()
    tool().main([*arguments, '--parts', 'val'])
    assert [path.name for path in sorted((tmp_path / 's').iterdir())] == ['meta.json', 'val']
    tool().main(arguments)
    with pytest.raises(SystemExit, match='has seed=0, but seed=1'):
        tool().main([*arguments, '--seed', '1'])
    with pytest.raises(SystemExit, match='known parts: train, val'):
        tool().main([*arguments, '--parts', 'tset'])
