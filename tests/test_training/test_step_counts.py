"""What a step costs, in calls and images, not in seconds: a change that makes it dearer fails here."""

from collections import Counter

import pytest
import tiny_views
from tiny_views import BATCH, LABELLED, self_improving, train, warmup

from mmdiff2in1.models.self_improving import SelfImprovingSegmentor
from mmdiff2in1.training import cached_views
from mmdiff2in1.training.runs import build_runner, unwrapped

CREATED = 2
STEPS = 3


@pytest.fixture
def seen(monkeypatch):
    """Calls, and images in them, of the parts of every model that is built from now on; what builds it is not counted.

    'fill' before a training begins (its views are made), 'step' in the training.
    """
    counts = Counter()

    def building(phase):
        def build(cfg):
            runner = build_runner(cfg)
            model = unwrapped(runner.model)
            diffusion = getattr(model, 'exploiter', model).backbone.diffusion
            assert diffusion.text is None  # let go: no step can call it
            parts = dict(unet=diffusion.unet.conv_in, encode=diffusion.vae.encoder.conv_in)
            if hasattr(model, 'creator') and model.creator.backbone.diffusion is not diffusion:
                parts['unet of θ_C'] = model.creator.backbone.diffusion.unet.conv_in
            for name, part in parts.items():
                part.register_forward_pre_hook(lambda _, args, name=name: count(name, args[0]))
            return runner

        def count(name, given):
            counts[phase, name] += 1
            counts[phase, f'{name}, images'] += len(given)

        return build

    monkeypatch.setattr(cached_views, 'build_runner', building('fill'))
    monkeypatch.setattr(tiny_views, 'build_runner', building('step'))
    return counts


def calls(phase, number, images):
    """`number` calls of U-Net and VAE encoder each, with so many images in all, and none of the text encoder."""
    return {(phase, part): number for part in ('unet', 'encode')} | {
        (phase, f'{part}, images'): images for part in ('unet', 'encode')
    }


def test_a_warm_up_step_sees_each_image_once(chain_folder, tmp_path, seen):
    train(warmup(chain_folder, tmp_path), STEPS)
    assert seen == calls('step', STEPS, STEPS * BATCH)


def test_with_cached_views_no_step_and_no_later_epoch_sees_any(chain_folder, tmp_path, seen):
    epochs, views = 5, 2
    train(warmup(chain_folder, tmp_path / 'first', views=views), epochs * LABELLED // BATCH)
    assert seen == calls('fill', views * LABELLED // BATCH, views * LABELLED)
    seen.clear()
    second = warmup(chain_folder, tmp_path / 'second', views=views)
    second.cached_views.folder = str(tmp_path / 'first' / 'views')
    train(second, STEPS)
    assert seen == {}


def test_a_self_improving_step_sees_each_image_once_for_both_models(chain_folder, tmp_path, straight, seen):
    store = straight[0] / 'synthetic'
    train(self_improving(chain_folder, tmp_path, store), STEPS)
    assert seen == calls('step', STEPS, STEPS * (BATCH + CREATED))
    seen.clear()
    train(self_improving(chain_folder, tmp_path / 'cached', store, views=1), STEPS)
    made = LABELLED + 2 * LABELLED  # two created ones of each
    assert seen == calls('fill', made // BATCH, made)


def test_with_a_trained_unet_only_what_is_created_is_seen_twice(chain_folder, tmp_path, straight, seen):
    cfg = self_improving(chain_folder, tmp_path, straight[0] / 'synthetic')
    cfg.model.segmentor.backbone.regime = 'finetune'
    train(cfg, STEPS)
    of_creator = {('step', 'unet of θ_C'): STEPS, ('step', 'unet of θ_C, images'): STEPS * CREATED}
    assert seen == calls('step', STEPS, STEPS * (BATCH + CREATED)) | of_creator


def test_the_gate_can_fail(chain_folder, tmp_path, straight, seen, monkeypatch):
    """Models that do not share, as they would without frozen features, cost a call more in each step."""
    monkeypatch.setattr(SelfImprovingSegmentor, '_frozen_features', lambda self, inputs: inputs)
    train(self_improving(chain_folder, tmp_path, straight[0] / 'synthetic'), STEPS)
    assert seen == calls('step', 2 * STEPS, STEPS * (BATCH + 2 * CREATED))
