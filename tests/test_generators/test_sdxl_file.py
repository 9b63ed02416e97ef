"""SDXL in one file: the same pipeline as its folder, and everything that is not such a file."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel
from ldm_names import clip_names, open_clip_names, unet_names, vae_names
from safetensors.torch import load_file, save_file
from tiny_pipelines import sdxl
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from mmdiff2in1.generators import LatentDiffusion, NoiseSchedule
from mmdiff2in1.generators.ldm_file import UNET, below
from mmdiff2in1.generators.ldm_text import text_encoder_config
from mmdiff2in1.generators.loading import load_generator
from mmdiff2in1.generators.pipeline_generator import PipelineGenerator
from mmdiff2in1.generators.sdxl_file import OPEN_CLIP, sdxl_unet_config

ADDED = {'add_embedding.linear_1': 'label_emb.0.0', 'add_embedding.linear_2': 'label_emb.0.2'}


def sdxl_names(pipeline) -> dict[str, Tensor]:
    """All of a pipeline under the names of generative-models; the inverse of what the package reads."""
    first, second = pipeline.text_encoder, pipeline.text_encoder_2
    state = unet_state(pipeline.unet) | vae_names(pipeline.vae)
    for name, value in clip_names(first).items():
        state[name.replace('cond_stage_model.', 'conditioner.embedders.0.')] = value
    # As in Stable Diffusion 2, but that the last block is used, and the projection; it multiplies from the left there.
    layers = second.config.num_hidden_layers
    for name, value in open_clip_names(second.text_model).items():
        if f'resblocks.{layers}.' not in name:
            state[name.replace('cond_stage_model.', 'conditioner.embedders.1.')] = value
    state['conditioner.embedders.1.model.text_projection'] = second.text_projection.weight.T
    state['alphas_cumprod'] = NoiseSchedule(dict(pipeline.scheduler.config)).alphas_cumprod
    return {name: value.contiguous() for name, value in state.items()}


def unet_state(unet) -> dict[str, Tensor]:
    plain, added = {}, {}
    for name, value in unet.state_dict().items():
        module, kind = name.rsplit('.', 1)
        if module in ADDED:
            added[f'model.diffusion_model.{ADDED[module]}.{kind}'] = value
        else:
            plain[name] = value
    return unet_names(Named(plain, unet)) | added


class Named:
    """A U-Net without some of its tensors, as `unet_names` looks at one."""

    def __init__(self, state, unet):
        self._state, self.config, self.up_blocks = state, unet.config, unet.up_blocks

    def state_dict(self):
        return self._state


@pytest.fixture(scope='module')
def pipeline():
    return sdxl(whole=True)


@pytest.fixture(scope='module')
def file(pipeline, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('sdxl') / 'model.safetensors'
    save_file(sdxl_names(pipeline), path)
    return path


def test_file_and_folder_of_the_same_weights_are_the_same_creator(pipeline, file, tmp_path):
    pipeline.save_pretrained(tmp_path / 'folder')
    one, other = load_generator(tmp_path / 'folder'), load_generator(file)
    assert isinstance(other, PipelineGenerator) and one.name == other.name
    for name, part in one.pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            theirs = getattr(other.pipeline, name).state_dict()
            assert theirs.keys() == part.state_dict().keys()
            assert all(torch.equal(value, theirs[key]) for key, value in part.state_dict().items()), name
    assert one.weights_hash() == other.weights_hash()
    assert not any(parameter.is_meta for parameter in other.pipeline.unet.parameters())

    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    options = dict(captions=['a red ball', 'a chair'], seeds=[1, 2], T=600, num_calls=3, guidance_scale=3.0)
    a, b = one.create(x, **options), other.create(x, **options)
    assert torch.equal(a.images, b.images)
    assert a.timesteps == b.timesteps == [600, 300, 1]


def test_what_shapes_do_not_say_is_the_familys(file):
    made = load_generator(file).pipeline
    assert made.vae.config.scaling_factor == 0.13025
    assert made.unet.config.transformer_layers_per_block == [1, 1, 2]
    assert made.unet.config.attention_head_dim == [1, 1, 1]
    assert made.text_encoder.config.hidden_act == 'quick_gelu' and made.text_encoder_2.config.hidden_act == 'gelu'
    assert made.tokenizer('a', padding='max_length').input_ids[-1] == 49407
    assert made.tokenizer_2('a', padding='max_length').input_ids[-1] == 0
    scheduler = made.scheduler.config
    assert (scheduler.beta_start, scheduler.beta_end, scheduler.beta_schedule) == (0.00085, 0.012, 'scaled_linear')
    assert (scheduler.prediction_type, scheduler.timestep_spacing, scheduler.steps_offset) == ('epsilon', 'leading', 1)


def test_the_published_shapes_give_the_published_model():
    """On the meta device: no memory, no numbers. The counts are those of the published parts."""
    with torch.device('meta'):
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'),
            up_block_types=('CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'),
            transformer_layers_per_block=(1, 2, 10),
            cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20),
            use_linear_projection=True,
            addition_embed_type='text_time',
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=1280,
                num_attention_heads=20,
                num_hidden_layers=32,
                intermediate_size=5120,
                hidden_act='gelu',
                projection_dim=1280,
            )
        )
        shapes = {name: tuple(value.shape) for name, value in unet_state(unet).items()}
        config = sdxl_unet_config(below(shapes, UNET), 1280)
        built = UNet2DConditionModel(**config)
        named = open_clip_names(text.text_model)
    assert (config['attention_head_dim'], config['addition_time_embed_dim']) == ([5, 10, 20], 256)
    assert {n: v.shape for n, v in built.state_dict().items()} == {n: v.shape for n, v in unet.state_dict().items()}
    assert sum(p.numel() for p in built.parameters()) == 2_567_463_684
    file = SimpleNamespace(
        shapes={
            name.replace('cond_stage_model.', 'conditioner.embedders.1.'): tuple(value.shape)
            for name, value in named.items()
            if 'resblocks.32.' not in name
        }
    )
    found = text_encoder_config(file, OPEN_CLIP, whole=True)
    assert (found.num_hidden_layers, found.num_attention_heads, found.intermediate_size) == (32, 20, 5120)
    assert sum(p.numel() for p in text.parameters()) == 694_659_840


def test_markers_of_how_it_was_trained(file, tmp_path):
    state = load_file(file)
    save_file(state | {'v_pred': torch.zeros(0), 'ztsnr': torch.zeros(0)}, tmp_path / 'v.safetensors')
    config = load_generator(tmp_path / 'v.safetensors').pipeline.scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ('v_prediction', True)
    save_file(state | {'edm_vpred.sigma_max': torch.ones(1)}, tmp_path / 'edm.safetensors')
    with pytest.raises(ValueError, match=r'trained in the EDM way \(edm_vpred.sigma_max\)'):
        load_generator(tmp_path / 'edm.safetensors')


def test_a_checkpoint_and_half_precision(pipeline, file, tmp_path):
    torch.save({'state_dict': {n: v.half() for n, v in sdxl_names(pipeline).items()}}, tmp_path / 'model.ckpt')
    made = load_generator(tmp_path / 'model.ckpt').pipeline
    assert torch.equal(made.unet.conv_out.weight, pipeline.unet.conv_out.weight.half().float())
    assert {p.dtype for p in load_generator(file, torch.bfloat16).pipeline.unet.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda s: s.pop('model.diffusion_model.out.2.bias'), r'U-Net: .*missing 1: conv_out\.bias'),
        (lambda s: s.pop('model.diffusion_model.label_emb.0.2.bias'), r'U-Net: .*missing 1: label_emb\.0\.2\.bias'),
        (lambda s: s.pop('model.diffusion_model.label_emb.0.0.weight'), r'SDXL has is missing: .*label_emb'),
        (
            lambda s: s.update({'model.diffusion_model.stray': torch.zeros(1)}),
            r'U-Net: .*1 of \d+ have no place in it: model\.diffusion_model\.stray$',
        ),
        (
            lambda s: s.update({'conditioner.embedders.0.transformer.text_model.stray': torch.zeros(1)}),
            'first text encoder: .*unexpected 1: stray',
        ),
        (
            lambda s: s.update({'conditioner.embedders.1.model.stray': torch.zeros(1)}),
            r'second text encoder: .*unexpected 1: text_model\.stray',
        ),
        (
            lambda s: s.update({'conditioner.embedders.2.head': torch.zeros(1)}),
            r'1 tensors beside the text encoders .* no place in the model: conditioner\.embedders\.2\.head; the U-Net',
        ),
        (lambda s: s.pop('conditioner.embedders.1.model.text_projection'), 'SDXL has is missing: .*text_projection'),
        (
            lambda s: s.update({'first_stage_model.stray': torch.zeros(1)}),
            r'VAE: .*have no place in it: first_stage_model\.stray$',
        ),
        (
            lambda s: s.update({'model.diffusion_model.input_blocks.0.0.weight': torch.zeros(32, 9, 3, 3)}),
            'takes 9 channels, the latent has 4; an inpainting',
        ),
        (lambda s: s.update(alphas_cumprod=torch.linspace(1, 0, 1000)), 'another noise schedule'),
        (
            lambda s: [s.pop(n) for n in list(s) if n.startswith('conditioner.embedders.0')],
            r'no tensors under conditioner\.embedders\.0\.transformer\.; expected the SDXL base model .*a refiner',
        ),
    ],
)
def test_what_does_not_fit_is_named(file, tmp_path, edit, message):
    state = load_file(file)
    edit(state)
    save_file(state, tmp_path / 'changed.safetensors')
    with pytest.raises(ValueError, match=message):
        load_generator(tmp_path / 'changed.safetensors')


def test_names_that_others_write(pipeline, file, tmp_path):
    """diffusers leaves the projection as it is; merges store counted positions; compiled models have a step more."""
    state = load_file(file)
    projection = state.pop('conditioner.embedders.1.model.text_projection')
    state['conditioner.embedders.1.model.text_projection.weight'] = projection.T.contiguous()
    first = 'conditioner.embedders.0.transformer.text_model.'
    state[f'{first}embeddings.position_ids'] = torch.arange(77)[None]
    state['conditioner.embedders.0.transformer.text_projection.weight'] = torch.zeros(64, 64)
    for name in [name for name in state if name.startswith('model.')]:
        state[name.replace('model.', 'model._orig_mod.', 1)] = state.pop(name)
    save_file(state, tmp_path / 'model.ckpt')
    made = load_generator(tmp_path / 'model.ckpt')
    assert torch.equal(
        made.pipeline.text_encoder_2.text_projection.weight, pipeline.text_encoder_2.text_projection.weight
    )
    assert made.weights_hash() == load_generator(file).weights_hash()


def test_perception_is_refused(file):
    with pytest.raises(ValueError, match='found SDXL, which creates .* but does not perceive here'):
        LatentDiffusion.from_pretrained(file)
