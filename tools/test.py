"""Test: the metrics of a checkpoint on the test set of a config, its predictions and pictures of them.

    python tools/test.py CONFIG CHECKPOINT                     θ_C, the model that ships
    python tools/test.py CONFIG CHECKPOINT --model both        θ_C, and θ_E under exploiter/
    python tools/test.py CONFIG CHECKPOINT --out predictions   label maps as PNG, in the encoding of the label files
    python tools/test.py CONFIG CHECKPOINT --show-dir pictures image | ground truth | prediction, one PNG per image
    python tools/test.py CONFIG CHECKPOINT --tta               several scales and mirrored, averaged
    torchrun --nproc-per-node 8 tools/test.py CONFIG CHECKPOINT

CHECKPOINT is that of a self-improving run or of a plain segmentor, CONFIG as well; a plain config takes θ_C out of a
self-improving checkpoint, a self-improving config puts a plain checkpoint into both models. Missing and unexpected keys
are an error. The metrics are printed and written to <work dir>/test/metrics.json.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.label_files import read_png, write_png
from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.inference.image_files import read_images
from mmdiff2in1.inference.perception import perceived, task_of
from mmdiff2in1.models.checkpoints import load_weights
from mmdiff2in1.tasks import DenseTask, SemanticSegmentation
from mmdiff2in1.training.chain import build_runner
from mmdiff2in1.visualization import Perceived, prediction_panel

MODELS = {'creator': ('creator',), 'exploiter': ('exploiter',), 'both': ('creator', 'exploiter')}
TTA_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config with test_dataloader and test_evaluator')
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('--model', choices=MODELS, help='of a self-improving config (default: creator, i.e. θ_C)')
    parser.add_argument('--work-dir', type=Path, help='default: work_dir of the config, else work_dirs/CONFIG')
    parser.add_argument('--out', type=Path, help='folder of the predictions; with --model both, a subfolder for each')
    parser.add_argument('--show-dir', type=Path, help='folder of the pictures; both models stand side by side')
    parser.add_argument(
        '--tta',
        action='store_true',
        help=f'test-time augmentation: tta_model, tta_pipeline of the config, else scales {TTA_SCALES}, mirrored too',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='replace any entry of the config: a.b=c'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    args = parse_args(arguments)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    models = models_to_test(cfg, args.model)
    work_dir = Path(args.work_dir or cfg.get('work_dir') or Path('work_dirs', Path(args.config).stem))
    runner = prepare(cfg, args.checkpoint, work_dir / 'test', args.tta)
    with contextlib.ExitStack() as stack:
        writer = None
        if args.out or args.show_dir:
            maps = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            writer = PredictionWriter(runner, maps, args.show_dir, models)
            runner.register_hook(writer)
        metrics = {}
        for which in models:
            metrics |= test(runner, which, writer)
    if is_main_process():
        text = json.dumps(metrics, indent=2) + '\n'
        write_atomically(work_dir / 'test' / 'metrics.json', text.encode())
        print(text, end='')
        for what, folder in (('predictions', args.out), ('pictures', args.show_dir)):
            if folder:
                print(f'{what}: {folder}')
    return metrics


def models_to_test(cfg: Config, asked: str | None) -> Sequence[str | None]:
    """'creator', 'exploiter'; None for the one model of a plain config."""
    if cfg.model.type == 'SelfImprovingSegmentor':
        return MODELS[asked or 'creator']
    if asked:
        raise SystemExit(
            f'--model {asked}: the config holds one {cfg.model.type}, not θ_C and θ_E; leave --model out, or name the '
            'self-improving config'
        )
    return (None,)


def prepare(cfg: Config, checkpoint: str, work_dir: Path, tta: bool) -> Runner:
    """A runner over the test set whose model holds the checkpoint."""
    if tta:
        use_tta(cfg)
    cfg.work_dir, cfg.load_from, cfg.resume = str(work_dir), None, False
    if (cfg.get('test_cfg') or {}).get('type') == 'SelfImprovingTestLoop':  # one model at a time here
        cfg.test_cfg = dict(type='TestLoop', fp16=cfg.test_cfg.get('fp16', False))
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    runner = build_runner(cfg)
    load_weights(segmentor_of(runner), checkpoint)
    return runner


def use_tta(cfg: Config) -> None:
    """Puts the config's tta_model and tta_pipeline in place, or the usual ones."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    loads = [step for step in pipeline if str(step['type']).startswith('Load')]
    if not cfg.get('tta_pipeline'):
        flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
        scales = [dict(type='Resize', scale_factor=scale, keep_ratio=True) for scale in TTA_SCALES]
        views = [scales, flips, *([step] for step in loads[1:]), [pipeline[-1]]]
        cfg.tta_pipeline = [loads[0], dict(type='TestTimeAug', transforms=views)]
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    has_task = 'task' in cfg.model.get('segmentor', cfg.model)
    usual = dict(type='DenseTTAModel' if has_task else 'SegTTAModel')
    cfg.model = ConfigDict(cfg.get('tta_model') or usual, module=cfg.model)


