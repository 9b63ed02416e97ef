"""Ways to damage a store of created images; each returns the file that it changed or took away."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

MANIFEST = 'manifest.jsonl'


def _image(store: Path, rng: random.Random) -> Path:
    return rng.choice(sorted((store / 'images').glob('*.png')))


def _records(store: Path) -> list[dict]:
    return [json.loads(line) for line in (store / MANIFEST).read_text().splitlines()]


def _write(store: Path, records: list[dict]) -> Path:
    (store / MANIFEST).write_text(''.join(json.dumps(record) + '\n' for record in records))
    return store / MANIFEST


def manifest_missing(store: Path, rng: random.Random) -> Path:
    (store / MANIFEST).unlink()
    return store / MANIFEST


def manifest_empty(store: Path, rng: random.Random) -> Path:
    (store / MANIFEST).write_bytes(b'')
    return store / MANIFEST


def manifest_cut(store: Path, rng: random.Random) -> Path:
    data = (store / MANIFEST).read_bytes()
    (store / MANIFEST).write_bytes(data[: rng.randrange(1, len(data))])
    return store / MANIFEST


def manifest_rubbish(store: Path, rng: random.Random) -> Path:
    (store / MANIFEST).write_bytes(rng.randbytes(300) + b'\n')
    return store / MANIFEST


def record_lacks_a_field(store: Path, rng: random.Random) -> Path:
    records = _records(store)
    record = rng.choice(records)
    del record[rng.choice(sorted(record))]
    return _write(store, records)


def record_of_wrong_type(store: Path, rng: random.Random) -> Path:
    records = _records(store)
    record = rng.choice(records)
    record[rng.choice(sorted(record))] = dict(a=1)
    return _write(store, records)


def record_twice(store: Path, rng: random.Random) -> Path:
    records = _records(store)
    return _write(store, [*records, rng.choice(records)])


def record_points_outside(store: Path, rng: random.Random) -> Path:
    records = _records(store)
    rng.choice(records)['image'] = '../../somebody.png'
    return _write(store, records)


def image_missing(store: Path, rng: random.Random) -> Path:
    file = _image(store, rng)
    file.unlink()
    return file


def image_empty(store: Path, rng: random.Random) -> Path:
    file = _image(store, rng)
    file.write_bytes(b'')
    return file


def image_cut(store: Path, rng: random.Random) -> Path:
    file = _image(store, rng)
    data = file.read_bytes()
    file.write_bytes(data[: rng.randrange(1, len(data))])
    return file


def image_swapped(store: Path, rng: random.Random) -> Path:
    first, second = rng.sample(sorted((store / 'images').glob('*.png')), 2)
    shutil.copy(second, first)
    return first


def image_bit(store: Path, rng: random.Random) -> Path:
    file = _image(store, rng)
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return file


def image_is_a_folder(store: Path, rng: random.Random) -> Path:
    file = _image(store, rng)
    file.unlink()
    file.mkdir()
    return file


def images_missing(store: Path, rng: random.Random) -> Path:
    shutil.rmtree(store / 'images')
    return store / 'images'


DAMAGES: dict[str, Callable[[Path, random.Random], Path]] = {
    each.__name__.replace('_', ' '): each
    for each in (
        *(manifest_missing, manifest_empty, manifest_cut, manifest_rubbish),
        *(record_lacks_a_field, record_of_wrong_type, record_twice, record_points_outside),
        *(image_missing, image_empty, image_cut, image_swapped, image_bit, image_is_a_folder, images_missing),
    )
}
