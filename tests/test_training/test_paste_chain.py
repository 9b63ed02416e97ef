"""The preset `paste` through the real chain: a small CNN from scratch on pasted images with true labels."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS
from tiny_chain import ROOT, SIZE, logged_losses

from mmdiff2in1.core.label_files import read_png
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.training.chain import train
from mmdiff2in1.training.recipes import make_self_improving
from mmdiff2in1.training.stages import check_chain


@pytest.fixture
def cfg(chain_folder, tmp_path):
    """`unet_scenes.py` under the preset, with all things that can be cut out of eight scenes."""
    file = tmp_path / 'paste.py'
    file.write_text(
        f"""
_base_ = [{str(ROOT / 'configs/baselines/unet_scenes.py')!r}]
from mmdiff2in1.training.recipes import make_self_improving

_base_.train_dataloader.dataset.pipeline.insert(2, dict(type='StrongColour'))
layout = dict(type='ObjectPaste', smallest=0.003)
make_self_improving(_base_, preset='paste', samples_per_image=2, samples_per_update=4, layout=layout)
"""
    )
    cfg = Config.fromfile(file, format_python_code=False)
    data = str(chain_folder / 'scenes')
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 2,
            'train_dataloader.dataset.dataset.data_root': data,
            'train_dataloader.dataset.dataset.num_labelled': 8,
            'val_dataloader.dataset.data_root': data,
            'test_dataloader.dataset.data_root': data,
            'model.segmentor.data_preprocessor.size': (SIZE, SIZE),
            'train_cfg.max_iters': 4,
            'train_cfg.val_interval': 4,
            'default_hooks.logger.interval': 1,
            'model.segmentor.backbone.base_channels': 4,
            'model.segmentor.decode_head.in_channels': 4,
            'model.segmentor.decode_head.channels': 4,
        }
    )
    return cfg


def test_training_on_pasted_images(cfg, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmdiff2in1.training.stages.print_log', lambda text, *_: said.append(text))
    results = train(cfg, tmp_path / 'run')
    assert said == [], 'θ_C labels nothing, so it need not have learned anything'
    assert set(results) == {'self_improving', 'test'} and 'exploiter/mIoU' in results['test']
    store = SampleStore(tmp_path / 'run/synthetic')
    records = store.records()
    assert len(records) == 16 and any(record['pasted'] for record in records)
    losses = logged_losses(tmp_path / 'run/self_improving')
    assert len(losses) == 4
    for entry in losses:
        # Every pixel of a pasted image has a label, and θ_C is not asked.
        assert entry['kept_share/semantic_segmentation'] == 1
        assert entry['synthetic/decode.loss_ce'] > 0 and entry['real/decode.loss_ce'] > 0
    assert train(cfg, tmp_path / 'run')['test'] == results['test'], 'all stages are skipped'
    assert SampleStore(tmp_path / 'run/synthetic').records() == records

    # What a pasted sample costs is the plain segmentor's loss on the composed image under the composed label.
    init_default_scope('mmseg')
    wrapped = cfg.train_dataloader.dataset
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    inner = dict(wrapped.dataset, pipeline=pipeline)
    dataset = DATASETS.build(dict(wrapped, dataset=inner, store=str(store.folder), mix='uniform'))
    assert dataset.labels == 'stored' and len(dataset) == 24
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    for index, record in enumerate(records):
        data = dataset[8 + index]
        label = read_png(store.labels(record)['semantic_segmentation'])
        np.testing.assert_array_equal(data['data_samples'].gt_sem_seg.data[0], label)
        np.testing.assert_array_equal(data['inputs'].numpy()[::-1], read_png(store.image(record)).transpose(2, 0, 1))
    batch = model.data_preprocessor(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]), True)
    found = model.loss(batch['inputs'], batch['data_samples'])['synthetic/decode.loss_ce']
    logits = model.exploiter.encode_decode(batch['inputs'], [dict(img_shape=(SIZE, SIZE))])
    target = batch['data_samples'][0].gt_sem_seg.data.long()
    torch.testing.assert_close(
        found, torch.nn.functional.cross_entropy(logits[..., :SIZE, :SIZE], target), atol=1e-4, rtol=1e-4
    )


def test_the_warning_is_for_rules_that_ask(cfg, monkeypatch):
    said = []
    monkeypatch.setattr('mmdiff2in1.training.stages.print_log', lambda text, *_: said.append(text))
    check_chain(cfg)
    of_all = dict(type='RulePerTask', rules={}, default=dict(type='GivenLabel'))
    for rule in (dict(type='mmseg.GivenLabel'), of_all, None):
        cfg.model.label_rule = rule
        cfg.model.use_stored_labels = rule is None
        check_chain(cfg)
    assert said == []
    cfg.model.use_stored_labels = False
    check_chain(cfg)
    cfg.model.label_rule = dict(type='TeacherLabel')
    check_chain(cfg)
    cfg.model.label_rule = dict(type='RulePerTask', rules={})
    check_chain(cfg)
    said = [text for text in said if 'composes true labels' not in text]
    assert len(said) == 3 and all('neither stages.warmup nor load_from' in text for text in said)
    assert json.loads(json.dumps(cfg.stages.synthesis.to_dict()))['T'] == 0


def test_labels_that_nobody_reads_or_writes_are_told(cfg, monkeypatch):
    said = []
    monkeypatch.setattr('mmdiff2in1.training.labelling_stage.print_log', lambda text, *_: said.append(text))
    check_chain(cfg)
    assert said == []
    cfg.stages.synthesis.unlabelled = 'photos'
    check_chain(cfg)
    cfg.model.label_rule = None
    check_chain(cfg)
    assert len(said) == 2 and 'nobody labels these images' in said[0] and 'nobody reads them' in said[1]


def test_a_layout_is_taught_by_its_labels_under_every_preset():
    base = {
        name: Config.fromfile(ROOT / 'configs/baselines/unet_scenes.py', format_python_code=False) for name in 'abc'
    }
    layout, teacher = dict(type='ObjectPaste'), dict(config='teacher.py', checkpoint='teacher.pth')
    make_self_improving(base['a'], layout=layout, T=0, num_samples=3)
    assert base['a'].model.label_rule.type == 'GivenLabel' and base['a'].train_dataloader.dataset.labels == 'stored'
    with pytest.raises(ValueError, match='composes true labels, and with per_step=True'):
        make_self_improving(base['b'], preset='paste', num_samples=3, teacher=teacher, per_step=True)
    with pytest.raises(ValueError, match="labels='source' and a teacher"):
        make_self_improving(base['c'], preset='distil', teacher=teacher, diffusion='x', num_samples=3, labels='source')
