"""The command line of tools/synthesize.py on a tiny config: dry run, preview, creation, verification."""

import argparse
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_rooms import NAMES, Rooms

from mmdiff2in1.commands.synthesize import add_arguments
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.synthesis import SampleStore, prepare
from mmdiff2in1.synthesis.sheets import preview_sheet
from mmdiff2in1.tasks import SemanticSegmentation
from mmdiff2in1.visualization import sheet_layout

TOOL = Path(__file__).parents[2] / 'tools' / 'synthesize.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('synthesize_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, tmp_path, tiny_diffusion, capsys):
    """run(*flags) → what the tool printed; the data set has three images."""
    tiny_diffusion.save_folder(tmp_path / 'weights')
    (tmp_path / 'data' / 'images').mkdir(parents=True)
    lines = []
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (8, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / 'data' / 'images' / f'{index}.png')
        lines.append(json.dumps(dict(image=f'{index}.png', caption=f'a table {index}')))
    (tmp_path / 'data' / 'captions.jsonl').write_text('\n'.join(lines))
    captions = str(tmp_path / 'data' / 'captions.jsonl')
    (tmp_path / 'tiny.py').write_text(
        f"""
work_dir = {str(tmp_path / 'work')!r}
train_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root={str(tmp_path / 'data')!r}, img_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=[]))
stages = dict(synthesis=dict(diffusion={str(tmp_path / 'weights')!r}, captions={captions!r},
    samples_per_image=2, T=600, num_calls=2, size=8, batch_size=4, device='cpu'))
"""
    )

    def run(*flags):
        tool.main([str(tmp_path / 'tiny.py'), *map(str, flags)])
        return capsys.readouterr().out

    return run


def test_dry_run_prints_the_plan_and_writes_nothing(run, tmp_path):
    out = run('--dry-run')
    assert f'3 source images, 6 samples, of which 0 are in {tmp_path / "work/synthetic"}' in out
    assert 'created at 8x16 (HxW)' in out
    assert 'T=600: 6 samples, 2 U-Net calls each (even grid: 600, 1)' in out
    assert '6 samples, 12 U-Net calls in all' in out
    assert 's per sample' not in out
    assert not (tmp_path / 'work').exists()


def test_dry_run_with_flags_and_time(run, tmp_path):
    out = run('--dry-run', '--time', '--T', '300', '--num-calls', '5', '--num-samples', '2', '--solver', 'dpm++')
    assert '2 samples, 10 U-Net calls in all' in out
    assert 's per sample on one process' in out
    assert not (tmp_path / 'work').exists()


def test_sheets_have_a_number_of_sources_without_one():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for flag in ('preview', 'show'):
        assert getattr(parser.parse_args(['config.py', f'--{flag}']), flag) == 16
        assert getattr(parser.parse_args(['config.py', f'--{flag}', '2']), flag) == 2
        assert getattr(parser.parse_args(['config.py']), flag) is None


def test_preview_is_one_sheet_with_a_column_per_noise_level(run, tmp_path):
    assert 'preview.png' in run('--preview', 2, '--T', '200,600', '--batch-size', 2)
    sheet = np.asarray(Image.open(tmp_path / 'work' / 'preview.png'))
    source = np.zeros((8, 16, 3), np.uint8)
    layout = sheet_layout(
        [[source] * 3] * 2, row_captions=['0.png: a table 0'] * 2, column_captions=['', '', ''],
        title='2 U-Net calls, ddim, guidance 1',
    )  # fmt: skip
    assert sheet.shape[:2] == layout.size
    y, x = layout.origin(0, 0)
    shown = sheet[y : y + layout.cell[0] : layout.scale, x : x + layout.cell[1] : layout.scale]
    sources = [np.asarray(Image.open(tmp_path / 'data' / 'images' / f'{index}.png')) for index in range(3)]
    assert any(np.array_equal(shown, source) for source in sources)
    assert [path.name for path in (tmp_path / 'work').iterdir()] == ['preview.png']
    with pytest.raises(SystemExit, match='T has 20 values, one column each'):
        run('--preview', 2, '--cfg-options', 'stages.synthesis.T=[' + ','.join(map(str, range(100, 120))) + ']')


