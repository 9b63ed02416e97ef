"""InvPT's recipe: Adam 2e-5, L2 of 1e-6 in the gradient, 40,000 steps of 6 images, power 0.9 down to 0.

One group of parameters, norms and biases in it; no warm-up, no clipping; float32. Published on three GPUs with two
images each. Published figures are those of the last step.
"""

global_batch_size = 6
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=1000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-5, weight_decay=1e-6))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
