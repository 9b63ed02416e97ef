"""Stable Diffusion in one file: the same model as its folder, and everything that is not such a file."""

import hashlib
import json
import pickle
import sys
import types
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from ldm_names import ldm_names
from safetensors.torch import save_file
from tiny_stable_diffusion import stable_diffusion

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.tokenizer import clip_tokenizer
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.training.identity import weights_mark


@pytest.fixture(scope='module')
def first() -> LatentDiffusion:
    return stable_diffusion(1)


@pytest.fixture(scope='module')
def second() -> LatentDiffusion:
    return stable_diffusion(2)


@pytest.fixture(scope='module')
def file(first, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('ldm') / 'model.safetensors'
    save_file({name: value.contiguous() for name, value in ldm_names(first).items()}, path)
    return path


def shown(model: LatentDiffusion) -> list[torch.Tensor]:
    """Features and maps of a caption, an image created from it, and a pass through the autoencoder."""
    with torch.no_grad():
        z = model.encode(torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16))
        tokens = model.encode_text(['a red ball on a chair'])
        features = model.features(z, torch.tensor([50]), tokens, taps=('out.5',), map_levels=(1,))
        made = model.create(captions=['a red ball'], seeds=[1], T=1000, num_calls=2, size=(16, 16))
    return [z, tokens, *features.taps.values(), *features.maps.values(), made.images]


def assert_alike(one: LatentDiffusion, other: LatentDiffusion) -> None:
    for a, b in zip(shown(one), shown(other), strict=True):
        assert torch.equal(a, b)
    assert one.weights_hash() == other.weights_hash()


def test_file_and_folder_of_the_same_weights_are_the_same_model(first, file, tmp_path):
    first.save_folder(tmp_path / 'folder')
    one, other = LatentDiffusion.from_pretrained(tmp_path / 'folder'), LatentDiffusion.from_pretrained(file)
    assert_alike(one, other)
    assert_alike(first, other)
    assert not any(parameter.is_meta for parameter in other.parameters())


def test_version_2_says_beside_it_what_it_predicts(second, tmp_path):
    path = tmp_path / 'v2.safetensors'
    save_file({name: value.contiguous() for name, value in ldm_names(second, open_clip=True).items()}, path)
    with pytest.raises(ValueError, match=r'(?s)2\.x.*Put the original configuration beside it as v2\.yaml'):
        LatentDiffusion.from_pretrained(path)
    before = None
    for word, expected in (('v', 'v_prediction'), ('eps', 'epsilon')):
        (tmp_path / 'v2.yaml').write_text(f'model:\n  params:\n    parameterization: "{word}"\n')
        loaded = LatentDiffusion.from_pretrained(path)
        assert loaded.schedule.prediction_type == expected
        assert weights_mark(path) != before
        before = weights_mark(path)
        if word == 'v':
            assert_alike(second, loaded)
    (tmp_path / 'v2.yaml').write_text('model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n')
    assert LatentDiffusion.from_pretrained(path).schedule.prediction_type == 'epsilon'


def test_a_checkpoint_is_read_without_running_what_it_holds(first, tmp_path, monkeypatch):
    """The callback of Lightning that the published files hold is passed over; code is refused."""
    name = 'pytorch_lightning.callbacks.model_checkpoint'
    for package in ('pytorch_lightning', 'pytorch_lightning.callbacks', name):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    kind = sys.modules[name].ModelCheckpoint = type('ModelCheckpoint', (), {'__module__': name})
    left = {'callbacks': {kind: {'best': np.float64(0.5)}}, 'global_step': 470000}
    path, watch = tmp_path / 'model.ckpt', hostile.Watch(tmp_path / 'ran')
    torch.save({'state_dict': ldm_names(first), **left}, path)
    for package in ('pytorch_lightning', 'pytorch_lightning.callbacks', name):
        monkeypatch.delitem(sys.modules, package)
    assert_alike(first, LatentDiffusion.from_pretrained(path))
    hostile.write('system', path, watch.marker, state_dict=ldm_names(first))
    with pytest.raises(ValueError, match=r'model\.ckpt holds posix\.system'):
        LatentDiffusion.from_pretrained(path)
    watch.assert_nothing_ran()


def test_parameters_own_their_memory(file, monkeypatch):
    """They are copied once: neither views of the file, nor of each other."""
    read, seen = WeightFile.read, []

    def spy(self, prefix):
        seen.append(read(self, prefix))
        return seen[-1]

    monkeypatch.setattr(WeightFile, 'read', spy)
    loaded = LatentDiffusion.from_pretrained(file)
    theirs = {tensor.untyped_storage().data_ptr() for state in seen for tensor in state.values()}
    ours = [tensor.untyped_storage().data_ptr() for tensor in loaded.state_dict().values()]
    assert len(set(ours)) == len(ours) and not theirs & set(ours)


def test_version_2_through_a_folder(second, tmp_path):
    second.save_folder(tmp_path / 'folder')
    loaded = LatentDiffusion.from_pretrained(tmp_path / 'folder')
    assert_alike(second, loaded)
    assert torch.equal(loaded.text.token_ids(['a ball']), second.text.token_ids(['a ball']))
    assert second.text.token_ids(['a ball'])[0, -1] == 0


