"""What may be wrong with the files that a training is given: every way in which disks, editors, archives and people
spoil them, and what is promised of each.

A way changes a file and says in a word how; None: it does not apply to this one. `WAYS` is the list: one more is one
function and one entry.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from odd_images import empty_png, oriented
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

REFUSED = 'refused'
"""Before the first stage, by the name of the file or of its folder."""
SAME = 'same'
"""Accepted, and the result is what it would be without the change."""
EITHER = 'either'
"""One of these two."""
MEANT = 'meant'
"""Refused by name, or accepted as another input as good as the first: nobody can know."""
Way = Callable[[Path, random.Random], str | None]
OTHERS = {
    'web page': b'<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n',
    'pointer of Git LFS': b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n',
    'zip': b'PK\x03\x04\x14\0\0\0\x08\0' + bytes(range(80)),
    'rubbish': bytes(range(256)) * 3,
}


# Any file.


def cut(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    length = rng.randrange(1, len(data))
    file.write_bytes(data[:length])
    return f'after {length} of {len(data)} bytes'


def byte_flipped(file: Path, rng: random.Random) -> str:
    data = bytearray(file.read_bytes())
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    data[place] ^= 1 << bit
    file.write_bytes(data)
    return f'bit {bit} of byte {place} of {len(data)}'


def bytes_inserted(file: Path, rng: random.Random) -> str:
    data = file.read_bytes()
    place, new = rng.randrange(len(data)), rng.randbytes(rng.choice((1, 2, 7, 64)))
    file.write_bytes(data[:place] + new + data[place:])
    return f'{len(new)} at {place} of {len(data)}'


def bytes_behind(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_bytes() + rng.choice((b'\0' * 512, b'\n', rng.randbytes(20))))
    return ''


def emptied(file: Path, rng: random.Random) -> str:
    file.write_bytes(b'')
    return ''


def only_zeros(file: Path, rng: random.Random) -> str:
    file.write_bytes(bytes(len(file.read_bytes())))
    return ''


def other_kind(file: Path, rng: random.Random) -> str:
    kind = rng.choice(sorted(OTHERS))
    file.write_bytes(OTHERS[kind])
    return kind


def missing(file: Path, rng: random.Random) -> str:
    file.unlink()
    return ''


def is_a_folder(file: Path, rng: random.Random) -> str:
    file.unlink()
    file.mkdir()
    if rng.random() < 0.5:
        (file / 'notes.txt').write_text('made by an archive\n')
    return ''


def link_to_nothing(file: Path, rng: random.Random) -> str:
    file.unlink()
    file.symlink_to(file.parent / 'moved' / file.name)
    return ''


def link_to_itself(file: Path, rng: random.Random) -> str:
    file.unlink()
    file.symlink_to(file)
    return ''


def link_to_a_folder(file: Path, rng: random.Random) -> str:
    file.unlink()
    file.symlink_to(file.parent, target_is_directory=True)
    return ''


def link_to_the_same(file: Path, rng: random.Random) -> str:
    elsewhere = file.parent.parent / f'kept elsewhere {file.name}'
    shutil.move(file, elsewhere)
    file.symlink_to(elsewhere)
    return ''


def other_suffix(file: Path, rng: random.Random) -> str:
    new = rng.choice(('.jpg', '.PNG', '.txt', f'{file.suffix}.1', f'{file.suffix} (1)', ''))
    file.rename(file.with_suffix('') if not new else file.with_name(file.stem + new))
    return new or 'none'


# Images and labels.


def _array(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def deep(file: Path, rng: random.Random) -> str:
    cv2.imwrite(str(file), _array(file)[..., ::-1].astype(np.uint16) * 257)
    return ''


def see_through(file: Path, rng: random.Random) -> str:
    image = _array(file)
    alpha = np.full(image.shape[:2], rng.choice((255, 0, 90)), np.uint8)
    Image.fromarray(np.dstack([image, alpha])).save(file)
    return f'alpha {alpha[0, 0]}'


def palette(file: Path, rng: random.Random) -> str:
    Image.fromarray(_array(file)).quantize(64).save(file)
    return ''


def grey(file: Path, rng: random.Random) -> str:
    Image.open(file).convert(rng.choice(('L', 'LA', '1'))).save(file)
    return ''


def lossless_container(file: Path, rng: random.Random) -> str:
    # WebP has no grey, so that a label would have three channels.
    kind = rng.choice(('BMP', 'TIFF', 'WEBP') if Image.open(file).mode == 'RGB' else ('BMP', 'TIFF'))
    Image.open(file).copy().save(file, kind, **(dict(lossless=True) if kind == 'WEBP' else {}))
    return kind


def lossy_container(file: Path, rng: random.Random) -> str:
    kind = rng.choice(('JPEG', 'WEBP'))
    Image.open(file).copy().save(file, kind, quality=90)
    return kind


def cmyk(file: Path, rng: random.Random) -> str:
    Image.open(file).convert('CMYK').save(file, 'JPEG')
    return ''


def floats(file: Path, rng: random.Random) -> str:
    image = _array(file)
    Image.fromarray((image if image.ndim == 2 else image[..., 0]).astype(np.float32) / 255).save(file, 'TIFF')
    return ''


def turned(file: Path, rng: random.Random) -> str:
    number = rng.randrange(2, 9)
    image = Image.open(file).copy()
    if rng.random() < 0.5:  # not square: of another size than its label
        image = image.crop((0, 0, image.width, image.height // 2))
    image.save(file, exif=oriented(number))
    return f'orientation {number}, {image.height} × {image.width}'


def upright(file: Path, rng: random.Random) -> str:
    Image.open(file).copy().save(file, exif=oriented(1))
    return ''


def other_size(file: Path, rng: random.Random) -> str:
    size = rng.choice(((40, 32), (32, 31), (1, 1), (64, 64), (16, 16)))
    image = Image.open(file)
    image.resize(size, Image.Resampling.NEAREST).save(file)
    return f'{size[1]} × {size[0]}'


def far_too_large(file: Path, rng: random.Random) -> str:
    file.write_bytes(empty_png(40000, 40000))
    return ''


def classes_unknown(file: Path, rng: random.Random) -> str:
    label, value = _array(file).copy(), rng.randrange(11, 255)
    label[rng.randrange(label.shape[0]), rng.randrange(label.shape[1])] = value
    Image.fromarray(label).save(file)
    return str(value)


def nothing_known(file: Path, rng: random.Random) -> str:
    Image.fromarray(np.full_like(_array(file), 255)).save(file)
    return ''


def deep_label(file: Path, rng: random.Random) -> str:
    cv2.imwrite(str(file), _array(file).astype(np.uint16))
    return ''


def beyond_a_byte(file: Path, rng: random.Random) -> str:
    label = _array(file).astype(np.uint16)
    label[0, 0] = rng.choice((256, 258, 511, 65535))
    cv2.imwrite(str(file), label)
    return str(label[0, 0])


def indexed(file: Path, rng: random.Random) -> str:
    label = Image.fromarray(_array(file), 'P')
    label.putpalette([rng.randrange(256) for _ in range(768)])
    label.save(file)
    return ''


def colours(file: Path, rng: random.Random) -> str:
    label = _array(file)
    Image.fromarray(np.dstack([label * 20, label, label * 5][: rng.choice((2, 3))])).save(file)
    return ''


def signed(file: Path, rng: random.Random) -> str:
    Image.fromarray(_array(file).astype(np.int32) - 1).save(file, 'TIFF')
    return ''


# Text.


def _in_a_line(file: Path, rng: random.Random, new: str) -> tuple[str, str]:
    """The text with something put into the middle of a word of one line, and where."""
    lines = file.read_text().splitlines()
    number = rng.randrange(len(lines))
    # Of a JSON line inside of its last text; of a config behind the line.
    head, tail = lines[number][:-3], lines[number][-3:]
    if file.suffix == '.py':
        head, tail = f'{lines[number]}  # ', ''
    lines[number] = head + new + tail
    return '\n'.join(lines) + '\n', f'line {number + 1}'


def marked(file: Path, rng: random.Random) -> str:
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    return ''


def utf16(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_text().encode('utf-16'))
    return ''


def utf16_unmarked(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_text().encode('utf-16-le'))
    return ''


def latin1(file: Path, rng: random.Random) -> str:
    text, where = _in_a_line(file, rng, 'ü')
    file.write_bytes(text.encode('latin-1'))
    return where


def nul(file: Path, rng: random.Random) -> str:
    text, where = _in_a_line(file, rng, '\0')
    file.write_text(text)
    return where


def line_separator(file: Path, rng: random.Random) -> str:
    mark = rng.choice(('\u2028', '\u2029', '\x85'))
    text, where = _in_a_line(file, rng, mark)
    file.write_text(text)
    return f'{mark!r} in {where}'


def windows_ends(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_bytes().replace(b'\n', b'\r\n'))
    return ''


def mac_ends(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_bytes().replace(b'\n', b'\r'))
    return ''


def no_last_end(file: Path, rng: random.Random) -> str:
    file.write_bytes(file.read_bytes().rstrip(b'\n'))
    return ''


def _lines(file: Path, change: Callable[[list[str]], None]) -> str:
    lines = file.read_text().splitlines()
    change(lines)
    file.write_text('\n'.join(lines) + '\n')
    return ''


def line_twice(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.append(rng.choice(lines)))


def blank_line(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.insert(rng.randrange(len(lines) + 1), rng.choice(('', '  ', '\t'))))


def blanks_behind(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.__setitem__(0, f'{lines[0]}  \t'))


def other_order(file: Path, rng: random.Random) -> str:
    return _lines(file, rng.shuffle)


def a_comment(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.insert(0, '# the images of the first visit'))


def line_lost(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.__delitem__(rng.randrange(len(lines))) if len(lines) > 1 else None)


def name_unknown(file: Path, rng: random.Random) -> str:
    return _lines(
        file, lambda lines: lines.__setitem__(rng.randrange(len(lines)), rng.choice(('000099', 'a [1]', '/')))
    )


def with_suffix(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.__setitem__(slice(None), [f'{line}.png' for line in lines]))


# Captions: a JSON object in each line.


def _entry(file: Path, rng: random.Random, change: Callable[[dict], object]) -> str:
    def changed(lines: list[str]) -> None:
        number = rng.randrange(len(lines))
        entry = json.loads(lines[number])
        new = change(entry)
        lines[number] = json.dumps(entry if new is None else new)

    return _lines(file, changed)


def caption_key_renamed(file: Path, rng: random.Random) -> str:
    name = rng.choice(('image', 'caption'))
    return _entry(file, rng, lambda entry: entry.update({name.title(): entry.pop(name)})) or name


def caption_empty(file: Path, rng: random.Random) -> str:
    return _entry(file, rng, lambda entry: entry.update(caption=rng.choice(('', '  '))))


def caption_no_text(file: Path, rng: random.Random) -> str:
    value = rng.choice((None, 3, ['a', 'room'], {'en': 'a room'}, float('nan'), '\udcfc room'))
    return _entry(file, rng, lambda entry: entry.update({rng.choice(('image', 'caption')): value})) or repr(value)


def no_object(file: Path, rng: random.Random) -> str:
    value = rng.choice((3, [], 'text', [1, 2]))
    return _entry(file, rng, lambda entry: value) or repr(value)


def deeply_nested(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.insert(0, '[' * 100000))


def second_caption(file: Path, rng: random.Random) -> str:
    return _lines(file, lambda lines: lines.append(json.dumps(json.loads(lines[0]) | dict(caption='another room'))))


def whole_paths(file: Path, rng: random.Random) -> str:
    def changed(lines: list[str]) -> None:
        entries = [json.loads(line) for line in lines]
        lines[:] = [json.dumps(entry | dict(image=f'/home/else/where/{entry["image"]}')) for entry in entries]

    return _lines(file, changed)


# JSON of a pipeline's folder.


def _json(file: Path, change: Callable[[dict], str]) -> str:
    content = json.loads(file.read_text())
    done = change(content)
    file.write_text(json.dumps(content, indent=2))
    return done


def json_key_missing(file: Path, rng: random.Random) -> str:
    return _json(file, lambda content: content.pop(key := rng.choice(sorted(content))) and key or key)


def json_key_unknown(file: Path, rng: random.Random) -> str:
    return _json(file, lambda content: content.update(no_such_field=1) or '')


def json_value_of_other_type(file: Path, rng: random.Random) -> str | None:
    def changed(content: dict) -> str:
        fields = sorted(key for key in content if not key.startswith('_') and content[key] is not None)
        if not fields:
            return ''
        key = rng.choice(fields)
        content[key] = {'no': 'such'} if not isinstance(content[key], dict) else 'text'
        return key

    return _json(file, changed) or None


def json_number_wrong(file: Path, rng: random.Random) -> str | None:
    def changed(content: dict) -> str:
        numbers = sorted(k for k, v in content.items() if isinstance(v, int | float) and not isinstance(v, bool))
        if not numbers:
            return ''
        key = rng.choice(numbers)
        content[key] = rng.choice((float('nan'), float('inf'), -1, -0.5, 10**9))
        return f'{key}={content[key]}'

    return _json(file, changed) or None


def json_list(file: Path, rng: random.Random) -> str:
    file.write_text(f'[{file.read_text()}]')
    return ''


def json_comma(file: Path, rng: random.Random) -> str:
    file.write_text(file.read_text().rstrip()[:-1].rstrip() + ',\n}')
    return ''


# Tensors.


def _tensors(file: Path, change: Callable[[dict[str, Tensor]], str]) -> str:
    if file.suffix == '.safetensors':
        state = load_file(file)
        done = change(state)
        save_file({name: value.contiguous() for name, value in state.items()}, file, metadata={'format': 'pt'})
        return done
    content = torch.load(file, weights_only=True)
    done = change(content['state_dict'])
    torch.save(content, file)
    return done


def _one(state: dict[str, Tensor], rng: random.Random) -> str:
    return rng.choice(sorted(name for name, value in state.items() if value.is_floating_point() and value.ndim))


def _filled(file: Path, rng: random.Random, value: float) -> str:
    def changed(state: dict[str, Tensor]) -> str:
        name = _one(state, rng)
        state[name] = state[name].clone()
        state[name].view(-1)[rng.randrange(state[name].numel())] = value
        return name

    return _tensors(file, changed)


def not_a_number(file: Path, rng: random.Random) -> str:
    return _filled(file, rng, float('nan'))


def infinite(file: Path, rng: random.Random) -> str:
    return _filled(file, rng, float('inf'))


def tensor_renamed(file: Path, rng: random.Random) -> str:
    return _tensors(file, lambda state: state.update({f'{(name := _one(state, rng))}s': state.pop(name)}) or name)


def tensor_missing(file: Path, rng: random.Random) -> str:
    return _tensors(file, lambda state: state.pop(name := _one(state, rng)) is None or name)


def tensor_unknown(file: Path, rng: random.Random) -> str:
    return _tensors(file, lambda state: state.update({'extra.weight': torch.ones(2)}) or '')


def other_shape(file: Path, rng: random.Random) -> str:
    def changed(state: dict[str, Tensor]) -> str:
        name = _one(state, rng)
        state[name] = torch.cat([state[name], state[name][:1]])
        return name

    return _tensors(file, changed)


def _cast(file: Path, rng: random.Random, dtype: torch.dtype) -> str:
    def changed(state: dict[str, Tensor]) -> str:
        state |= {name: value.to(dtype) for name, value in state.items() if value.is_floating_point()}
        return str(dtype)

    return _tensors(file, changed)


def half(file: Path, rng: random.Random) -> str:
    return _cast(file, rng, rng.choice((torch.float16, torch.bfloat16)))


def double(file: Path, rng: random.Random) -> str:
    return _cast(file, rng, torch.float64)


def whole_numbers(file: Path, rng: random.Random) -> str:
    return _cast(file, rng, torch.int64)


def no_tensors(file: Path, rng: random.Random) -> str:
    return _tensors(file, lambda state: state.clear() or '')


def bare_state(file: Path, rng: random.Random) -> str:
    torch.save(torch.load(file, weights_only=True)['state_dict'], file)
    return ''


def no_tensor_there(file: Path, rng: random.Random) -> str:
    content = torch.load(file, weights_only=True)
    content['state_dict'][_one(content['state_dict'], rng)] = 3
    torch.save(content, file)
    return ''


def one_tensor(file: Path, rng: random.Random) -> str:
    torch.save(torch.ones(3), file)
    return ''


def whole_model_wrapped(file: Path, rng: random.Random) -> str:
    def changed(state: dict[str, Tensor]) -> str:
        names = list(state)
        state |= {f'module.{name}': state.pop(name) for name in names}
        return ''

    return _tensors(file, changed)


# Configs.


def base_is_itself(file: Path, rng: random.Random) -> str:
    file.write_text(f"_base_ = ['./{file.name}']\n{file.read_text()}")
    return ''


def base_in_a_circle(file: Path, rng: random.Random) -> str:
    file.with_name('other.py').write_text(f"_base_ = ['./{file.name}']\n")
    file.write_text(f"_base_ = ['./other.py']\n{file.read_text()}")
    return ''


def base_unknown(file: Path, rng: random.Random) -> str:
    file.write_text(f"_base_ = ['./not_there.py']\n{file.read_text()}")
    return ''


def raises(file: Path, rng: random.Random) -> str:
    file.write_text(f'{file.read_text()}\nwidth = 1 / 0\n')
    return ''


def indented(file: Path, rng: random.Random) -> str:
    lines = file.read_text().splitlines()
    number = rng.choice([number for number, line in enumerate(lines) if line[:1].isalpha()])
    lines[number] = f' {lines[number]}'
    file.write_text('\n'.join(lines) + '\n')
    return f'line {number + 1}'


# Names of the folder that holds all of it.


def _place(name: str) -> Way:
    def renamed(file: Path, rng: random.Random) -> str:
        file.rename(file.with_name(name))
        return ascii(name)

    return renamed


PLACES = {
    name: _place(name)
    for name in ('a [1] b', '100% {x}', "it's (new)", 'größe', 'a#b;c&d', '-x', 'two  blanks ', os.fsdecode(b'gr\xfcn'))
}

_ANY: dict[Way, str] = {
    emptied: REFUSED,
    only_zeros: REFUSED,
    other_kind: REFUSED,
    is_a_folder: REFUSED,
    link_to_nothing: REFUSED,
    link_to_itself: REFUSED,
    link_to_a_folder: REFUSED,
    link_to_the_same: SAME,
}
_BYTES: dict[Way, str] = {cut: EITHER, byte_flipped: EITHER, bytes_inserted: EITHER, bytes_behind: EITHER}
_UNGUARDED = dict.fromkeys(_BYTES, MEANT)
"""Of files without a sum of their bytes."""
_IMAGES: dict[Way, str] = {
    **_ANY,
    **_BYTES,
    lossless_container: SAME,
    floats: REFUSED,
    other_size: REFUSED,
    far_too_large: REFUSED,
}
_TEXT: dict[Way, str] = {
    **_ANY,
    **_UNGUARDED,
    missing: REFUSED,
    marked: SAME,
    utf16: SAME,
    utf16_unmarked: REFUSED,
    latin1: REFUSED,
    nul: REFUSED,
    windows_ends: SAME,
    mac_ends: SAME,
    no_last_end: SAME,
    blank_line: SAME,
    blanks_behind: SAME,
}
_LISTS: dict[Way, str] = {
    **_TEXT,
    line_separator: REFUSED,
    line_twice: MEANT,
    other_order: MEANT,
    a_comment: SAME,
    line_lost: MEANT,
    name_unknown: REFUSED,
    with_suffix: SAME,
}
_WEIGHTS: dict[Way, str] = {
    **_ANY,
    **_UNGUARDED,
    cut: REFUSED,
    bytes_inserted: EITHER,
    bytes_behind: EITHER,
    missing: REFUSED,
    not_a_number: REFUSED,
    infinite: REFUSED,
    tensor_renamed: REFUSED,
    tensor_missing: REFUSED,
    tensor_unknown: REFUSED,
    other_shape: REFUSED,
    no_tensors: REFUSED,
    half: MEANT,
    double: EITHER,
    whole_numbers: MEANT,
}
WAYS: dict[str, dict[Way, str]] = {
    'image': {
        **_IMAGES,
        missing: MEANT,
        other_suffix: MEANT,
        deep: SAME,
        see_through: SAME,
        upright: SAME,
        palette: MEANT,
        grey: MEANT,
        lossy_container: MEANT,
        cmyk: MEANT,
        turned: MEANT,
    },
    'label': {
        **_IMAGES,
        missing: REFUSED,
        other_suffix: REFUSED,
        lossy_container: REFUSED,
        deep_label: SAME,
        indexed: SAME,
        upright: SAME,
        classes_unknown: REFUSED,
        beyond_a_byte: REFUSED,
        colours: REFUSED,
        signed: REFUSED,
        nothing_known: MEANT,
    },
    'captions': {
        **_TEXT,
        cut: EITHER,
        line_separator: MEANT,
        line_twice: SAME,
        other_order: SAME,
        line_lost: REFUSED,
        caption_key_renamed: REFUSED,
        caption_empty: REFUSED,
        caption_no_text: REFUSED,
        no_object: REFUSED,
        deeply_nested: REFUSED,
        second_caption: REFUSED,
        whole_paths: REFUSED,
    },
    'list': _LISTS,
    'list of mmseg': _LISTS | {way: REFUSED for way in (marked, utf16, blank_line, a_comment, with_suffix)},
    'class names': {**_TEXT, line_separator: MEANT, line_twice: REFUSED, other_order: MEANT, line_lost: MEANT},
    'weights': _WEIGHTS | {other_suffix: EITHER},
    'checkpoint': _WEIGHTS
    | {bare_state: SAME, no_tensor_there: REFUSED, one_tensor: REFUSED, whole_model_wrapped: EITHER},
    'json': {
        **_ANY,
        **_UNGUARDED,
        cut: REFUSED,
        missing: EITHER,
        marked: EITHER,
        utf16: EITHER,
        json_key_missing: MEANT,
        json_key_unknown: MEANT,
        json_value_of_other_type: MEANT,
        json_number_wrong: MEANT,
        json_list: REFUSED,
        json_comma: REFUSED,
    },
    'config': {
        **_ANY,
        **_UNGUARDED,
        missing: REFUSED,
        other_suffix: REFUSED,
        marked: EITHER,
        utf16: REFUSED,
        utf16_unmarked: REFUSED,
        latin1: EITHER,
        nul: REFUSED,
        line_separator: SAME,
        windows_ends: SAME,
        mac_ends: SAME,
        base_is_itself: REFUSED,
        base_in_a_circle: REFUSED,
        base_unknown: REFUSED,
        raises: REFUSED,
        indented: REFUSED,
    },
    'place': {way: SAME for name, way in PLACES.items() if name.isprintable()}
    | {way: EITHER for name, way in PLACES.items() if not name.isprintable()},
}
"""Kind of file → way → what is promised."""


def name_of(way: Way) -> str:
    """`byte flipped`."""
    return 'renamed' if way in PLACES.values() else way.__name__.replace('_', ' ')
