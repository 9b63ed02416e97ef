"""Other pipelines as generators: as many calls as asked for, from the noise asked for, each sample by its own seed."""

import json
import shutil

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
)
from mmengine.config import Config
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_pipelines import flux, sdxl, stable_diffusion_3
from tiny_stable_diffusion import SCHEDULE, stable_diffusion

from mmdiff2in1.generators import LatentDiffusion, timestep_grid
from mmdiff2in1.generators.loading import load_generator
from mmdiff2in1.generators.pipeline_generator import PipelineGenerator
from mmdiff2in1.generators.solvers import ddim
from mmdiff2in1.inference.generation import diffusion_for, settings_for
from mmdiff2in1.models.backbones import DiffusionBackbone
from mmdiff2in1.synthesis import synthesize_from_config
from mmdiff2in1.training.identity import weights_mark

PIPELINES = dict(sdxl=sdxl, stable_diffusion_3=stable_diffusion_3, flux=flux)


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    made = {}
    for name, build in PIPELINES.items():
        made[name] = tmp_path_factory.mktemp(name)
        build().save_pretrained(made[name])
    return made


@pytest.fixture(scope='module')
def generators(folders):
    return {name: load_generator(folder) for name, folder in folders.items()}


@pytest.fixture(params=PIPELINES)
def generator(request, generators):
    return generators[request.param]


def images(count: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Watch:
    """Counts the calls of a denoiser and keeps the timesteps that it is given."""

    def __init__(self, generator):
        pipeline = generator.pipeline
        denoiser = pipeline.unet if hasattr(pipeline, 'unet') else pipeline.transformer
        self.seen, self._scale = [], 1000 if 'Flux' in generator.name else 1
        self._hook = denoiser.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, _module, args, kwargs) -> None:
        t = kwargs['timestep'] if 'timestep' in kwargs else args[1]
        self.seen.append(round(float(torch.as_tensor(t).flatten()[0]) * self._scale))

    def __enter__(self):
        return self.seen

    def __exit__(self, *_):
        self._hook.remove()


@pytest.mark.parametrize(('T', 'calls'), [(600, 1), (600, 3), (100, 7), (999, 4), (950, 20), (1000, 3)])
def test_as_many_calls_as_asked_for(generator, T, calls):
    with Watch(generator) as seen:
        made = generator.create(images(1), captions=['a red ball'], seeds=[1], T=T, num_calls=calls)
    assert len(seen) == made.calls == calls
    assert seen == made.timesteps
    assert made.images.shape == (1, 3, 16, 24) and made.images.dtype == torch.float32
    assert -1 <= made.images.min() < made.images.max() <= 1


@pytest.mark.parametrize('guidance', [1.0, 3.0])
def test_guidance_makes_no_more_calls(generator, guidance):
    made = generator.create(images(1), captions=['a'], seeds=[1], T=400, num_calls=2, guidance_scale=guidance)
    assert made.calls == 2


def test_diffusion_walks_the_even_grid_and_flow_matching_its_own(generators):
    assert generators['sdxl'].planned_timesteps(600, 7) == timestep_grid(600, 7).timesteps
    # Stable Diffusion 3: shares of noise 0.6, 0.4, 0.2, shifted by σ → 3σ / (1 + 2σ).
    assert generators['stable_diffusion_3'].planned_timesteps(600, 3) == [818, 667, 429]
    # FLUX: σ → e^μ / (e^μ + 1/σ - 1). The plan knows no size and takes μ of 256 tokens; 16×24 pixels are 24 tokens.
    assert generators['flux'].planned_timesteps(500, 1) == [622]
    made = generators['flux'].create(images(1), captions=['a'], seeds=[1], T=500, num_calls=1)
    mu = 0.5 + (24 - 256) * (1.15 - 0.5) / (4096 - 256)
    assert made.timesteps == [round(1000 / (1 + torch.tensor(-mu).exp().item()))]


def test_the_plan_is_walked(generators):
    for name in ('sdxl', 'stable_diffusion_3'):
        made = generators[name].create(images(1), captions=['a'], seeds=[1], T=350, num_calls=5)
        assert made.timesteps == generators[name].planned_timesteps(350, 5)


