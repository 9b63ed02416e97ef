"""Notebooks run from the first cell to the last, and are committed without what they showed."""

import json
import os
from pathlib import Path

import pytest
from patience import patient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'docs/notebooks').glob('*.ipynb'))
PICTURES = {'first_steps': 4}


def test_there_are_notebooks_without_outputs():
    assert [path.stem for path in NOTEBOOKS] == list(PICTURES)
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())['cells']
        assert [cell['outputs'] for cell in cells if cell['cell_type'] == 'code' and cell['outputs']] == []


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_the_first_cell_to_the_last(path, tmp_path, monkeypatch):
    """In a kernel of this Python, in an empty folder."""
    nbclient, nbformat = pytest.importorskip('nbclient'), pytest.importorskip('nbformat')
    pytest.importorskip('ipykernel')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    monkeypatch.setenv('JUPYTER_DATA_DIR', str(tmp_path / 'jupyter'))
    (tmp_path / 'empty').mkdir()
    notebook = nbformat.read(path, 4)
    settings = dict(
        timeout=patient(60), kernel_name='python3', resources={'metadata': {'path': str(tmp_path / 'empty')}}
    )
    nbclient.NotebookClient(notebook, **settings).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    assert sum('image/png' in output.get('data', {}) for output in outputs) == PICTURES[path.stem]
    assert [output.text for output in outputs if output.get('name') == 'stderr'] == []
    assert "{'mIoU': " in ''.join(output.get('data', {}).get('text/plain', '') for output in outputs)
    assert list((tmp_path / 'empty').iterdir()) == []
