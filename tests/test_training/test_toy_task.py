"""A task that no file of the package knows, registered here, goes through the whole chain and the inferencer.

That is what "a new task is one file in `tasks/` and a config" means: the class is the file, `toy_config` the config.
"""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS, MODELS, TASK_UTILS
from PIL import Image
from tiny_chain import ROOT, SIZE, chain_options
from torch import nn

from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.tasks import DenseTask
from mmdiff2in1.tasks.base import nearest
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.testing import test_models as run_tests


@TASK_UTILS.register_module()
class Luminance(DenseTask):
    """Mean of the colours, 0 … 1; -1 where it is not known, 255 in files."""

    name, field, path_key = 'luminance', 'gt_luminance_map', 'luminance_map_path'
    channels, invalid = 1, -1.0

    def activate(self, logits):
        return logits.sigmoid()

    def pseudo_label(self, output):
        return output.detach(), None

    def valid(self, target):
        return target >= 0

    def encode(self, array):
        return np.where(array < 0, 255, np.round(array * 254)).astype(np.uint8)

    def decode(self, array):
        self._check_file(array, [np.uint8], 2)
        return np.where(array == 255, np.float32(-1), array.astype(np.float32) / 254)

    def resize(self, array, size):
        return nearest(array, size)

    def colours(self, array):
        return np.repeat(np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)

    @property
    def loss(self):
        return dict(type='LuminanceLoss')

    @property
    def metric(self):
        return dict(type='LuminanceError')


@MODELS.register_module()
class LuminanceLoss(nn.Module):
    loss_name = 'loss_luminance'

    def forward(self, pred, target):
        valid = target >= 0
        return ((pred - target).abs() * valid).sum() / valid.sum().clamp(min=1)


@METRICS.register_module()
class LuminanceError(BaseMetric):
    default_prefix = 'luminance'

    def process(self, data_batch, data_samples):
        for sample in data_samples:
            truth, found = sample['gt_luminance_map']['data'], sample['pred_luminance_map']['data']
            known = truth >= 0
            self.results.append((float((truth - found)[known].abs().sum()), int(known.sum())))

    def compute_metrics(self, results):
        errors, counts = zip(*results, strict=True)
        return dict(mae=sum(errors) / sum(counts))


TASK = dict(type='Luminance')


def toy_config(folder) -> Config:
    """`depth_scenes` with another task: model, label folder, metric."""
    cfg = Config.fromfile(ROOT / 'configs/diff2in1/depth_scenes.py')
    options = chain_options(folder)
    cfg.merge_from_dict({key: value for key, value in options.items() if 'head' not in key and 'confid' not in key})
    segmentor = cfg.model.segmentor
    segmentor.task = segmentor.decode_head.head.task = TASK
    segmentor.neck.in_channels = [8, 16, 16]
    segmentor.decode_head.head.head.update(
        in_channels=[8] * 3, in_index=[0, 1, 2], feature_strides=[2, 4, 8], channels=8
    )
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        dataset = dataset.dataset if part == 'train' else dataset
        dataset.data_prefix = dict(img_path=f'{part}/images', luminance_map_path=f'{part}/luminance')
        dataset.pipeline = [
            dict(step, task=TASK) if step['type'] == 'LoadDenseAnnotation' else step for step in dataset.pipeline
        ]
    cfg.val_evaluator = cfg.test_evaluator = dict(type='LuminanceError')
    return cfg


@pytest.fixture(scope='module')
def run(chain_folder):
    """Work dir and results of a chain on it, and its config."""
    for image in sorted((chain_folder / 'scenes').glob('*/images/*.png')):
        target = image.parents[1] / 'luminance' / image.name
        target.parent.mkdir(exist_ok=True)
        luminance = np.asarray(Image.open(image).convert('RGB')).mean(-1) / 255
        luminance[:4] = -1  # the ceiling is not known
        Image.fromarray(Luminance().encode(luminance)).save(target)
    work_dir = chain_folder / 'toy'
    return work_dir, train(toy_config(chain_folder), work_dir), toy_config(chain_folder)