def test_a_sample_is_a_function_of_its_seed(generator):
    x, captions = images(3), ['a red ball', 'a table', '']
    options = dict(T=700, num_calls=3, guidance_scale=2.0)
    state = torch.get_rng_state()
    together = generator.create(x, captions=captions, seeds=[5, 6, 7], **options).images
    again = generator.create(x, captions=captions, seeds=[5, 6, 7], **options).images
    assert torch.equal(together, again)
    assert torch.equal(torch.get_rng_state(), state)
    for i in range(3):
        alone = generator.create(x[i : i + 1], captions=captions[i : i + 1], seeds=[5 + i], **options).images
        assert (alone - together[i : i + 1]).abs().max() < 2 / 255  # one grey level
    twin = generator.create(x[[0, 0]], captions=['a', 'a'], seeds=[5, 6], **options).images
    assert (twin[0] - twin[1]).abs().max() > 2 / 255


def test_pure_noise_forgets_the_source_and_less_remembers_it(generator):
    options = dict(captions=['a table'], seeds=[3], num_calls=2)
    x = images(1)
    noise = generator.create(None, T=1000, size=(16, 24), **options).images
    assert torch.equal(noise, generator.create(x, T=1000, **options).images)
    kept, other = (generator.create(source, T=300, **options).images for source in (x, -x))
    assert (kept - other).abs().max() > 2 / 255


def test_half_precision(folders):
    """diffusers leaves all of Stable Diffusion 3 in float32 here: the first tensor in its file is a float32 buffer."""
    generator = load_generator(folders['stable_diffusion_3'], torch.bfloat16)
    for part in (generator.pipeline.transformer, generator.pipeline.vae, generator.pipeline.text_encoder_3):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16}
    made = generator.create(images(1), captions=['a'], seeds=[1], T=500, num_calls=2)
    assert made.images.dtype == torch.float32 and made.images.isfinite().all()


def test_sizes_that_fit(generators):
    """SDXL: the latent halves the side, the U-Net quarters that; SD3 patches of 2; FLUX packs 2."""
    assert {name: generator.multiple for name, generator in generators.items()} == dict(
        sdxl=8, stable_diffusion_3=4, flux=4
    )
    with pytest.raises(ValueError, match='image of 16×26: height and width must be multiples of 4'):
        generators['flux'].create(images(1, 16, 26), captions=['a'], seeds=[1])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(solver='ddim'), r"its own \w+Scheduler: set grid='even' and solver='pipeline' in stages.synthesis"),
        (dict(grid='released'), "found grid='released'"),
        (dict(T=0), r'T=0 is outside 1 … 1000'),
        (dict(T=1001), r'T=1001 is outside'),
        (dict(T=5, num_calls=6), 'do not fit into T=5'),
    ],
)
def test_what_it_cannot_do_is_said_before(generator, changes, message):
    with pytest.raises(ValueError, match=message):
        generator.planned_timesteps(**dict(T=600, num_calls=2) | changes)
    with Watch(generator) as seen, pytest.raises(ValueError, match=message):
        generator.create(images(1), captions=['a'], seeds=[1], **dict(T=600, num_calls=2) | changes)
    assert not seen


def test_one_caption_and_seed_per_image(generators):
    with pytest.raises(ValueError, match="one caption, seed and image per sample .* 'images': 2"):
        generators['sdxl'].create(images(2), captions=['a'], seeds=[1])
    with pytest.raises(ValueError, match='T=600 keeps part of a source image'):
        generators['sdxl'].create(None, captions=['a'], seeds=[1], T=600, size=(16, 16))


def test_schedulers_that_cannot_be_counted_or_repeated():
    pipeline = sdxl()
    for scheduler in (DDIMScheduler(**SCHEDULE), HeunDiscreteScheduler(**SCHEDULE)):
        changed = StableDiffusionXLImg2ImgPipeline(
            **pipeline.components | dict(scheduler=scheduler), add_watermarker=False
        )
        with pytest.raises(ValueError, match=rf'cannot tell its {type(scheduler).__name__} at which timesteps'):
            PipelineGenerator(changed)
    with pytest.raises(ValueError, match='StableDiffusionXLPipeline has no image, strength'):
        PipelineGenerator(pipeline)


def test_noise_that_no_seed_decides_is_refused(folders, tmp_path):
    """Stable Diffusion 3 hands its generators to no scheduler; this one draws in every step."""
    folder = shutil.copytree(folders['stable_diffusion_3'], tmp_path / 'noisy')
    edit(folder / 'scheduler' / 'scheduler_config.json', stochastic_sampling=True)
    with pytest.raises(RuntimeError, match='FlowMatchEulerDiscreteScheduler draws noise that no seed decides'):
        load_generator(folder).create(images(1), captions=['a'], seeds=[1], T=500, num_calls=2)