def test_create_verify_and_make_again(run, tmp_path):
    store = SampleStore(tmp_path / 'store')
    assert f'written: {store.folder}' in run('--out', store.folder)
    before = store.records()
    assert len(before) == 6
    assert '6 samples, all whole' in run('--out', store.folder, '--verify')

    store.image(before[2]).write_bytes(b'damaged')
    out = run('--out', store.folder, '--verify')
    assert f'{before[2]["image"]}: is damaged' in out
    assert '5 samples, all whole' in out
    run('--out', store.folder, '--resume')
    assert store.records() == before
    assert 'of which 6 are in' in run('--out', store.folder, '--dry-run')


def test_the_store_of_the_training_set_is_the_default(run, tmp_path):
    """Samples go where the training looks, and the command that an error names finds them."""
    file = tmp_path / 'tiny.py'
    wrapped = f"dataset=dict(type='SyntheticSampleDataset', store={str(tmp_path / 'theirs')!r}, dataset=dict("
    file.write_text(file.read_text().replace('dataset=dict(', wrapped).replace('pipeline=[]))', 'pipeline=[])))'))
    assert f'written: {tmp_path / "theirs"} (6 of 6' in run()
    assert '6 samples, all whole' in run('--verify')
    assert f'written: {tmp_path / "here"}' in run('--out', tmp_path / 'here')


def test_a_preview_shows_what_a_model_sees_at_each_level(run, tmp_path, capsys):
    job = prepare(read_config(tmp_path / 'tiny.py'))
    job = replace(job, settings=replace(job.settings, T=[200, 600]))
    task = SemanticSegmentation(2, palette=[[250, 0, 0], [0, 0, 250]], classes=['dark', 'bright'])
    asked = []

    def sees(images):
        asked.extend(images)
        return [[(task, (image[..., 0] > 127).astype(np.uint8))] for image in images]

    sheet, plain = preview_sheet(job, 2, sees), preview_sheet(job, 2)
    assert len(asked) == 4
    legends = [
        task.legend(np.concatenate([(image[..., 0] > 127).astype(np.uint8) for image in asked[row::2]], 1))
        for row in (0, 1)
    ]
    layout = sheet_layout(
        [[asked[0]] * 5] * 2, row_captions=['0.png: a table 0'] * 2, row_legends=legends,
        column_captions=['source', 'T=200', 'θ_C', 'T=600', 'θ_C'], title='2 U-Net calls, ddim, guidance 1',
    )  # fmt: skip
    assert sheet.shape[:2] == layout.size and plain.shape[1] < sheet.shape[1]
    for row in (0, 1):
        for column, image in ((1, asked[row]), (3, asked[2 + row])):
            for shift, picture in ((0, image), (1, image * 0.45 + task.colours((image[..., 0] > 127) * 1) * 0.55)):
                y, x = layout.origin(row, column + shift)
                shown = sheet[y : y + layout.cell[0] : layout.scale, x : x + layout.cell[1] : layout.scale]
                assert np.abs(shown.astype(int) - picture).max() <= 1
    with pytest.raises(SystemExit):
        run('--checkpoint', 'a.pth')
    assert 'add --preview' in capsys.readouterr().err


