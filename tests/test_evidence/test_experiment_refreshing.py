"""projects/evidence/refreshing.py: which runs there are, the table of finished ones, and who creates whose samples."""

import json

import pytest
import refreshing as tool

from mmdiff2in1.datasets.scenes import make_scenes
from mmdiff2in1.synthesis import SampleStore


def lines_of():
    """Scores whose means and differences can be told by heart."""
    creator = dict(zip(tool.ARMS, (50.0, 49.0, 51.0, 50.0), strict=True))
    return [
        dict(arm=arm, seed=seed, test=dict(creator=score + seed * (arm != tool.CONTROL), exploiter=48.0))
        for arm, score in creator.items()
        for seed in (1, 0, 2)
    ]


def test_means_and_paired_differences():
    rows = {line.split('|')[1].strip(): line for line in tool.table(lines_of()).splitlines()[2:]}
    assert list(rows) == [tool.REAL_ONLY, *tool.ARMS]
    assert '48.00 ± 0.00' in rows['real only'] and '−2.00, −2.00, −2.00 | −2.00 ± 0.00 | – | 3' in rows['real only']
    assert rows['real + EMA'].endswith('| 50.00 ± 0.00 | – | – | – | 3 |')
    assert '| 50.00 ± 1.00 | −1.00, +0.00, +1.00 | +0.00 ± 1.00 | 1.000 | 3 |' in rows['the pretrained U-Net']
    assert '| 52.00 ± 1.00 | +1.00, +2.00, +3.00 | +2.00 ± 1.00 | 0.074 | 3 |' in rows['θ_C after the warm-up']


def test_a_table_of_what_is_there_so_far():
    control, other = (line for line in lines_of() if line['seed'] == 1 and line['arm'] in list(tool.ARMS)[:2])
    assert tool.table([]).count('\n') == 1
    rows = tool.table([control]).splitlines()[2:]
    assert [line.split('|')[1].strip() for line in rows] == ['real only', 'real + EMA']
    assert '| the pretrained U-Net | 50.00 | +0.00 | +0.00 | – | 1 |' in tool.table([control, other])


def test_what_is_done_is_not_run_again(tmp_path, capsys):
    out = tmp_path / 'runs.jsonl'
    out.write_text(''.join(json.dumps(line) + '\n' for line in lines_of()[:4]))
    tool.main(['--out', str(out), '--dry-run', '--seeds', '0', '1'])
    listed = capsys.readouterr().out.splitlines()
    assert [line[:5] for line in listed] == ['done ', 'done ', 'to do', 'done '] + ['to do'] * 4
    assert listed[2] == 'to do  the pretrained U-Net, seed 0'


@pytest.mark.slow
def test_samples_are_made_anew_in_the_middle(tmp_path, monkeypatch):
    make_scenes(tmp_path / 'scenes', {'train': 4, 'val': 2, 'test': 2}, size=64, workers=2, progress=False)
    monkeypatch.setattr(tool, 'WARMUP', 52)
    monkeypatch.setattr(tool, 'STEPS', 4)
    monkeypatch.setattr(tool, 'BATCH', 2)
    few, settings = {'train_dataloader.dataset.dataset.num_labelled': 4}, tool.settings
    monkeypatch.setattr(tool, 'settings', lambda *given: settings(*given) | few)
    refreshed = list(tool.ARMS)[3]
    monkeypatch.setitem(tool.ARMS, refreshed, (0, 2))
    args = tool.parse_args(['--data-root', str(tmp_path / 'scenes'), '--work-dir', str(tmp_path / 'runs')])
    records = {arm: tool.run(arm, 0, args) for arm in (tool.CONTROL, 'the pretrained U-Net', refreshed)}
    assert all(
        {'creator', 'exploiter'} == record[part].keys() for record in records.values() for part in ('val', 'test')
    )
    assert len({record['warmup']['val'] for record in records.values()}) == 1

    def recipes(arm, number):
        return [*SampleStore(tool.folder_of(arm, 0, args) / f'synthetic-{number}').finished().values()]

    made = [recipes('the pretrained U-Net', 0), recipes(refreshed, 0), recipes(refreshed, 1)]
    assert [len(each) for each in made] == [16] * 3
    weights = [{record['weights_hash'] for record in each} for each in made]
    assert [len(each) for each in weights] == [1, 1, 1] and len(set.union(*weights)) == 3
    assert not {record['noise_seed'] for record in made[1]} & {record['noise_seed'] for record in made[2]}
    assert not list((tool.folder_of(tool.CONTROL, 0, args)).glob('synthetic*'))
