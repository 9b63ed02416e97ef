"""NYUD-MT with edges as a fourth task, ``edge/ID.png``; the rest as in ``nyud-mt.py``."""

_base_ = ['./nyud-mt.py']

set_tasks = ('semantic_segmentation', 'depth', 'normal', 'edge')
load = [*_base_.load, dict(type='LoadDenseAnnotation', task=dict(type='Edges'))]
train_pipeline = [*load, *_base_.augment]
test_pipeline = [*load, dict(type='PackDenseInputs')]
train_dataloader = dict(dataset=dict(tasks=set_tasks, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(tasks=set_tasks, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [*_base_.val_evaluator, dict(type='EdgeMetric', max_distance=0.011)]
test_evaluator = val_evaluator
