"""Weights on disk: round trips, diffusers' own readers, old layouts, and folders that are not right."""

import json
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from mmdiff2in1.generators import LatentDiffusion

UNET_FILE = 'unet/diffusion_pytorch_model.safetensors'


@pytest.fixture(scope='module')
def model(_tiny_diffusion) -> LatentDiffusion:
    return _tiny_diffusion


@pytest.fixture(scope='module')
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp('weights') / 'tiny'
    model.save_folder(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / 'tiny')


def assert_same(a: LatentDiffusion, b: LatentDiffusion) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), name


def edit_json(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={'format': 'pt'})


def test_round_trip(model, saved):
    loaded = LatentDiffusion.from_pretrained(saved)
    assert_same(loaded, model)
    assert torch.equal(loaded.schedule.alphas_cumprod, model.schedule.alphas_cumprod)
    assert loaded.schedule.prediction_type == model.schedule.prediction_type
    assert loaded.weights_hash() == model.weights_hash()
    assert (loaded.downscale, loaded.multiple, loaded.latent_channels) == (2, 8, 4)
    assert not any(module.training for module in loaded.modules())
    request = dict(captions=['a red ball'], seeds=[1], T=1000, num_calls=2, size=(8, 8))
    assert torch.equal(loaded.create(**request).images, model.create(**request).images)


def test_whoever_may_read_one_file_may_read_all(saved):
    """safetensors writes files that nobody else may read."""
    assert len({file.stat().st_mode for file in saved.rglob('*') if file.is_file()}) == 1


def test_the_parts_are_diffusers_own(model, saved):
    for part, kind in (('vae', AutoencoderKL), ('unet', UNet2DConditionModel)):
        theirs = kind.from_pretrained(saved / part, local_files_only=True, low_cpu_mem_usage=False).state_dict()
        ours = getattr(model, part).state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.filterwarnings('ignore')
def test_diffusers_pipeline_reads_the_folder_and_makes_the_same_image(model, saved):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(saved, local_files_only=True, low_cpu_mem_usage=False)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    # Their grid of 999, 500, 1 in our terms: one step from 999 to the clean latent.
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing='trailing', steps_offset=1
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(6))
    theirs = pipeline(
        ['a red ball'], height=8, width=16, num_inference_steps=1, guidance_scale=2.0, latents=noise, output_type='pt'
    ).images
    ours = model.create(
        captions=['a red ball'], seeds=[6], T=1000, num_calls=1, guidance_scale=2.0, size=(8, 16)
    ).images
    torch.testing.assert_close(ours / 2 + 0.5, theirs, atol=1e-4, rtol=0)


