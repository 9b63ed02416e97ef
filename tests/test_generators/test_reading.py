"""Errors of libraries name the folder, in words, and advise to run nothing."""

import json

import pytest

from mmdiff2in1.generators.reading import loading, read_json


@pytest.mark.parametrize(
    ('error', 'reason'),
    [
        (KeyError('added_tokens'), "KeyError 'added_tokens'"),
        (TypeError('expected str'), 'TypeError expected str'),
        (IndexError(), 'IndexError'),
        (EOFError(), 'EOFError'),
        (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte'), 'UnicodeDecodeError .*invalid start byte'),
        (Exception('data did not match any variant'), 'Exception data did not match any variant'),
        (OSError('no file named model.safetensors'), 'no file named model.safetensors'),
        (ValueError('please pass the argument `trust_remote_code=True`'), 'code is not run here|not run here'),
        (RuntimeError('set weights_only=False at your own risk'), 'such code is not run here'),
    ],
)
def test_every_error_of_a_library(tmp_path, error, reason):
    with pytest.raises(ValueError, match=f'{tmp_path} cannot be loaded, .* do not fit: .*({reason})') as caught:
        with loading(tmp_path):
            raise error
    assert 'True' not in str(caught.value) and 'False' not in str(caught.value)


def test_no_memory_is_no_damage(tmp_path):
    with pytest.raises(MemoryError), loading(tmp_path):
        raise MemoryError


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'[1, 2]', 'holds a list, expected an object'),
        (b'null', 'holds a NoneType'),
        (b'"text"', 'holds a str'),
        (b'', 'is not valid JSON'),
        (b'{"a": 1', 'is not valid JSON'),
        (b'\xff\xfe{', 'is not valid JSON: .*utf-8'),
        (b'[' * 100_000, 'is not valid JSON'),
    ],
)
def test_json_that_is_no_object(tmp_path, data, message):
    (tmp_path / 'config.json').write_bytes(data)
    with pytest.raises(ValueError, match=f'config.json {message}'):
        read_json(tmp_path / 'config.json')


def test_json_with_a_byte_order_mark_and_any_letters(tmp_path):
    (tmp_path / 'a.json').write_bytes(json.dumps({'ü': 1}, ensure_ascii=False).encode('utf-8-sig'))
    assert read_json(tmp_path / 'a.json') == {'ü': 1}
