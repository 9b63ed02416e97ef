"""Captions: the right one for the right image, or an error that names the image."""

import json

import pytest

from mmdiff2in1.captions import captions_of, read_captions


def write(path, *entries):
    path.write_text('\n'.join(json.dumps(entry) if isinstance(entry, dict) else entry for entry in entries))
    return path


def test_longest_fitting_path_wins(tmp_path):
    entries = [
        dict(image='0.png', caption='any'),
        dict(image='b/0.png', caption='in b'),
        '',
        dict(image='1.png', caption=' ü '),
    ]
    captions = read_captions(write(tmp_path / 'captions.jsonl', *entries))
    assert captions == {'0.png': 'any', 'b/0.png': 'in b', '1.png': ' ü '}
    assert captions_of(['/data/a/0.png', '/data/b/0.png', 'x/1.png'], captions) == ['any', 'in b', 'ü']


def test_whole_names_fit_only():
    with pytest.raises(ValueError, match='no caption for a/10.png'):
        captions_of(['a/10.png'], {'0.png': 'no'})


def test_absolute_keys_fit():
    assert captions_of(['/data/a/0.png'], {'/data/a/0.png': 'yes'}) == ['yes']


@pytest.mark.parametrize('captions', [{}, {'0.png': ''}, {'0.png': '  '}])
def test_missing_and_empty_captions_name_the_image(captions):
    with pytest.raises(ValueError, match=r'no caption for a/0\.png and 1 more.*caption_fallback=""'):
        captions_of(['a/0.png', 'a/1.png'], captions)
    assert captions_of(['a/0.png', 'a/1.png'], captions, fallback='') == ['', '']
    assert captions_of(['a/0.png'], captions, fallback='a photo') == ['a photo']


def test_one_caption_for_two_images_is_refused():
    with pytest.raises(ValueError, match=r'"0\.png" fits both a/0\.png and b/0\.png'):
        captions_of(['a/0.png', 'b/0.png'], {'0.png': 'which?'})
    assert captions_of(['a/0.png', 'a/0.png'], {'0.png': 'the same image'}) == ['the same image'] * 2


@pytest.mark.parametrize(
    'line', ['{"image": "0.png"', '{"image": "0.png"}', '["0.png", "a"]', '{"image": 1, "caption": "a"}']
)
def test_bad_lines_are_named(tmp_path, line):
    file = write(tmp_path / 'captions.jsonl', dict(image='a.png', caption='a'), line)
    with pytest.raises(ValueError, match=r'captions\.jsonl:2: found .* expected'):
        read_captions(file)


def test_two_captions_of_one_image_and_missing_file(tmp_path):
    same = dict(image='a.png', caption='a')
    assert read_captions(write(tmp_path / 'twice.jsonl', same, same)) == {'a.png': 'a'}
    with pytest.raises(ValueError, match=r'c\.jsonl:2: a second, different caption for a\.png'):
        read_captions(write(tmp_path / 'c.jsonl', same, dict(image='a.png', caption='b')))
    with pytest.raises(FileNotFoundError, match=r'none\.jsonl does not exist'):
        read_captions(tmp_path / 'none.jsonl')
