"""How the authors of a pretrained encoder normalise its images: ``preprocessor_config.json`` of transformers.

An image x of 0 … 255 becomes (f·x − o − m) / s there, where f is the factor of the rescaling, o an offset, m the mean
and s the standard deviation; mmseg computes (x − mean) / std.
"""

import json
import math
from pathlib import Path
from typing import Any

FILE = 'preprocessor_config.json'
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
RGB = 3


def normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of R, G and B in 0 … 255.

    Args:
        folder: Of an encoder. What its ``preprocessor_config.json`` does not say, or if there is none, is as on
            ImageNet.

    Raises:
        ValueError: The file is none of JSON, or says what no images of 0 … 255 are normalised by.
    """
    file = folder / FILE
    said = _read(file) if file.is_file() else {}
    normalised, rescaled = said.get('do_normalize') is not False, said.get('do_rescale') is not False
    factor = _channels(file, 'rescale_factor', said.get('rescale_factor') or 1 / 255)[0] if rescaled else 1.0
    mean, std = [0.0] * RGB, [1.0] * RGB
    if normalised:
        mean, std = (_channels(file, key, said.get(key) or IMAGENET[key]) for key in IMAGENET)
    if rescaled and said.get('rescale_offset'):
        mean = [value + 1 for value in mean]
    if said.get('include_top'):  # EfficientNet's images are divided once more
        again = _channels(file, 'image_std', said.get('image_std') or IMAGENET['image_std'])
        std = [value * more for value, more in zip(std, again, strict=True)]
    mean, std = ([round(value / factor, 3) if factor else math.nan for value in values] for values in (mean, std))
    if not all(0 <= value <= 255 for value in mean) or not all(0 < value <= 255 for value in std):
        raise ValueError(
            f'{file}: gives mean {mean} and standard deviation {std} of images of 0 … 255, expected a mean of 0 … 255 '
            'and a standard deviation above 0, at most 255: image_mean and image_std are of images that rescale_factor '
            '(1/255) has multiplied, or do_rescale is false'
        )
    return mean, std


def _read(file: Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f'{file}: is no JSON ({error}); fetch it again, or delete it for the values of ImageNet'
        ) from error
    if not isinstance(said, dict):
        raise ValueError(f'{file}: found a {type(said).__name__}, expected fields such as image_mean and image_std')
    return said


def _channels(file: Path, name: str, value: Any) -> list[float]:
    """One number for each of R, G and B; one alone is that of all three."""
    values = value if isinstance(value, list) else [value]
    numbers = [each for each in values if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) != len(values) or len(numbers) not in (1, RGB):
        raise ValueError(f'{file}: {name} is {value!r}, expected a number, or one each for R, G and B')
    return [float(each) for each in numbers] * (RGB // len(numbers))
