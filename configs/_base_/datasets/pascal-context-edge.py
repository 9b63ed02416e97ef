"""PASCAL-Context with edges as a fifth task, from ``pascal-context/trainval/ID.mat``; else ``pascal-context.py``.

Trained on thinned edges of the label maps, scored on their borders. The published odsF is of 2,498 of the images:
``val_evaluator[-1].image_list`` names a file with theirs.
"""

_base_ = ['./pascal-context.py']

set_tasks = ('semantic_segmentation', 'human_parts', 'saliency', 'normal', 'edge')
load = [*_base_.load, dict(type='LoadDenseAnnotation', task=dict(type='Edges'))]
train_pipeline = [*load, *_base_.augment]
test_pipeline = [*load, dict(type='LoadLabelMap'), *_base_.finish]
train_dataloader = dict(dataset=dict(tasks=set_tasks, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(tasks=set_tasks, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    *_base_.val_evaluator,
    dict(type='EdgeMetric', max_distance=0.0075, labels='gt_label_map', ignore_index=None),
]
test_evaluator = val_evaluator