def test_it_is_trained_and_its_created_images_are_labelled(run):
    work_dir, results, _ = run
    logged = [
        json.loads(line)
        for file in (work_dir / 'self_improving').glob('*/vis_data/scalars.json')
        for line in file.read_text().splitlines()
    ]
    steps = [entry for entry in logged if 'loss' in entry]
    assert len(steps) == 20
    for entry in steps:
        parts = entry['real/decode.loss_luminance'] + entry['synthetic/decode.loss_luminance']
        assert entry['loss'] == pytest.approx(parts, rel=1e-4)
        assert entry['kept_share/luminance'] == 1
    assert {'luminance/mae', 'exploiter/luminance/mae'} <= set(results['test'])
    assert 0 < results['test']['luminance/mae'] < 0.5


def test_the_store_holds_images_alone_and_says_where_the_labels_of_the_sources_are(run):
    work_dir, _, _ = run
    store = SampleStore(work_dir / 'synthetic')
    records = store.records()
    assert len(records) == 12 and not (store.folder / 'labels').exists()
    for record in records:
        name = record['source'].rsplit('/', 1)[1]
        assert record['source_labels'] == {'luminance_map_path': f'train/luminance/{name}'}


def test_it_is_tested_and_written_as_files(run, tmp_path):
    work_dir, results, cfg = run
    checkpoint = results['self_improving']['checkpoint']
    metrics = run_tests(cfg, checkpoint, tmp_path / 'log', maps=tmp_path / 'maps', pictures=tmp_path / 'pictures')
    assert metrics['luminance/mae'] == results['test']['luminance/mae']
    errors = []
    for file in sorted((tmp_path / 'maps').glob('*.png')):
        truth = Luminance().decode(np.asarray(Image.open(work_dir.parent / 'scenes/test/luminance' / file.name)))
        errors.append(np.abs(Luminance().decode(read_png(file)) - truth)[truth >= 0].mean())
    assert np.mean(errors) == pytest.approx(metrics['luminance/mae'], abs=1 / 254)
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == len(errors) == 4


def test_the_inferencer_sees_it_in_images_and_in_what_it_creates(run):
    work_dir, results, cfg = run
    inferencer = Diff2in1Inferencer(cfg, results['self_improving']['checkpoint'], device='cpu')
    assert list(inferencer.tasks) == ['luminance']
    seen = inferencer(work_dir.parent / 'scenes/test/images/000000.png')[0]
    assert seen.map is seen.maps['luminance'].map and seen.map.shape == (SIZE, SIZE) and seen.confidence is None
    assert seen.colours.shape == (SIZE, SIZE, 3)
    made = inferencer.generate(prompts='a red ball', num_calls=2, size=SIZE)[0]
    assert made.map.shape == (SIZE, SIZE) and 0 < made.map.min() and made.map.max() < 1


def test_labels_of_the_sources_teach_where_a_config_says_so(run, chain_folder):
    """`label_rule` and `labels` are all that changes; θ_C then labels nothing."""
    _, _, cfg = run
    from mmseg.registry import DATASETS

    dataset = cfg.train_dataloader.dataset
    dataset.update(store=str(run[0] / 'synthetic'), labels='source')
    built = DATASETS.build(dataset)
    cfg.model.update(label_rule=dict(type='GivenLabel'), normalize_by='batch')
    model = MODELS.build(cfg.model).train()
    batch = [built[built.real_length], built[built.real_length + 1]]
    data = model.data_preprocessor(
        dict(inputs=[each['inputs'] for each in batch], data_samples=[each['data_samples'] for each in batch]), True
    )
    model.creator.encode_decode = None  # is not called
    cfg_losses = model.loss(data['inputs'], data['data_samples'])
    known = torch.stack([each['data_samples'].gt_luminance_map.data >= 0 for each in batch]).float().mean()
    assert float(cfg_losses['kept_share/luminance']) == pytest.approx(float(known))
    assert 0.5 < known < 1
