"""The experiment of five tasks: its configs and its table."""

import argparse

import many_tasks


def scores(**figures):
    return dict(
        {'mIoU': 50.0, 'depth/rmse': 0.5, 'normal/mean': 20.0, 'saliency/maxF': 70.0, 'edge/odsF': 60.0}, **figures
    )


def test_one_task_alone_shares_all_but_head_and_score(tmp_path):
    args = argparse.Namespace(data_root=tmp_path / 'scenes', work_dir=tmp_path)
    alone, together, created = (
        many_tasks.config_of(name, 3, args) for name in ('edge alone', 'five tasks', 'five tasks, created')
    )
    head = alone.model.segmentor.decode_head.head
    assert list(head.tasks) == list(head.heads) == list(alone.model.segmentor.task) == ['edge']
    assert alone.val_evaluator.type == alone.test_evaluator.type == 'EdgeMetric'
    for key in ('optim_wrapper', 'train_cfg', 'param_scheduler', 'randomness', 'train_dataloader'):
        assert alone[key] == together[key]
    assert created.stages.warmup == together.stages.warmup != alone.stages.warmup
    assert created.stages.synthesis.seed == created.randomness.seed == 3 and together.stages.synthesis is None
    assert created.train_dataloader.dataset.dataset.subset_seed == 3


def test_table_by_hand():
    lines = []
    for seed, more in ((0, 0.0), (1, 2.0)):
        for task, (figure, _, _) in many_tasks.FIGURES.items():
            lines.append(dict(run=f'{task} alone', seed=seed, test={figure: scores()[figure]}))
        both = scores(mIoU=55.0) | {f'exploiter/{name}': value for name, value in scores(mIoU=45.0).items()}
        lines.append(dict(run='five tasks', seed=seed, test=both))
        created = scores(**{'mIoU': 54.0 + more, 'depth/rmse': 0.6})
        lines.append(dict(run='five tasks, created', seed=seed, test=created))
    cells = [row.strip('| ').split(' | ') for row in many_tasks.table(lines).splitlines()]
    rows = {name: figures for name, *figures in cells}
    assert rows['one model for each, real + EMA, n 2'][:2] == ['50.00 ± 0.00', '50.00 ± 0.00']
    # One of five figures is 10 % better or worse.
    assert rows['real + EMA (θ_C), n 2'][-1] == '+2.00 ± 0.00'
    assert rows['real only (θ_E), n 2'][0] == '45.00 ± 0.00' and rows['real only (θ_E), n 2'][-1] == '−2.00 ± 0.00'
    # 8 and 12 % better in one, 20 % worse in another.
    assert rows['Diff-2-in-1 (θ_C), n 2'][-1] == '−2.00 ± 0.57'
    difference = rows['Diff-2-in-1 − real + EMA']
    assert difference[:2] == ['+0.00 ± 1.41 (p 1.00)', '+10.00 ± 0.00']
