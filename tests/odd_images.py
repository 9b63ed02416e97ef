"""Images as people have them: every mode and container that a reader may stumble over. H, W: 24, 40."""

import struct
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

H, W = 24, 40
ROWS, COLUMNS = np.mgrid[:H, :W]
PICTURE = np.stack([COLUMNS * 255 // (W - 1), ROWS * 255 // (H - 1), (ROWS * COLUMNS) % 256], -1).astype(np.uint8)
DEEP = np.arange(3000, 3000 + H * W * 28, 28, dtype=np.uint16).reshape(H, W)
"""16-bit grey as thermal and medical images are: 3000 … 29852."""
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def oriented(number: int) -> Image.Exif:
    """An EXIF block with this orientation."""
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def written(suffix: str, array: np.ndarray, *options) -> bytes:
    """The file that OpenCV makes of an array (BGR)."""
    return cv2.imencode(suffix, array, options)[1].tobytes()


def empty_png(width: int, height: int) -> bytes:
    """A 1-bit PNG of this size, all black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    packer = zlib.compressobj()
    row = bytes(1 + (width + 7) // 8)
    lines = b''.join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', lines) + chunk(b'IEND', b'')


def readable(folder: Path) -> dict[str, Path]:
    """Name → file, each in a folder of its own, of images that training reads."""
    image = Image.fromarray(PICTURE)
    files: dict[str, Path] = {}

    def place(name: str, file: str) -> Path:
        files[name] = folder / name / file
        files[name].parent.mkdir(parents=True)
        return files[name]

    for container, modes in (
        ('png', 'RGB L LA RGBA P 1'),
        ('jpg', 'RGB L CMYK'),
        ('tif', 'RGB L 1 P RGBA CMYK LAB'),
        ('bmp', 'RGB L P 1'),
        ('webp', 'RGB RGBA'),
    ):
        for mode in modes.split():
            plain = image.convert('RGB') if mode == 'LAB' else image.convert(mode)
            if mode == 'LAB':
                plain = Image.frombytes('LAB', (W, H), PICTURE.tobytes())
            plain.save(place(f'{container}-{mode}', f'a.{container}'))
    image.quantize(16).save(place('png-P-transparent', 'a.png'), transparency=3)
    image.save(place('png-RGB-transparent', 'a.png'), transparency=(1, 2, 3))
    Image.fromarray(PICTURE[:3, :2]).save(place('png-tiny', 'a.png'))
    Image.fromarray(PICTURE[:3, :2]).save(place('jpg-tiny', 'a.jpg'))
    image.save(place('tif-lzw', 'a.tiff'), compression='tiff_lzw')
    image.save(place('jpg-progressive', 'a.jpeg'), progressive=True, subsampling=0)
    Image.fromarray(DEEP).save(place('png-grey16', 'a.png'))
    Image.fromarray(DEEP).save(place('tif-grey16', 'a.tif'))
    colour = np.stack([DEEP, DEEP[::-1], DEEP[:, ::-1]], -1)
    place('png-rgb16', 'a.png').write_bytes(written('.png', colour))
    place('png-rgba16', 'a.png').write_bytes(written('.png', np.dstack([colour, DEEP])))
    place('tif-rgb16', 'a.tif').write_bytes(written('.tif', colour))
    for number in range(1, 9):
        for container in ('jpg', 'png', 'tif', 'webp'):
            image.save(place(f'{container}-exif{number}', f'a.{container}'), exif=oriented(number))
    image.save(place('jpg-xmp', 'a.jpg'), xmp=XMP)
    image.save(place('jpg-damaged-exif', 'a.jpg'), exif=b'Exif\0\0MM nothing of the kind')
    image.save(place('capital-suffix', 'A.PNG'))
    image.save(place('brackets', 'a [1] *.png'))
    image.save(place('decomposed', unicodedata.normalize('NFD', 'Tür é.png')))
    image.save(place('other-suffix', 'png-called.jpg'), format='png')
    return files


def refused(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name → file, each in a folder of its own, that training cannot read, and what is said of it."""
    image, files = Image.fromarray(PICTURE), {}

    def place(name: str, file: str, found: str) -> Path:
        files[name] = folder / name / file, found
        files[name][0].parent.mkdir(parents=True)
        return files[name][0]

    grey = PICTURE[..., 0].astype(np.float32) / 255
    Image.fromarray(grey).save(place('float', 'a.tif', 'a TIFF of 32-bit float values'))
    place('float-colour', 'a.tif', 'a TIFF of 32-bit float values').write_bytes(written('.tif', np.dstack([grey] * 3)))
    place('double', 'a.tif', 'a TIFF of 64-bit float values').write_bytes(written('.tif', grey.astype(np.float64)))
    whole = Image.fromarray(DEEP.astype(np.int32))
    whole.save(place('int32', 'a.tif', 'a TIFF of 32-bit signed integer values'))
    for container in ('png', 'jpg', 'webp'):
        path = place(f'cut-{container}', f'a.{container}', 'a damaged ')
        image.save(path)
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    place('nothing', 'a.png', 'an empty file').write_bytes(b'')
    place('text', 'a.png', 'something that is no image').write_text('not an image')
    empty = empty_png((1 << 20) + 8, 1)
    place('too-long', 'a.png', '1 × 1048584 pixels').write_bytes(empty)
    # Only the header claims this size: nobody reads further.
    too_large = empty_png(40_000, 8).replace(struct.pack('>II', 40_000, 8), struct.pack('>II', 40_000, 40_000))
    too_large = too_large[:29] + struct.pack('>I', zlib.crc32(too_large[12:29])) + too_large[33:]
    place('too-large', 'a.png', '1600 million pixels').write_bytes(too_large)
    return files
