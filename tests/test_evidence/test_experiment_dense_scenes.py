"""projects/evidence/dense_scenes.py: which runs there are, and the table of finished ones."""

import json

import dense_scenes as tool


def lines_of():
    """Errors whose means and differences can be told by heart."""
    figures = {'depth/rmse': 0.0, 'depth/abs_rel': 0.1, 'depth/d1': 0.9}
    arms = {'real only': 0.5, 'real + EMA': 0.4, 'Diff-2-in-1': 0.3}
    return [
        dict(
            config='depth_scenes',
            seed=seed,
            test={
                arm: figures | {'depth/rmse': rmse + 0.01 * seed * (arm != 'real + EMA')} for arm, rmse in arms.items()
            },
        )
        for seed in (2, 0, 1)
    ]


def test_means_and_paired_differences():
    rows = {line.split('|')[1].strip(): line for line in tool.table('depth_scenes', lines_of()).splitlines()[2:]}
    assert '0.510 ± 0.010' in rows['real only'] and '+0.1100 ± 0.0100' in rows['real only']
    assert '0.400 ± 0.000' in rows['real + EMA'] and '| – | – | – | 3 |' in rows['real + EMA']
    assert '−0.0900 ± 0.0100' in rows['Diff-2-in-1'] and '0.004' in rows['Diff-2-in-1']
    assert not any('confidence' in arm or 'all pixels' in arm for arm in rows)


def test_what_is_done_is_not_run_again(tmp_path, capsys):
    out = tmp_path / 'runs.jsonl'
    out.write_text(''.join(json.dumps(line) + '\n' for line in lines_of()))
    tool.main(['--out', str(out), '--dry-run', '--seeds', '0', '5'])
    listed = capsys.readouterr().out.splitlines()
    assert listed == [
        'to do  bae_scenes-normal, seed 0',
        'done   depth_scenes, seed 0',
        'to do  bae_scenes-normal, seed 5',
        'to do  depth_scenes, seed 5',
    ]
    assert list(tool.runs_of('depth_scenes')) == ['diff2in1', 'baselines']
    assert len(tool.runs_of('bae_scenes-normal')) == 7
