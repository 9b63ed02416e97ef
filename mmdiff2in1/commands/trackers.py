"""Experiment trackers by one flag: their packages are looked for before anything is imported."""

import argparse
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

TRACKERS = {'tensorboard': 'TensorboardVisBackend', 'wandb': 'WandbVisBackend'}
"""Flag, which is also the package and the extra → mmengine's backend."""


def add_tracker_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --tensorboard and --wandb."""
    parser.add_argument('--tensorboard', action='store_true', help='curves for TensorBoard too, in <stage>/vis_data')
    parser.add_argument(
        '--wandb', action='store_true', help='curves to Weights & Biases too (WANDB_MODE=offline keeps them)'
    )


def check_trackers(args: argparse.Namespace) -> None:
    """Raises ImportError for one that was asked for and whose package is missing."""
    missing = [name for name in TRACKERS if getattr(args, name) and importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'--{missing[0]} needs the package {missing[0]}, which is not installed: '
            f'pip install "mmdiff2in1[{missing[0]}]"'
        )


def use_trackers(cfg: 'Config', args: argparse.Namespace) -> None:
    """Adds the backends that were asked for to the visualizer of a config."""
    asked = [name for name in TRACKERS if getattr(args, name)]
    if not asked:
        return
    visualizer = cfg.get('visualizer') or dict(type='SegLocalVisualizer')
    backends = list(visualizer.get('vis_backends') or [dict(type='LocalVisBackend')])
    cfg.visualizer = dict(visualizer, vis_backends=[*backends, *(dict(type=TRACKERS[name]) for name in asked)])
