"""TaskPrompter's recipe: Adam 2e-5, L2 of 1e-6 in the gradient, clip 10, 40,000 steps of 4 images, power 0.9 down to 0.

One group of parameters, norms and biases in it; no warm-up; float32. As published for PASCAL-Context, on two GPUs with
two images each; NYUD-MT: 1e-5. Published figures are those of the last step.
"""

global_batch_size = 4
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-5, weight_decay=1e-6), clip_grad=dict(max_norm=10.0)
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
