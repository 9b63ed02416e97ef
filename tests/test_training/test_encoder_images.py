"""What an encoder's image processor does to an image is what mmseg's mean and std do to it."""

import json

import numpy as np
import pytest
from transformers import BeitImageProcessorPil, EfficientNetImageProcessorPil, ViTImageProcessorPil

from mmdiff2in1.training.encoder_images import FILE, normalisation

THREE = dict(image_mean=[0.5, 0.25, 0.2], image_std=[0.5, 0.5, 0.1])
BYTES = dict(image_mean=[123.675, 116.28, 103.53], image_std=[58.395, 57.12, 57.375])


def written(folder, text):
    (folder / FILE).write_text(text if isinstance(text, str) else json.dumps(text))
    return normalisation(folder)


@pytest.mark.parametrize(
    'processor',
    [
        ViTImageProcessorPil(**THREE),
        ViTImageProcessorPil(do_normalize=False),
        ViTImageProcessorPil(do_rescale=False, **BYTES),
        BeitImageProcessorPil(rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3),
        EfficientNetImageProcessorPil(include_top=True, **THREE),
        EfficientNetImageProcessorPil(include_top=False, **THREE),
        EfficientNetImageProcessorPil(
            rescale_factor=1 / 127.5, rescale_offset=True, include_top=False, image_mean=[0.0] * 3, image_std=[1.0] * 3
        ),
    ],
)
def test_as_the_processor_of_transformers(processor, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (3, 6, 6), dtype=np.uint8)
    asked = dict(do_resize=False, do_center_crop=False, input_data_format='channels_first', return_tensors='np')
    expected = processor(image, **asked)['pixel_values'][0]
    processor.save_pretrained(tmp_path)
    mean, std = (np.array(values)[:, None, None] for values in normalisation(tmp_path))
    np.testing.assert_allclose((image - mean) / std, expected, atol=1e-3)


def test_what_is_not_said_is_as_on_imagenet(tmp_path):
    expected = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert normalisation(tmp_path) == expected == written(tmp_path, {'do_resize': True})


def test_one_number_is_that_of_all_three(tmp_path):
    assert written(tmp_path, dict(image_mean=[0.5], image_std=0.2)) == ([127.5] * 3, [51.0] * 3)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{"image_mean": [0.5', 'is no JSON .*fetch it again'),
        ('[1, 2]', 'found a list, expected fields'),
        (dict(image_mean='imagenet'), "image_mean is 'imagenet', expected a number, or one each for R, G and B"),
        (dict(image_mean=[0.5] * 4), 'image_mean is .0.5, 0.5, 0.5, 0.5., expected'),
        (BYTES, 'gives mean .31537.125, .* a mean of 0 … 255 .* do_rescale is false'),
        ('{"image_mean": [NaN, 0, 0]}', 'gives mean .nan, '),
        (dict(image_std=[0, 0, 0]), 'gives .* standard deviation .0.0, 0.0, 0.0. .* above 0'),
    ],
)
def test_what_no_image_is_normalised_by(text, said, tmp_path):
    with pytest.raises(ValueError, match=f'{FILE}: {said}') as caught:
        written(tmp_path, text)
    assert '\n' not in str(caught.value)
