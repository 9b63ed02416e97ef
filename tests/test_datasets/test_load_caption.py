"""Captions on their way from the file to the sample's metainfo."""

import json

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS

import mmdiff2in1.components  # noqa: F401  registers


def pipeline(**load_caption) -> list:
    init_default_scope('mmseg')
    keys = ('img_path', 'img_shape', 'caption')
    steps = [dict(type='LoadCaption', **load_caption), dict(type='PackSegInputs', meta_keys=keys)]
    return [TRANSFORMS.build(step) for step in steps]


def results(path: str) -> dict:
    return dict(img_path=path, img=np.zeros((4, 4, 3), np.uint8), img_shape=(4, 4))


def run(steps: list, data: dict) -> dict:
    for step in steps:
        data = step(data)
    return data


def test_the_caption_reaches_the_sample(tmp_path):
    file = tmp_path / 'captions.jsonl'
    lines = [dict(image='training/1.jpg', caption='a hall'), dict(image='validation/1.jpg', caption='a street')]
    file.write_text('\n'.join(map(json.dumps, lines)))
    steps = pipeline(captions=str(file))
    assert run(steps, results('data/training/1.jpg'))['data_samples'].caption == 'a hall'
    assert run(steps, results('data/validation/1.jpg'))['data_samples'].caption == 'a street'
    with pytest.raises(ValueError, match='no caption for data/training/2.jpg'):
        run(steps, results('data/training/2.jpg'))
    assert run(pipeline(captions=str(file), fallback=''), results('data/2.jpg'))['data_samples'].caption == ''


def test_a_missing_file_is_found_at_construction(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.jsonl does not exist'):
        pipeline(captions=str(tmp_path / 'none.jsonl'))


def test_a_synthetic_sample_keeps_its_own(tmp_path):
    """It was created under a caption that no file of the data set knows; the record of the store has it."""
    data = run(pipeline(), results('store/images/7.png') | dict(caption='a red hall'))
    assert data['data_samples'].caption == 'a red hall'
