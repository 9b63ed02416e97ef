"""Text of others: marks, encodings, and lines that only a newline ends."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mmdiff2in1.captions.caption_file import CaptionFile
from mmdiff2in1.captions.captioning import ImageSet, caption_images
from mmdiff2in1.captions.listed import ListedCaptions
from mmdiff2in1.captions.lookup import captions_of, read_captions
from mmdiff2in1.captions.overview import forget
from mmdiff2in1.captions.sources import FileCaptions
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.core.text_files import lines_of, printable, read_text
from mmdiff2in1.pretraining.image_folder import ImageCaptionFolder

LINES = ['{"image": "a/0001.png", "caption": "a room"}', '{"image": "a/0002.png", "caption": "two balls"}']
WANTED = {'a/0001.png': 'a room', 'a/0002.png': 'two balls'}


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
def test_marks_and_ends_of_lines(tmp_path, encoding, newline):
    file = tmp_path / 'captions.jsonl'
    file.write_bytes((newline.join(LINES) + newline).encode(encoding))
    assert lines_of(file) == LINES
    assert read_captions(file) == WANTED
    assert ListedCaptions(file).captions(2) == list(WANTED.values())


def test_another_encoding_is_named_with_line_and_cure(tmp_path):
    file = tmp_path / 'captions.txt'
    file.write_bytes('a room\nein Gemälde\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'captions\.txt:2: found the byte 0xe4, which is no UTF-8; .*iconv -f latin1'):
        ListedCaptions(file)
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / '0001.txt').write_bytes(b'\xff\x41')
    with pytest.raises(ValueError, match=r'0001\.txt:1: found the byte 0xff'):
        FileCaptions(tmp_path / 'texts')
    (tmp_path / 'texts' / '0001.txt').write_bytes('\ufeffa room\n'.encode())
    assert FileCaptions(tmp_path / 'texts')(['0001.png']) == ['a room']
    assert read_text(tmp_path / 'texts' / '0001.txt') == 'a room\n'


@pytest.mark.parametrize('inside', ['\u2028', '\u0085', '\x0b', '\x1c'])
def test_what_is_written_is_read_back(tmp_path, inside):
    file = CaptionFile(tmp_path / 'run[1].jsonl')
    CaptionFile(file.path, rank=0).append({'0001.png': f'a room{inside}with a ball'})
    file.merge(['0001.png'])
    assert read_captions(file.path) == {'0001.png': f'a room{inside}with a ball'}
    assert list(tmp_path.iterdir()) == [file.path]


@pytest.mark.parametrize('key', ['a\\0001.png', './a/0001.png', 'a/0001.png'])
def test_other_ways_to_write_a_name(tmp_path, key):
    (tmp_path / 'c.jsonl').write_text(json.dumps(dict(image=key, caption='a room')) + '\n')
    assert captions_of(['data/a/0001.png'], read_captions(tmp_path / 'c.jsonl')) == ['a room']


@pytest.mark.parametrize('forms', [('NFC', 'NFD'), ('NFD', 'NFC')])
def test_accents_in_either_form(tmp_path, forms):
    name, on_disk = (unicodedata.normalize(form, 'küche/été.png') for form in forms)
    (tmp_path / 'c.jsonl').write_text(json.dumps(dict(image=name, caption='a kitchen')) + '\n')
    assert captions_of([f'data/{on_disk}'], read_captions(tmp_path / 'c.jsonl')) == ['a kitchen']


@pytest.mark.parametrize(
    ('keys', 'reason'),
    [
        (
            ['0001', '0002'],
            "of '0001' and '0002', the images are 'data/0001.png' and 'data/0002.png': .* lack",
        ),
        (['/home/me/0003.png'], 'whole paths of another place'),
        (['C:\\me\\0003.png'], 'whole paths of another place'),
        (['b.png'], "captions of 'b.png', the images are 'data/0001.png' and 'data/0002.png'. Add the lines"),
    ],
)
def test_names_that_do_not_match_are_shown_side_by_side(tmp_path, keys, reason):
    (tmp_path / 'c.jsonl').write_text(''.join(json.dumps(dict(image=k, caption='x')) + '\n' for k in keys))
    with pytest.raises(ValueError, match=reason):
        captions_of(['data/0001.png', 'data/0002.png'], read_captions(tmp_path / 'c.jsonl'))


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_a_marked_caption_file_can_be_extended(tmp_path, encoding):
    file = CaptionFile(tmp_path / 'c.jsonl')
    file.path.write_bytes('\n'.join(LINES).encode(encoding))
    assert file.read() == WANTED
    file.repair()
    file.append({'a/0003.png': 'a bin'})
    file.forget({'a/0001.png'})
    assert file.read() == {'a/0002.png': 'two balls', 'a/0003.png': 'a bin'}
    assert len(file.path.read_text('utf-8').splitlines()) == 2


NOT_UTF8 = os.fsdecode(b't\xfcr.png')
"""The name of a file from a system with Latin-1."""


def test_an_image_whose_name_is_no_utf8(tmp_path):
    """Its caption is written, read back and found, in a file that is UTF-8 all the same."""
    file = CaptionFile(tmp_path / 'c.jsonl')
    file.append({NOT_UTF8: 'a door', 'é.png': 'a summer'})
    CaptionFile(file.path, rank=1).append({f'a/{NOT_UTF8}': 'a gate'})
    file.merge([])
    assert file.path.read_bytes().decode().splitlines()[0] == '{"image": "t\\udcfcr.png", "caption": "a door"}'
    assert captions_of([f'data/{NOT_UTF8}', 'é.png', f'a/{NOT_UTF8}'], read_captions(file.path)) == [
        'a door',
        'a summer',
        'a gate',
    ]


def test_a_caption_that_is_no_utf8_is_refused(tmp_path):
    """No tokenizer would take it."""
    with pytest.raises(ValueError, match=r"'0001.png': found the caption 'a .udcfc', which is no text"):
        CaptionFile(tmp_path / 'c.jsonl').append({'0001.png': 'a \udcfc'})
    assert not (tmp_path / 'c.jsonl').exists()
    (tmp_path / 'c.jsonl').write_text('{"image": "0001.png", "caption": "a \\udcfc"}\n')
    for read in (read_captions, ListedCaptions):
        with pytest.raises(ValueError, match=r'c\.jsonl:1: found .*udcfc'):
            read(tmp_path / 'c.jsonl')


@pytest.mark.parametrize(
    'values', [np.uint8([[1, 2], [3, 255]]), np.uint16([[1, 65535]]), np.zeros((2, 3, 3), np.uint8)]
)
def test_a_map_whose_name_is_no_utf8(tmp_path, values):
    """OpenCV by itself ends the process."""
    write_png(tmp_path / NOT_UTF8, values)
    np.testing.assert_array_equal(read_png(tmp_path / NOT_UTF8), values)


def test_printable():
    assert printable(f'été {NOT_UTF8}') == r'été t\udcfcr.png'


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_one_key_for_those_who_write_read_forget_and_pretrain(tmp_path, form):
    name = unicodedata.normalize(form, 'été.png')
    (tmp_path / 'images').mkdir()
    Image.new('RGB', (8, 8)).save(tmp_path / 'images' / name)
    path, images = tmp_path / 'c.jsonl', ImageSet.of_folder(tmp_path / 'images')
    (tmp_path / 'given.jsonl').write_text(json.dumps(dict(image=name, caption='a summer')) + '\n')
    assert caption_images(images, FileCaptions(tmp_path / 'given.jsonl'), path, progress=False)
    assert ImageCaptionFolder(tmp_path / 'images', (8, 8), read_captions(path)).captions == ['a summer']
    assert forget(images, path, 'all') == 1 and CaptionFile(path).read() == {}


@pytest.mark.parametrize('data', ['ab\ncd\n'.encode('utf-16-le'), b'a\0b\n', b'a\0\n\xef\xbb\xbf'])
def test_a_zero_byte_is_no_text(tmp_path, data):
    (tmp_path / 'list.txt').write_bytes(data)
    with pytest.raises(ValueError, match=r'list\.txt:1: found a zero byte, .* iconv -f utf-16le -t utf-8 list\.txt'):
        read_text(tmp_path / 'list.txt')


def test_json_without_end_is_named(tmp_path):
    (tmp_path / 'c.jsonl').write_text('[' * 100000 + '\n')
    for read in (read_captions, ListedCaptions, lambda file: CaptionFile(file).read()):
        with pytest.raises(ValueError, match=r'c\.jsonl'):
            read(tmp_path / 'c.jsonl')


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n', 'a pointer of Git LFS'),
        ('\n<!DOCTYPE HTML>\n<html>', 'a web page'),
        ('<html lang="en">', 'a web page'),
    ],
)
def test_what_lies_in_the_place_of_a_text(tmp_path, text, found):
    (tmp_path / 'classes.txt').write_text(text)
    with pytest.raises(ValueError, match=rf'classes\.txt:1: found {found}.*; expected a text file in UTF-8\. Fetch'):
        read_text(tmp_path / 'classes.txt')
