"""projects/families: a few rows of docs/families.md are run again, and the page is what its lines say."""

from pathlib import Path

import pytest
from mmseg_families.catalogue import BACKBONES, FAMILIES, ROWS, SETTINGS
from mmseg_families.lines import read_lines, write_line
from mmseg_families.table import table
from mmseg_families.walk import SHIPPED, small_config, walk

DOCS = Path(__file__).parents[1] / 'docs'
ROW = {row.name: row for row in ROWS}


def test_every_row_is_a_config_of_mmseg_and_has_a_name_of_its_own():
    assert len(ROW) == len(ROWS) == len(FAMILIES) + len(BACKBONES) + len(SETTINGS)
    assert [row.config for row in ROWS if not (SHIPPED / row.config).is_file()] == []


def test_small_is_the_config_but_for_size_data_and_steps(tmp_path):
    cfg = small_config(ROW['FCN'], tmp_path)
    assert cfg.model.data_preprocessor['size'] == (32, 64) and cfg.crop_size == (512, 1024)
    assert cfg.model.backbone.base_channels == 8 and cfg.model.decode_head.in_channels == 64
    assert cfg.model.pretrained is None and cfg.model.decode_head.num_classes == 19
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0005)
    assert [step['type'] for step in cfg.train_dataloader.dataset.pipeline][2:4] == ['RandomResize', 'RandomCrop']
    assert len(list((tmp_path / 'CityscapesDataset/leftImg8bit/train').iterdir())) == 4


@pytest.mark.slow
@pytest.mark.parametrize('name', ['FCN', 'SegFormer', 'FCN · accumulation'])
def test_a_row_is_whole(name, tmp_path):
    line = walk(ROW[name], tmp_path)
    assert line['ended'] == 'whole', line
    assert (line['equal_losses'], line['same_predictions']) == (3, 2)
    assert line['synthetic_loss'] > 0 and line['kept_share'] > 0


def test_two_averages_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_families.walk.as_mmseg_trains', lambda cfg, work_dir: None)
    monkeypatch.setattr('mmseg_families.walk.recorded_losses', lambda work_dir: [])
    line = walk(ROW['FCN · EMAHook'], tmp_path)
    assert line['ended'] == 'refused' and 'EMAHook' in line['reason']


def test_what_is_not_installed_is_a_row_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr('mmseg_families.walk._is_there', lambda module: False)
    line = walk(ROW['Mask2Former'], tmp_path)
    assert (line['ended'], line['reason']) == ('not here', 'needs mmdet, which is not installed')
    assert list(tmp_path.iterdir()) == []


def test_lines_keep_the_order_of_the_catalogue_and_the_last_word(tmp_path):
    file = tmp_path / 'lines.jsonl'
    for name, ended in (('SegFormer', 'plain'), ('FCN', 'mixed'), ('FCN', 'whole')):
        write_line(file, dict(row=name, ended=ended))
    assert {name: line['ended'] for name, line in read_lines(file).items()} == dict(FCN='whole', SegFormer='plain')
    assert list(read_lines(file)) == ['FCN', 'SegFormer']


def test_the_page_is_what_the_lines_say():
    lines = read_lines(DOCS / 'families.jsonl')
    assert (DOCS / 'families.md').read_text(encoding='utf-8') == table(lines)
    assert list(lines) == [name for name in ROW if name in lines]