def test_half_precision_on_disk(model, tmp_path):
    before = model.weights_hash()
    model.save_folder(tmp_path / 'half', torch.float16)
    assert model.weights_hash() == before
    assert load_file(tmp_path / 'half' / UNET_FILE)['conv_in.weight'].dtype == torch.float16
    as_float, as_bfloat = (
        LatentDiffusion.from_pretrained(tmp_path / 'half', dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    floats, bfloats = as_float.state_dict(), as_bfloat.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(floats[name], tensor.half().float()), name
        assert bfloats[name].dtype == torch.bfloat16
    images = torch.rand(1, 3, 8, 8) * 2 - 1
    made = as_bfloat.create(images, captions=['a wall'], seeds=[0], T=500, num_calls=1)
    assert made.images.dtype == torch.float32 and made.images.isfinite().all()


def test_the_fields_of_a_scheduler_file_are_kept(model, folder, tmp_path):
    fields = dict(_class_name='PNDMScheduler', skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    edit_json(folder / 'scheduler' / 'scheduler_config.json', prediction_type='v_prediction', **fields)
    loaded = LatentDiffusion.from_pretrained(folder)
    loaded.save_folder(tmp_path / 'again')
    config = json.loads((tmp_path / 'again' / 'scheduler' / 'scheduler_config.json').read_text())
    assert (config['prediction_type'], config['set_alpha_to_one'], config['steps_offset']) == ('v_prediction', False, 1)


def test_stable_diffusion_1_as_it_was_distributed(model, folder):
    """Old names in the VAE's attention, `text_model.` and stored position ids in the text encoder, vocabulary files."""
    torch.manual_seed(3)
    config = json.loads((folder / 'vae' / 'config.json').read_text()) | dict(mid_block_add_attention=True)
    vae = AutoencoderKL.from_config(config)
    vae.save_pretrained(folder / 'vae')
    old_names = {'to_q': 'query', 'to_k': 'key', 'to_v': 'value', 'to_out.0': 'proj_attn'}

    def old_vae(state):
        for name in [name for name in state if '.attentions.' in name]:
            new = next((new for new in old_names if f'.{new}.' in name), None)
            if new:
                state[name.replace(new, old_names[new])] = state.pop(name)

    def old_text(state):
        for name in list(state):
            state[f'text_model.{name.removeprefix("text_model.")}'] = state.pop(name)
        state['text_model.embeddings.position_ids'] = torch.arange(8)[None]

    edit_weights(folder / 'vae' / 'diffusion_pytorch_model.safetensors', old_vae)
    edit_weights(folder / 'text_encoder' / 'model.safetensors', old_text)
    # What transformers wrote for every CLIP of those years, whatever its ends were.
    edit_json(folder / 'text_encoder' / 'config.json', bos_token_id=0, eos_token_id=2, pad_token_id=1)
    shutil.rmtree(folder / 'tokenizer')
    (folder / 'tokenizer').mkdir()
    # Byte pairs: r e d</w> → re → red</w>; 'a' and 'x' are words of one letter.
    pieces = ['r', 'e', 'd</w>', 're', 'red</w>', 'a</w>', 'x</w>', 'x']
    vocabulary = {piece: i for i, piece in enumerate([*pieces, '<|startoftext|>', '<|endoftext|>'])}
    (folder / 'tokenizer' / 'vocab.json').write_text(json.dumps(vocabulary))
    (folder / 'tokenizer' / 'merges.txt').write_text('#version: 0.2\nr e\nre d</w>\n')
    end = '<|endoftext|>'
    (folder / 'tokenizer' / 'tokenizer_config.json').write_text(
        json.dumps(
            dict(
                tokenizer_class='CLIPTokenizer', model_max_length=8, do_lower_case=True, unk_token=end, pad_token=end,
                bos_token='<|startoftext|>', eos_token=end, errors='replace', add_prefix_space=False,
            )
        )
    )  # fmt: skip
    loaded = LatentDiffusion.from_pretrained(folder)
    for part, expected in ((loaded.vae, vae), (loaded.text, model.text)):
        found = part.state_dict()
        for name, tensor in expected.state_dict().items():
            assert torch.equal(found[name], tensor), name
    assert loaded.text.token_ids(['a red x', '']).tolist() == [[8, 5, 4, 6, 9, 9, 9, 9], [8] + [9] * 7]
    with torch.no_grad():
        state = loaded.text.encoder(input_ids=torch.tensor([[8, 5, 4]])).last_hidden_state[0, -1]
    torch.testing.assert_close(loaded.text.class_tokens(['red', 'x'])[0], state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('part', ['vae', 'unet', 'text.encoder'])
def test_weights_hash_changes_with_any_weight(tiny_diffusion, part):
    before = tiny_diffusion.weights_hash()
    assert len(before) == 64 and before == tiny_diffusion.weights_hash()
    module = tiny_diffusion.get_submodule(part)
    for parameter in (list(module.parameters())[i] for i in (0, -1)):
        flat = parameter.data.flatten()
        kept = flat[-1].clone()
        parameter.data.view(-1)[-1] = torch.nextafter(kept, kept + 1)
        assert tiny_diffusion.weights_hash() != before
        parameter.data.view(-1)[-1] = kept
        assert tiny_diffusion.weights_hash() == before


def test_weights_hash_changes_with_what_the_weights_mean(tiny_diffusion, tiny_diffusion_config):
    hashes = {tiny_diffusion.weights_hash()}
    for changes in (dict(prediction_type='v_prediction'), dict(beta_end=0.02)):
        config = tiny_diffusion_config | dict(scheduler=tiny_diffusion_config['scheduler'] | changes)
        other = LatentDiffusion.from_config(config)
        other.load_state_dict(tiny_diffusion.state_dict())
        hashes.add(other.weights_hash())
    tiny_diffusion.vae.register_to_config(scaling_factor=0.25)
    assert len(hashes | {tiny_diffusion.weights_hash()}) == 4
    assert tiny_diffusion.to(torch.bfloat16).weights_hash() not in hashes


def test_paths_that_are_no_folder_of_weights(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no built-in weights named 'nope'; known: "):
        LatentDiffusion.from_pretrained('builtin:nope')
    with pytest.raises(FileNotFoundError, match='nowhere: found nothing, expected a diffusers folder with vae, unet'):
        LatentDiffusion.from_pretrained(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='one bare diffusers model; give the folder'):
        LatentDiffusion.from_pretrained(saved / UNET_FILE)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(
        FileNotFoundError, match='not a complete diffusers folder: missing vae/config.json.*found nothing'
    ):
        LatentDiffusion.from_pretrained(tmp_path / 'empty')
    with pytest.raises(FileNotFoundError, match='missing vae/config.json.*found config.json, diffusion_pytorch_model'):
        LatentDiffusion.from_pretrained(saved / 'unet')


@pytest.mark.parametrize('part', ['vae', 'unet', 'text_encoder', 'tokenizer', 'scheduler'])
def test_a_missing_part_is_named(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(FileNotFoundError, match=rf'missing {part}/\w+\.json; found model_index.json, '):
        LatentDiffusion.from_pretrained(folder)


@pytest.mark.parametrize(
    ('file', 'message'),
    [
        ('unet/config.json', r'unet/config.json is not valid JSON'),
        ('scheduler/scheduler_config.json', r'scheduler_config.json is not valid JSON'),
        ('tokenizer/tokenizer.json', r'tokenizer/tokenizer.json is not valid JSON'),
        (UNET_FILE, r'unet cannot be loaded'),
        ('text_encoder/model.safetensors', r'text_encoder cannot be loaded'),
    ],
)
def test_a_damaged_file_is_named(folder, file, message):
    path = folder / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(folder)


@pytest.mark.parametrize(
    ('file', 'key', 'message'),
    [
        (UNET_FILE, 'conv_in.weight', r'unet: the weights do not fit .*missing 1: conv_in\.weight'),
        (
            'vae/diffusion_pytorch_model.safetensors',
            'decoder.conv_out.bias',
            r'vae: .*missing 1: decoder\.conv_out\.bias',
        ),
        (
            'text_encoder/model.safetensors',
            'final_layer_norm.bias',
            r'text_encoder: .*missing 1: \S*final_layer_norm\.bias',
        ),
    ],
)
def test_missing_and_unexpected_weights_are_listed(folder, file, key, message):
    edit_weights(folder / file, lambda state: state.pop(key))
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(folder)
    edit_weights(folder / file, lambda state: state.update(stray=torch.zeros(2)))
    with pytest.raises(ValueError, match=r'unexpected 1: stray'):
        LatentDiffusion.from_pretrained(folder)


def test_a_weight_of_another_shape(folder):
    edit_weights(folder / UNET_FILE, lambda state: state.update({'conv_in.bias': torch.zeros(5)}))
    with pytest.raises(ValueError, match=r'(?s)unet cannot be loaded.*size mismatch for conv_in.bias'):
        LatentDiffusion.from_pretrained(folder)


def test_parts_that_do_not_fit_each_other(tiny_diffusion_config, tiny_diffusion):
    with pytest.raises(
        ValueError,
        match=r'parts vae, unet, text_encoder, scheduler, words, max_length, or the key .*; found vae, words',
    ):
        LatentDiffusion.from_config(dict(vae={}, words=[]))
    with pytest.raises(ValueError, match='the VAE has latents of 3'):
        LatentDiffusion.from_config(
            tiny_diffusion_config | dict(vae=tiny_diffusion_config['vae'] | dict(latent_channels=3))
        )
    wide = tiny_diffusion_config | dict(unet=tiny_diffusion_config['unet'] | dict(cross_attention_dim=12))
    unet = LatentDiffusion.from_config(wide).unet
    with pytest.raises(ValueError, match='the U-Net attends to tokens of width 12, the text has 16'):
        LatentDiffusion(tiny_diffusion.vae, unet, tiny_diffusion.text, tiny_diffusion.schedule)


def test_encode_and_decode_by_hand(tiny_diffusion):
    d, images = tiny_diffusion, torch.rand(2, 3, 16, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        moments = d.vae.quant_conv(d.vae.encoder(images))
        mean, log_variance = moments.chunk(2, 1)
        torch.testing.assert_close(d.encode(images), 0.5 * mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(d.encode(images, scale=False), mean, atol=1e-6, rtol=1e-6)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(4))
        drawn = d.encode(images, 'sample', generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(drawn, 0.5 * (mean + (log_variance / 2).exp() * noise), atol=1e-6, rtol=1e-6)
        # One generator per image: the draw of an image does not depend on its neighbours.
        generators = [torch.Generator().manual_seed(seed) for seed in (4, 9)]
        drawn = d.encode(images, 'sample', generator=generators)
        alone = d.encode(images[1:], 'sample', generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(drawn[1:], alone, atol=1e-6, rtol=1e-6)
        decoded = d.decode(100 * mean)
        raw = d.vae.decoder(d.vae.post_quant_conv(100 * mean / 0.5))
        torch.testing.assert_close(decoded, raw.clamp(-1, 1), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="unknown posterior 'mean'; known: mode, sample"):
        d.encode(images, 'mean')
    with pytest.raises(ValueError, match='image of 16×12: height and width must be multiples of 8'):
        d.encode(torch.zeros(1, 3, 16, 12))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('part', ['vae', 'unet', 'text_encoder'])
def test_weights_that_are_no_numbers(folder, part, value):
    (file,) = (folder / part).glob('*.safetensors')
    name = next(iter(load_file(file)))
    edit_weights(file, lambda state: state[name].view(-1)[:1].fill_(value))
    with pytest.raises(
        ValueError, match=rf'{part}: {name.removeprefix("text_model.")} holds values that are not finite'
    ):
        LatentDiffusion.from_pretrained(folder)


@pytest.mark.parametrize('kind', ['folder', 'link to itself', 'link to nothing'])
def test_weights_that_are_no_file(folder, kind):
    file = folder / UNET_FILE
    file.unlink()
    if kind == 'folder':
        file.mkdir()
    else:
        file.symlink_to(file if kind == 'link to itself' else folder / 'moved')
    with pytest.raises(FileNotFoundError, match=rf'{UNET_FILE}: found a folder or a link that leads nowhere, expected'):
        LatentDiffusion.from_pretrained(folder)
