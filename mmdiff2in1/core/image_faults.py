"""Why an image file cannot be read: what is in it, and what to do. Asked only of files that OpenCV has refused."""

import io
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

AGAIN = 'Copy or unpack the file again'
ANEW = 'Save it anew, as a PNG or JPEG of 8 bits; as it is OpenCV cannot read it'
DEEP = 'Convert it to 8 or 16 bits without a sign, e.g. as PNG; training cannot read it as it is'
TILES = 'Cut it into tiles'
READABLE = 'a whole image file that OpenCV reads, as training does'
LONGEST_SIDE = 1 << 20
MOST_PIXELS = 1 << 30
"""OpenCV reads no image with more (unless OPENCV_IO_MAX_IMAGE_PIXELS says so)."""
_SAMPLES = {1: 'integer', 2: 'signed integer', 3: 'float'}
JPEG = b'\xff\xd8\xff'
NUMPY = b'\x93NUMPY'
TIFF = (b'II*\0', b'MM\0*')
"""First bytes of files of these kinds."""

# Pillow, which reads headers here and label files for mmseg's loader, refuses what has more than twice its limit as an
# attack; so it reads what OpenCV reads.
Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2


class UnreadableImageError(ValueError):
    """An image file that cannot be read: `found`, `expected`, and the next `step`; the text has the file too."""

    def __init__(self, path: str | Path, found: str, expected: str, step: str) -> None:
        super().__init__(f'{path}: found {found}; expected {expected}. {step}')
        self.path, self.found, self.expected, self.step = str(path), found, expected, step

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.found, self.expected, self.step)


def fault_of(path: str | Path, data: bytes) -> UnreadableImageError:
    """The fault of an image file that OpenCV has refused.

    Args:
        path: Of the file.
        data: Its content.
    """
    if not data:
        return UnreadableImageError(path, 'an empty file', READABLE, AGAIN)
    if data.startswith(NUMPY):
        return UnreadableImageError(path, 'a NumPy array', READABLE, ANEW)
    samples = _tiff_samples(data)
    if samples is not None and not samples.endswith(('8-bit integer', '16-bit integer')):
        return UnreadableImageError(path, f'a TIFF of {samples} values', READABLE, DEEP)
    kind = 'image'
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind = f'{image.format} of mode {image.mode}'
            if max(image.size) > LONGEST_SIDE:
                return _too_large(path, f'{image.height} × {image.width} pixels (height × width)')
            image.load()
    except Image.DecompressionBombError as error:
        pixels = re.search(r'(\d+) pixels', str(error))
        return _too_large(path, f'{int(pixels[1]) / 1e6:.0f} million pixels' if pixels else 'more pixels')
    except UnidentifiedImageError:
        return UnreadableImageError(path, 'something that is no image', READABLE, AGAIN)
    except Exception as error:  # every decoder has errors of its own
        return UnreadableImageError(path, f'a damaged {kind} ({error})', READABLE, AGAIN)
    return UnreadableImageError(path, f'a {kind} that OpenCV does not read', READABLE, ANEW)


def _too_large(path: str | Path, found: str) -> UnreadableImageError:
    most = f'at most {MOST_PIXELS / 1e6:.0f} million, {LONGEST_SIDE} on a side, which is what OpenCV reads'
    return UnreadableImageError(path, found, most, TILES)


def _tiff_samples(data: bytes) -> str | None:
    """`32-bit float`: of what the values of a TIFF are; None for another file."""
    if data[:4] not in TIFF:
        return None
    try:
        tags = ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        bits, kind = (tags.get(number) or (1,) for number in (258, 339))  # BitsPerSample, SampleFormat
        return f'{max(bits)}-bit {_SAMPLES.get(max(kind), "other")}'
    except Exception:  # it is damaged, which Pillow says better
        return None
