"""Every way into which a checkpoint is handed to this package, tried on a tiny model."""

from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from mmseg.registry import MODELS
from torch import nn
from torch.utils.data import DataLoader

from mmdiff2in1.converters.base import convert, known
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.models.checkpoints import load_weights, read_checkpoint
from mmdiff2in1.models.self_improving.trained_teacher import Teacher
from mmdiff2in1.training.optimizer_state import carry_optimizer_state
from mmdiff2in1.training.runs import resume_where_possible


@MODELS.register_module(force=True)
class OneNumber(BaseModel):
    """A model, a backbone or a student of one weight."""

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor', **_):
        return dict(loss=(self.weight * inputs).square().sum())


def runner(work_dir, **options) -> Runner:
    data = [dict(inputs=torch.ones(1))] * 4
    return Runner(
        OneNumber(options.pop('init_cfg', None)),
        str(work_dir),
        train_dataloader=DataLoader(data, 1, sampler=DefaultSampler(data)),
        train_cfg=dict(by_epoch=False, max_iters=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=1)),
        default_scope='mmseg',
        experiment_name=f'hostile-{work_dir.name}',
        **options,
    )


def resume(path):
    (path.parent / 'last_checkpoint').write_text(str(path))
    runner(path.parent, resume=True).train()


def resume_as_the_chain_does(path):
    (path.parent / 'last_checkpoint').write_text(str(path))
    cfg = Config(dict(work_dir=str(path.parent)))
    resume_where_possible(cfg)
    runner(path.parent, resume=cfg.resume, load_from=cfg.load_from).train()


def pretrained(path):
    runner(path.parent, init_cfg=dict(type='Pretrained', checkpoint=str(path))).train()


def pretrained_with_prefix(path):
    module = BaseModule(dict(type='Pretrained', checkpoint=str(path), prefix='backbone'))
    module.add_module('layer', nn.Linear(1, 1))
    module.init_weights()


def carry(path):
    carry_optimizer_state(runner(path.parent), path)


def teach(path):
    Teacher.load(dict(type='OneNumber'), path)


def infer(path):
    Diff2in1Inferencer(Config(dict(model=dict(type='OneNumber'))), path, device='cpu')


ENTRIES: dict[str, Callable[[Path], object]] = {
    '--resume': resume,
    '--resume of the chain': resume_as_the_chain_does,
    'resume from a named file': lambda path: runner(path.parent, resume=True, load_from=str(path)).train(),
    'load_from': lambda path: runner(path.parent, load_from=str(path)).train(),
    'init_cfg=Pretrained': pretrained,
    'init_cfg=Pretrained with a prefix': pretrained_with_prefix,
    'init_model and backbones of mmseg': lambda path: load_checkpoint(OneNumber(), str(path), map_location='cpu'),
    'test, teachers, warm-up': lambda path: load_weights(OneNumber(), path),
    'Teacher': teach,
    'inferencer': infer,
    'carry_optimizer': carry,
    'converters': lambda path: convert(known()['invpt'](), path),
    'converters back': lambda path: convert(known()['invpt'](), path, to='theirs'),
    'read_checkpoint': read_checkpoint,
}
