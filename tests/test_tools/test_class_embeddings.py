"""The tool that makes class embeddings: names from the command line, a file, a dataset; what it refuses."""

import argparse
import importlib.util
from pathlib import Path

import pytest
import torch

from mmdiff2in1.commands import class_embeddings as command
from mmdiff2in1.generators.class_embeddings import read_class_embeddings

spec = importlib.util.spec_from_file_location(
    'class_embeddings_tool', Path(__file__).parents[2] / 'tools' / 'class_embeddings.py'
)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def run(tmp_path, *flags):
    tool.main(['--diffusion', 'builtin:scenes', '--out', str(tmp_path / 'x.safetensors'), *flags])
    return tmp_path / 'x.safetensors'


def test_names_on_the_command_line_and_in_a_file(tmp_path, capsys):
    names = ['floor', 'bed', 'bin']
    made = read_class_embeddings(run(tmp_path, '--classes', *names), names, 96)
    assert made.shape == (3, 96) and 'hardest to tell from' in capsys.readouterr().out
    (tmp_path / 'names.txt').write_text('floor\n\nbed\nbin\n')
    file = ['--classes', str(tmp_path / 'names.txt')]
    with pytest.raises(SystemExit, match='x.safetensors is there already; name another place, or add --overwrite'):
        run(tmp_path, *file)
    again = read_class_embeddings(run(tmp_path, *file, '--overwrite'), names, 96)
    assert torch.equal(again, made)


def test_names_of_a_dataset():
    assert len(command.names_of(argparse.Namespace(classes=None, dataset='ADE20KDataset'))) == 150


def test_closest():
    vectors = torch.tensor([[1.0, 0], [2.0, 0.1], [0, 3.0]])
    assert [other for other, _ in command.closest(vectors)] == [1, 0, 1]


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--dataset', 'NoDataset'], 'no such dataset'),
        (['--classes', 'bed', 'bin', 'bed'], 'more than once: bed'),
        (['--classes', 'bed', '--out', 'x.pth'], '2'),
    ],
)
def test_what_is_refused(tmp_path, flags, message):
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, *flags)