def test_version_2_without_the_block_that_is_not_used(second, tmp_path):
    """As exported from diffusers: neither the last block nor what stands behind it."""
    state = {name: value.contiguous() for name, value in ldm_names(second, open_clip=True).items()}
    unused = ('resblocks.2.', 'text_projection', 'logit_scale')
    save_file(
        {name: v for name, v in state.items() if not any(part in name for part in unused)}, tmp_path / 'x.safetensors'
    )
    (tmp_path / 'x.yaml').write_text('model: {params: {parameterization: v}}')
    assert_alike(second, LatentDiffusion.from_pretrained(tmp_path / 'x.safetensors'))


def test_a_configuration_beside_it_that_says_nothing(second, tmp_path):
    save_file({n: v.contiguous() for n, v in ldm_names(second, open_clip=True).items()}, tmp_path / 'x.safetensors')
    for text in ('model: {params: {parameterization: w}}', '- 1', 'model: [', ''):
        (tmp_path / 'x.yaml').write_text(text)
        with pytest.raises(ValueError, match='parameterization to be one of eps, v, x0'):
            LatentDiffusion.from_pretrained(tmp_path / 'x.safetensors')


def test_half_precision_and_averages(first, tmp_path):
    state = {name: value.half().contiguous() for name, value in ldm_names(first).items()}
    averages = {'model_ema.diffusion_modelout2bias': torch.ones(4), 'model_ema.decay': torch.tensor(0.9999)}
    save_file(state | averages, tmp_path / 'half.safetensors')
    loaded = LatentDiffusion.from_pretrained(tmp_path / 'half.safetensors')
    assert torch.equal(loaded.unet.conv_out.bias, first.unet.conv_out.bias.half().float())
    assert loaded.unet.dtype == loaded.vae.dtype == torch.float32


def change(file: Path, to: Path, edit) -> Path:
    from safetensors.torch import load_file

    state = load_file(file)
    edit(state)
    save_file(state, to)
    return to


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (lambda s: s.pop('model.diffusion_model.out.2.bias'), r'U-Net: .*missing 1: conv_out\.bias'),
        (
            lambda s: s.update({'first_stage_model.encoder.conv_in.bias': torch.zeros(7)}),
            'VAE: .*another shape 1',
        ),
        (
            lambda s: s.update({'cond_stage_model.transformer.text_model.stray': torch.zeros(1)}),
            'text encoder: .*unexpected 1: stray',
        ),
        (
            lambda s: s.update({'model.diffusion_model.label_emb.0.0.weight': torch.zeros(1)}),
            'U-Net: .*1 of .* have no place in it',
        ),
        (lambda s: s.update({'first_stage_model.encoder.stray': torch.zeros(1)}), 'VAE: .*1 of .* have no place'),
        (
            lambda s: s.update({'model.diffusion_model.input_blocks.0.0.weight': torch.zeros(32, 9, 3, 3)}),
            'takes 9 channels, the latent has 4; an inpainting',
        ),
        (lambda s: s.update(alphas_cumprod=torch.linspace(1, 0, 1000)), 'another noise schedule'),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith('cond')], r'no tensors under cond_stage_model\.; found'),
    ],
)
def test_what_does_not_fit_is_named(file, tmp_path, edit, message):
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(change(file, tmp_path / 'changed.safetensors', edit))


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['conditioner.embedders.0.x', 'model.diffusion_model.x', 'first_stage_model.x'], 'found SDXL'),
        (['control_model.x'], 'found a ControlNet'),
        (['lora_unet_x'], 'found a LoRA'),
        (['down_blocks.0.x', 'mid_block.x'], 'one bare diffusers model; give the folder'),
        (['backbone.x', 'decode_head.y'], r'tensors of another layout \(backbone, decode_head\)'),
    ],
)
def test_other_kinds_of_files_are_recognised(tmp_path, names, message):
    path = tmp_path / 'other.safetensors'
    save_file({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(path)


def test_versions_are_not_mixed(first, second, tmp_path):
    """A 2.x U-Net beside a text encoder under the names of 1.x: its heads would be guessed wrong without a word."""
    unet = {n: v for n, v in ldm_names(second, open_clip=True).items() if n.startswith('model.')}
    others = {n: v for n, v in ldm_names(first).items() if not n.startswith('model.')}
    save_file({n: v.contiguous() for n, v in (unet | others).items()}, tmp_path / 'x.safetensors')
    with pytest.raises(ValueError, match='of one version .* give a diffusers folder'):
        LatentDiffusion.from_pretrained(tmp_path / 'x.safetensors')


def test_a_damaged_file_is_refused(first, file, tmp_path):
    torch.save(ldm_names(first), tmp_path / 'whole.ckpt')
    for name, whole in (('cut.safetensors', file), ('cut.ckpt', tmp_path / 'whole.ckpt')):
        (tmp_path / name).write_bytes(whole.read_bytes()[:100_000])
        with pytest.raises(ValueError, match='cannot be read.*is it complete'):
            LatentDiffusion.from_pretrained(tmp_path / name)
    (tmp_path / 'list.ckpt').write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match='list.ckpt'):
        LatentDiffusion.from_pretrained(tmp_path / 'list.ckpt')


def test_clip_tokens_are_those_of_clip():
    """Ids that openai/CLIP gives (its README's example among them)."""
    tokenizer = clip_tokenizer('!', 8)
    assert len(tokenizer) == 49408
    assert tokenizer('a photo of a cat').input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = tokenizer('A  Diagram', padding='max_length', truncation=True).input_ids
    assert padded == [49406, 320, 22697, 49407, 0, 0, 0, 0]
    # Of every word and its number, as openai/CLIP reads them from its own file.
    words = json.dumps(sorted(tokenizer.get_vocab().items()))
    assert hashlib.sha256(words.encode()).hexdigest().startswith('88090f1273a5322f')
