"""What an earlier run has listed goes, and nothing else."""

import json

import pytest

from mmdiff2in1.inference.generation_files import RECIPES, write_generations


def test_an_earlier_list_cannot_have_files_of_others_deleted(tmp_path):
    out = tmp_path / 'out'
    (out / 'images').mkdir(parents=True)
    for file in (out / 'images' / '0000.png', out / 'notes.txt', tmp_path / 'precious.png'):
        file.write_text('mine')
    names = dict(images='images/0000.png', labels='../precious.png', colours=str(tmp_path / 'precious.png'))
    others = [dict(images=5), dict(images=None), dict(caption='notes.txt')]
    (out / RECIPES).write_text(json.dumps(dict(samples=[names, *others])))
    with pytest.raises(IndexError):  # there is nothing to draw a sheet of
        write_generations(out, [], {}, {})
    assert (tmp_path / 'precious.png').read_text() == (out / 'notes.txt').read_text() == 'mine'
    assert not (out / 'images' / '0000.png').exists()
    for text in ('{', '[]', '{"samples": [1]}'):
        (out / RECIPES).write_text(text)
        with pytest.raises(ValueError, match=r'recipes\.json is damaged .*delete it, or name another folder'):
            write_generations(out, [], {}, {})
