"""From a config to a plan and a store: settings, captions and sources come together."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdiff2in1.synthesis import SynthesisSettings, prepare, synthesize_from_config
from mmdiff2in1.synthesis.generator import build_diffusion


@pytest.fixture
def cfg(tmp_path, tiny_diffusion_config):
    (tmp_path / 'data' / 'images').mkdir(parents=True)
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (10, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / 'data' / 'images' / f'{index}.png')
    lines = [json.dumps(dict(image=f'{index}.png', caption=f'a table {index}')) for index in range(3)]
    (tmp_path / 'data' / 'captions.jsonl').write_text('\n'.join(lines))
    dataset = dict(
        type='BaseSegDataset', data_root=str(tmp_path / 'data'), img_suffix='.png', ignore_index=11, pipeline=[],
        data_prefix=dict(img_path='images', seg_map_path='labels'),
    )  # fmt: skip
    synthesis = dict(
        diffusion=tiny_diffusion_config, captions=str(tmp_path / 'data' / 'captions.jsonl'), samples_per_image=2, T=500,
        num_calls=2, size=8, device='cpu',
    )  # fmt: skip
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type='SyntheticSampleDataset', dataset=dataset, store=None)),
            stages=dict(synthesis=synthesis),
        )
    )


def test_a_config_becomes_a_store(cfg, tmp_path):
    records = synthesize_from_config(cfg, tmp_path / 'store', progress=False).records()
    assert [(record['source'], record['seed'], record['caption']) for record in records] == [
        (f'images/{index}.png', seed, f'a table {index}') for index in range(3) for seed in range(2)
    ]
    assert {(*record['size'], record['T']) for record in records} == {(8, 16, 500)}
    for record in records:
        name = record['source'].removeprefix('images/')
        assert record['source_labels'] == dict(seg_map_path=f'labels/{name}')
    again = synthesize_from_config(cfg, tmp_path / 'store', progress=False).records()
    assert again == records


def test_random_weights_depend_on_the_seed_and_disturb_nothing(cfg):
    settings = SynthesisSettings.from_cfg(cfg)
    state = torch.random.get_rng_state()
    first, second = build_diffusion(settings), build_diffusion(settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.weights_hash() == second.weights_hash()


def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    cfg.stages.synthesis.update(device='cuda:9', diffusion='gone')
    with pytest.raises(ValueError, match=r'^stages\.synthesis\.device cuda:9: torch .* cannot compute there'):
        build_diffusion(SynthesisSettings.from_cfg(cfg))


def test_dtype_leaves_the_noise_schedule_alone(cfg):
    cfg.stages.synthesis.dtype = 'bfloat16'
    diffusion = build_diffusion(SynthesisSettings.from_cfg(cfg))
    assert {parameter.dtype for parameter in diffusion.parameters()} == {torch.bfloat16}
    assert diffusion.schedule.alphas_cumprod.dtype == torch.float32


def test_the_ignore_label_of_older_configs_says_nothing(cfg):
    expected = prepare(cfg)
    cfg.stages.synthesis.ignore_label = 7
    job = prepare(cfg)
    assert job.settings == expected.settings and job.source_labels == expected.source_labels
    assert not hasattr(job.settings, 'ignore_label')


def test_captions_may_be_left_out_on_purpose_only(cfg):
    cfg.stages.synthesis.captions = None
    with pytest.raises(ValueError, match=r'no caption for .*0\.png and 2 more'):
        prepare(cfg)
    cfg.stages.synthesis.caption_fallback = ''
    assert {source.caption for source in prepare(cfg).sources} == {''}


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(steps=20), 'unknown keys in stages.synthesis: steps; known: diffusion, unet, captions'),
        (dict(dtype='half'), "unknown dtype 'half'; known: float32, bfloat16, float16"),
        (dict(filters=dict(fid=(0, 1))), "unknown filter 'fid'"),
        (
            dict(layout=dict(type='ObjectPaste'), condition='depth', T=0),
            'T is 0, so no generator redraws what the layout',
        ),
        (dict(layout=dict(type='ObjectPaste'), scenes=dict(type='recombined')), 'both layout and scenes'),
        (dict(condition='depth', scenes=dict(type='recombined')), 'both condition and scenes'),
        (dict(diffusion=None, layout=dict(type='ObjectPaste'), T='noise'), 'T=noise redraws what the layout composes'),
        (
            dict(diffusion=None, unlabelled='photos', condition='depth'),
            'lacks diffusion and asks for created images by condition, samples_per_image',
        ),
    ],
)
def test_bad_settings(cfg, change, message):
    cfg.stages.synthesis.update(change)
    with pytest.raises(ValueError, match=message):
        prepare(cfg)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(T=0), r'stages\.synthesis\.T is 0, expected 1 … T_max'),
        (dict(T=[200, -1]), r'T is -1, expected 1 … T_max'),
        (dict(T=dict(low=0, high=5)), r'T is 0, expected 1 … T_max'),
        (dict(layout=dict(type='ObjectPaste'), T=-1), r'T is -1, expected 0 … T_max'),
        (dict(T='loud'), "T is 'loud', expected an integer, a list"),
        (dict(num_calls=0), r'num_calls is 0, expected an integer of 1 or more, at most T'),
        (dict(num_calls=2.5), 'num_calls is 2.5, expected an integer'),
        (dict(size=-8), 'size is -8 .*expected positive sides'),
        (dict(size=[8, 8, 8]), r'size is \[8, 8, 8\], expected the shorter side'),
    ],
)
def test_what_no_generator_could_do_is_found_before_it_is_loaded(cfg, change, message, monkeypatch):
    monkeypatch.setattr('mmdiff2in1.synthesis.from_config.build_diffusion', lambda *_: pytest.fail('loaded'))
    test_bad_settings(cfg, change, message)


def test_absent_settings(cfg):
    del cfg.stages.synthesis['diffusion']
    with pytest.raises(ValueError, match='lacks diffusion'):
        prepare(cfg)
    with pytest.raises(ValueError, match=r'no stages\.synthesis'):
        prepare(Config(dict(train_dataloader=cfg.train_dataloader)))


def test_missing_weights_folder(cfg):
    cfg.stages.synthesis.pop('diffusion')
    cfg.stages.synthesis.diffusion = 'no/such/folder'
    with pytest.raises(FileNotFoundError, match='no/such/folder'):
        prepare(cfg)


@pytest.mark.slow  # half a minute of compiling
def test_the_denoiser_may_be_compiled(cfg, tmp_path):
    """The samples are those of the plain one, to a grey level, and of the same names."""
    plain = synthesize_from_config(cfg, tmp_path / 'plain', progress=False)
    cfg.stages.synthesis.compile = dict(backend='aot_eager')
    torch._dynamo.utils.counters.clear()
    compiled = synthesize_from_config(cfg, tmp_path / 'compiled', progress=False)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] >= 1
    records = compiled.records()
    assert [record['sample_id'] for record in records] == [record['sample_id'] for record in plain.records()]
    for record in records:
        one, other = (np.asarray(Image.open(each.folder / record['image'])).astype(int) for each in (plain, compiled))
        assert abs(one - other).max() <= 1


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ('reduce-overhead', r"compile is 'reduce-overhead', expected True or dict\(mode='reduce-overhead'\)"),
        (dict(mod='default'), 'unknown arguments in stages.synthesis.compile: mod .*mode'),
    ],
)
def test_arguments_of_compile(cfg, value, message):
    cfg.stages.synthesis.compile = value
    with pytest.raises(ValueError, match=message):
        SynthesisSettings.from_cfg(cfg)