def test_what_was_created_is_shown_beside_its_source(run, tmp_path):
    store = SampleStore(tmp_path / 'store')
    with pytest.raises(SystemExit, match='holds no samples; name the store with --out'):
        run('--out', store.folder, '--show', 2)
    run('--out', store.folder)
    assert 'samples.png' in run('--out', store.folder, '--show', 2)
    sheet = np.asarray(Image.open(store.folder / 'samples.png'))
    first = sorted({record['source'] for record in store.records()})[0]
    made = sorted((r for r in store.records() if r['source'] == first), key=lambda record: record['seed'])
    pictures = [tmp_path / 'data' / first, *(store.image(record) for record in made)]
    layout = sheet_layout(
        [[np.zeros((8, 16, 3), np.uint8)] * 3] * 2, row_captions=['0.png: a table 0'] * 2, column_captions=['', '', ''],
        title='6 samples of 3 sources',
    )  # fmt: skip
    assert len(made) == 2 and sheet.shape[:2] == layout.size
    for column, picture in enumerate(pictures):
        y, x = layout.origin(0, column)
        shown = sheet[y : y + layout.cell[0] : layout.scale, x : x + layout.cell[1] : layout.scale]
        np.testing.assert_array_equal(shown, np.asarray(Image.open(picture)))


def test_layouts_are_shown_with_their_labels(tool, tmp_path, capsys):
    """Plain, they need neither a generator nor captions."""
    palette = [[0, 0, 0], [90, 60, 30], [200, 0, 200], [0, 200, 0]]
    for name, room in Rooms(4).items():
        write_png(tmp_path / 'images' / name, room.image)
        write_png(tmp_path / 'classes' / name, room.classes)
    (tmp_path / 'layouts.py').write_text(
        f"""
custom_imports = dict(imports=['mmdiff2in1.components'], allow_failed_imports=False)
work_dir = {str(tmp_path / 'work')!r}
train_dataloader = dict(dataset=dict(type='BaseSegDataset', data_root={str(tmp_path)!r}, img_suffix='.png',
    data_prefix=dict(img_path='images', seg_map_path='classes'),
    metainfo=dict(classes={NAMES!r}, palette={palette!r}),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
stages = dict(synthesis=dict(layout=dict(type='ObjectPaste'), samples_per_image=1))
"""
    )

    def run(*flags):
        tool.main([str(tmp_path / 'layouts.py'), *map(str, flags)])
        return capsys.readouterr().out

    out = run('--dry-run', '--time')
    assert 'created at 48x64 (HxW)' in out and 'T=0: 4 samples, composed and not redrawn' in out
    assert 'preview.png' in run('--preview', 2)
    store = SampleStore(tmp_path / 'store')
    run('--out', store.folder)
    run('--out', store.folder, '--show', 4)
    assert '4 samples, all whole' in run('--out', store.folder, '--verify')
    sheets = [np.asarray(Image.open(file)) for file in (tmp_path / 'work/preview.png', store.folder / 'samples.png')]
    records = store.records()
    captions = [f'{Path(record["source"]).name}: {record["caption"]}' for record in records]
    labels = [read_png(store.labels(record)['semantic_segmentation']) for record in records]
    legends = [SemanticSegmentation(len(NAMES), 255, palette, classes=NAMES).legend(label) for label in labels]
    assert all(any(name in text for name in NAMES) for text, _ in legends[0])
    layout = sheet_layout(
        [[np.zeros((48, 64, 3), np.uint8)] * 3] * 4, row_captions=captions, row_legends=legends,
        column_captions=['', '', ''], title='4 samples of 4 sources',
    )  # fmt: skip
    assert sheets[1].shape[:2] == layout.size and sheets[0].shape[1] == sheets[1].shape[1]
    for row, record in enumerate(records):
        image, label = (read_png(file) for file in (store.image(record), store.labels(record)['semantic_segmentation']))
        over = np.round(image * 0.45 + np.array(palette)[label] * 0.55)
        for column, picture in ((1, image), (2, over)):
            y, x = layout.origin(row, column)
            shown = sheets[1][y : y + layout.cell[0] : layout.scale, x : x + layout.cell[1] : layout.scale]
            assert np.abs(shown.astype(int) - picture).max() <= 1