def test_more_calls_than_steps_are_noticed(generators, monkeypatch):
    generator = generators['stable_diffusion_3']
    once = generator.pipeline.transformer

    def twice(**inputs):
        once(**inputs)
        return once(**inputs)

    monkeypatch.setattr(type(generator), 'denoiser', once)
    monkeypatch.setattr(generator.pipeline, 'transformer', twice)
    twice.config, twice.joint_attention_kwargs = once.config, None
    with pytest.raises(RuntimeError, match='made 4 calls in 2 steps, 2 were asked for'):
        generator.create(images(1), captions=['a'], seeds=[1], T=500, num_calls=2)


def test_the_hash_is_of_all_that_decides(folders, generators, tmp_path):
    one, other = generators['flux'], load_generator(folders['flux'])
    before = one.weights_hash()
    assert other.weights_hash() == before
    scheduler = other.pipeline.scheduler
    other.pipeline.scheduler = type(scheduler).from_config(scheduler.config, max_shift=1.2)
    changed = other.weights_hash()
    assert changed != before
    other.pipeline.text_encoder_2.encoder.final_layer_norm.weight.data[0] += 1
    assert other.weights_hash() not in (changed, before)

    copied = shutil.copytree(folders['flux'], tmp_path / 'flux')
    assert weights_mark(copied) == weights_mark(folders['flux'])
    edit(copied / 'scheduler' / 'scheduler_config.json', max_shift=1.2)
    assert weights_mark(copied) != weights_mark(folders['flux'])