def segmentor_of(runner: Runner) -> nn.Module:
    """The model inside the wrappers for several processes and for test-time augmentation."""
    model = runner.model
    while hasattr(model, 'module'):
        model = model.module
    return model


def test(runner: Runner, which: str | None, writer: 'PredictionWriter | None') -> dict[str, float]:
    """Metrics of one model, θ_E's below `exploiter/`."""
    model = segmentor_of(runner)
    if writer:
        writer.which = which
    # Drawn as in a SelfImprovingTestLoop, so that both give the same numbers.
    runner.logger.info(f'Testing {dict(creator="θ_C", exploiter="θ_E").get(which, type(model).__name__)}')
    with derived_randomness(runner.seed, 'evaluation', get_rank()):
        with model.evaluated(which) if which else contextlib.nullcontext():
            found = runner.test()
    return {f'exploiter/{k}' if which == 'exploiter' else k: float(v) for k, v in found.items()}


class PredictionWriter(Hook):
    """Writes label maps, and once the last model has predicted an image, the picture of it.

    Args:
        runner: Whose test set is predicted.
        maps: Folder of the label maps; with several models each has its own below it.
        pictures: Folder of the pictures, or None.
        models: In the order in which they are tested.
    """

    priority = 'LOW'

    def __init__(self, runner: Runner, maps: Path, pictures: Path | None, models: Sequence[str | None]) -> None:
        self.maps, self.pictures, self.models, self.which = maps, pictures, models, models[0]
        self.dataset = runner.test_loop.dataloader.dataset
        self.model = segmentor_of(runner)
        one_model = getattr(self.model, 'under_evaluation', self.model)
        self.task: DenseTask = task_of(one_model, self.dataset.metainfo, getattr(self.model, 'task', None))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """One batch of samples with predictions."""
        for sample in outputs or ():
            name = self._name(sample.img_path)
            found = self._prediction(sample)
            # mmseg has moved such classes down by one while loading: label files start at one, 0 is ignored.
            shift = int(bool(sample.metainfo.get('reduce_zero_label')))
            write_png(self._file(self.which, name), self.task.encode(found) + np.uint8(shift))
            if self.pictures and self.which == self.models[-1]:
                before = [self.task.decode(read_png(self._file(m, name)) - np.uint8(shift)) for m in self.models[:-1]]
                truth = sample.get(self.task.field)
                row = Perceived(
                    image=read_images(sample.img_path)[0].image,
                    truth=None if truth is None else self._map(truth.data),
                    predictions=[*before, found],
                    caption=name.as_posix(),
                )
                names = [model or 'prediction' for model in self.models]
                write_png(self.pictures / name, prediction_panel([row], self.task.colours, names))

    def _prediction(self, sample) -> np.ndarray:
        predicted = sample.get(self.task.prediction)
        if isinstance(self.task, SemanticSegmentation):
            return self._map(predicted.data)
        output = (predicted if predicted is not None else sample.seg_logits).data
        return perceived(self.task, output[None], self.model)['map']

    def _map(self, data: torch.Tensor) -> np.ndarray:
        """(H, W), (1, H, W) or (3, H, W) → (H, W) or (H, W, 3)."""
        array = data.cpu().numpy()
        if isinstance(self.task, SemanticSegmentation):
            array = array.astype(np.uint8)
        return array.transpose(1, 2, 0) if len(array) == 3 and array.ndim == 3 else array.reshape(array.shape[-2:])

    def _name(self, image: str) -> Path:
        """The image's path below the image folder of the data set, as PNG; its file name where there is none."""
        folder = getattr(self.dataset, 'data_prefix', {}).get('img_path')
        path = Path(image)
        inside = folder and path.is_relative_to(folder)
        return (path.relative_to(folder) if inside else Path(path.name)).with_suffix('.png')

    def _file(self, which: str | None, name: Path) -> Path:
        return self.maps / which / name if len(self.models) > 1 else self.maps / name


if __name__ == '__main__':
    main()