def test_another_plan_in_the_same_folder(run, tmp_path):
    store = SampleStore(tmp_path / 'store')
    run('--out', store.folder)
    assert 'also holds 6 samples that are not in this plan' in run('--out', store.folder, '--T', 300, '--dry-run')
    with pytest.raises(SystemExit, match='not in this plan'):
        run('--out', store.folder, '--T', 300)
    assert '6 samples removed' in run('--out', store.folder, '--T', 300, '--prune')
    run('--out', store.folder, '--T', 300)
    assert {record['T'] for record in store.records()} == {300}


def test_processes_share_by_environment(run, tmp_path, monkeypatch):
    store = SampleStore(tmp_path / 'store')
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank, count in ((1, 3), (0, 6)):
        monkeypatch.setenv('RANK', str(rank))
        run('--out', store.folder)
        assert len(store.records()) == count


def test_config_options_reach_the_settings(run):
    out = run('--dry-run', '--cfg-options', 'stages.synthesis.size=16', 'stages.synthesis.samples_per_image=1')
    assert 'created at 16x32' in out
    assert '3 samples, 6 U-Net calls in all' in out


def test_new_scenes_from_noise(run, tmp_path):
    (tmp_path / 'list.txt').write_text('a red ball\na red robot\n')
    scenes = [f'stages.synthesis.{key}' for key in ('scenes.type=file', f'scenes.path={tmp_path / "list.txt"}')]
    flags = ['--T', 'noise', '--num-samples', 3, '--cfg-options', 'stages.synthesis.captions=None', *scenes]
    out = run('--dry-run', *flags)
    assert "new scenes from noise under 2 captions (file), e.g. 'a red ball'" in out
    assert 'T=1000: 3 samples' in out
    run('--preview', 2, *flags)
    sheets = [np.asarray(Image.open(tmp_path / 'work/preview.png')).shape]
    run('--preview', 2, '--T', '400,1000', *flags[2:])
    sheets.append(np.asarray(Image.open(tmp_path / 'work/preview.png')).shape)
    assert sheets[0][1] < sheets[1][1]  # one column; source and two levels
    store = SampleStore(tmp_path / 'store')
    assert 'written' in run('--out', store.folder, *flags)
    assert [(record['source'], record['size']) for record in store.records()] == [(None, [8, 16])] * 3
    assert 'samples.png' in run('--out', store.folder, '--show', 2, *flags)


def test_unlabelled_images(run, tmp_path):
    for index in range(2):
        pixels = np.random.default_rng(9 + index).integers(0, 256, (8, 16, 3), dtype=np.uint8)
        (tmp_path / 'photos').mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f'photos/{index}.jpg')
    store, flag = SampleStore(tmp_path / 'store'), f'stages.synthesis.unlabelled={tmp_path / "photos"}'
    assert '2 unlabelled images, used where they lie, of which 0 are known' in run('--dry-run', '--cfg-options', flag)
    assert '(8 of 8 samples, 2 of them unlabelled images)' in run('--out', store.folder, '--cfg-options', flag)
    (tmp_path / 'photos/0.jpg').write_bytes(b'')
    assert f'{tmp_path / "photos/0.jpg"}: is damaged' in run('--out', store.folder, '--verify')
    assert (tmp_path / 'photos/0.jpg').exists() and len(store.records()) == 7


def test_wrong_noise_level(run, capsys):
    with pytest.raises(SystemExit):
        run('--dry-run', '--T', '0.5')
    assert "'0.5' is neither a timestep nor a list like 200,400,600, nor noise" in capsys.readouterr().err


def test_verify_without_a_store(run):
    with pytest.raises(SystemExit, match=r'holds no manifest\.jsonl'):
        run('--verify')


def test_help_teaches(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(['--help'])
    out = capsys.readouterr().out
    for words in ('--preview 16 --T 200,400,600', 'Resuming is the default', 'torchrun', 'stages.synthesis'):
        assert words in out