def test_euler_steps_of_diffusion_are_ddim_steps():
    """Euler on the probability flow of an ε-model is DDIM with η = 0: diffusers' pipeline against our solver."""
    ours = stable_diffusion(1)
    ours.unet.register_to_config(sample_size=8)  # diffusers' pipeline asks for it
    parts = dict(vae=ours.vae, unet=ours.unet, text_encoder=ours.text.encoder, tokenizer=ours.text.tokenizer)
    pipeline = StableDiffusionImg2ImgPipeline(
        **parts,
        scheduler=EulerDiscreteScheduler(**SCHEDULE, timestep_spacing='leading', steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    theirs = PipelineGenerator(pipeline)
    x, caption = images(1), 'a red ball'
    options = dict(captions=[caption], seeds=[4], num_calls=5, guidance_scale=2.0)
    a = theirs.create(None, T=1000, size=(16, 24), **options)
    b = ours.create(None, T=1000, size=(16, 24), **options)
    assert a.timesteps == b.timesteps
    assert (a.images - b.images).abs().max() < 2 / 255

    # Below T_max the pipeline samples the posterior first, so the noise is the second draw of the seed.
    generator = torch.Generator().manual_seed(4)
    z0 = ours.encode(x, posterior='sample', generator=generator)
    noise = torch.randn(z0.shape, generator=generator)
    z = ours.schedule.add_noise(z0, noise, torch.tensor([600]))
    tokens = ours.encode_text([caption])
    grid = timestep_grid(600, 5)
    with torch.no_grad():
        z = ddim(ours.schedule, lambda z, t, _: ours.unet(z, t, tokens).sample, z, grid)
        expected = ours.decode(z)
    made = theirs.create(x, captions=[caption], seeds=[4], T=600, num_calls=5)
    assert made.timesteps == grid.timesteps
    assert (made.images - expected).abs().max() < 2 / 255


def test_folders_of_stable_diffusion_still_perceive(tmp_path, tiny_diffusion):
    tiny_diffusion.save_folder(tmp_path / 'sd')
    for path in (tmp_path / 'sd', 'builtin:scenes'):
        assert isinstance(load_generator(path), LatentDiffusion)
    assert load_generator(tmp_path / 'sd').weights_hash() == tiny_diffusion.weights_hash()


@pytest.mark.parametrize('name', PIPELINES)
def test_perception_is_refused(folders, name):
    backbone = [] if name == 'stable_diffusion_3' else [lambda folder: DiffusionBackbone(diffusion=str(folder))]
    for build in (LatentDiffusion.from_pretrained, *backbone):
        with pytest.raises(ValueError, match=r'Pipeline: it creates images .* but does not perceive here'):
            build(folders[name])


def test_damaged_folders(folders, tmp_path):
    folder = shutil.copytree(folders['stable_diffusion_3'], tmp_path / 'a')
    shutil.rmtree(folder / 'text_encoder_2')
    with pytest.raises(FileNotFoundError, match='not a complete StableDiffusion3Pipeline: missing text_encoder_2'):
        load_generator(folder)

    folder = shutil.copytree(folders['stable_diffusion_3'], tmp_path / 'b')
    weights = folder / 'transformer' / 'diffusion_pytorch_model.safetensors'
    state = load_file(weights)
    state['stray'] = state.pop('proj_out.bias')
    save_file(state, weights)
    with pytest.raises(ValueError, match=r'transformer: .*missing 1: proj_out\.bias; unexpected 1: stray'):
        load_generator(folder)

    folder = shutil.copytree(folders['flux'], tmp_path / 'c')
    edit(folder / 'model_index.json', transformer=['diffusers', 'NoSuchTransformer'])
    with pytest.raises(ValueError, match='transformer is a NoSuchTransformer of diffusers, which the installed'):
        load_generator(folder)

    folder = shutil.copytree(folders['flux'], tmp_path / 'd')
    edit(folder / 'model_index.json', _class_name='SanaPipeline')
    with pytest.raises(ValueError, match='no image-to-image pipeline could be made of this SanaPipeline'):
        load_generator(folder)


def test_synthesis_with_another_generator(folders, generators, tmp_path):
    (tmp_path / 'data').mkdir()
    for i in range(2):
        pixels = ((images(2)[i] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / 'data' / f'{i}.png')
    dataset = dict(
        type='BaseSegDataset', data_root=str(tmp_path / 'data'), img_suffix='.png', pipeline=[],
        data_prefix=dict(img_path='', seg_map_path=''),
    )  # fmt: skip
    synthesis = dict(
        diffusion=str(folders['stable_diffusion_3']), caption_fallback='a red ball', samples_per_image=2, T=500,
        num_calls=3, solver='pipeline', device='cpu', batch_size=3,
    )  # fmt: skip
    cfg = Config(dict(train_dataloader=dict(dataset=dataset), stages=dict(synthesis=synthesis)))
    store = synthesize_from_config(cfg, tmp_path / 'store', progress=False)
    records = store.records()
    assert [(r['source'], r['seed'], r['solver'], r['T']) for r in records] == [
        (f'{i}.png', seed, 'pipeline', 500) for i in range(2) for seed in range(2)
    ]
    generator = generators['stable_diffusion_3']
    assert {tuple(r['timesteps']) for r in records} == {tuple(generator.planned_timesteps(500, 3))}
    assert {r['weights_hash'] for r in records} == {generator.weights_hash()}
    assert synthesize_from_config(cfg, tmp_path / 'store', progress=False).records() == records

    cfg.stages.synthesis.solver = 'ddim'
    with pytest.raises(ValueError, match="found grid='even' and solver='ddim'"):
        synthesize_from_config(cfg, tmp_path / 'other', progress=False)


def test_generation_keeps_to_the_model_that_perceives(folders):
    """A config whose training images are another model's: generate.py has the solvers of LatentDiffusion."""
    synthesis = dict(diffusion=str(folders['flux']), solver='pipeline', T=400, num_calls=7)
    cfg = Config(dict(stages=dict(synthesis=synthesis)))
    settings = settings_for(cfg, from_images=True, T_max=1000)
    assert (settings.solver, settings.T, settings.num_calls) == ('dpm++', 400, 7)
    with pytest.raises(ValueError, match=r'names a pipeline that creates training images only'):
        diffusion_for(torch.nn.Linear(1, 1), cfg, None)


def edit(file, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_config_of_plain_layouts_generates_as_one_without():
    """T = 0 asks for no generator: an image made by hand takes the default, and weights are to be named."""
    cfg = Config(dict(stages=dict(synthesis=dict(layout=dict(type='ObjectPaste'), T=0, samples_per_image=1))))
    assert settings_for(cfg, from_images=True, T_max=1000).T == 600
    with pytest.raises(ValueError, match='has no diffusion model to create with; name weights by diffusion='):
        diffusion_for(torch.nn.Linear(1, 1), cfg, None)
