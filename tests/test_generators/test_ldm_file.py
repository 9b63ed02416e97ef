"""Stable Diffusion in one file: the same model as its folder, and everything that is not such a file."""

import hashlib
import json
import pickle
import re
import shutil
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
from mmdiff2in1.generators.ldm_file import check_ldm_file
from mmdiff2in1.generators.ldm_names import original_names
from mmdiff2in1.generators.tokenizer import clip_tokenizer
from mmdiff2in1.generators.weight_files import WeightFile
from mmdiff2in1.training.identity import weights_mark


@pytest.fixture(scope='module')
def first() -> LatentDiffusion:
    return stable_diffusion(1, whole=True)


@pytest.fixture(scope='module')
def second() -> LatentDiffusion:
    return stable_diffusion(2, whole=True)


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
            r'U-Net: .*1 of \d+ have no place in it: model\.diffusion_model\.label_emb\.0\.0\.weight$',
        ),
        (
            lambda s: s.update({'first_stage_model.encoder.stray': torch.zeros(1)}),
            r'VAE: .*1 of \d+ have no place in it: first_stage_model\.encoder\.stray$',
        ),
        (
            lambda s: s.update({'module.first_stage_model.quant_conv.bias': torch.zeros(8)}),
            r'two tensors for one place: pairs 1: \S*quant_conv\.bias and \S*quant_conv\.bias; which one counts',
        ),
        (
            lambda s: s.update({'model.diffusion_model.input_blocks.0.0.weight': torch.zeros(32, 9, 3, 3)}),
            'takes 9 channels, the latent has 4; an inpainting',
        ),
        (
            lambda s: s['first_stage_model.encoder.conv_in.bias'].fill_(torch.nan),
            r'VAE: .*not finite 1: encoder\.conv_in',
        ),
        (lambda s: s.update(alphas_cumprod=torch.linspace(1, 0, 1000)), 'another noise schedule'),
        (lambda s: [s.pop(n) for n in list(s) if n.startswith('cond')], r'no tensors under cond_stage_model\.; found'),
    ],
)
def test_what_does_not_fit_is_named(file, tmp_path, edit, message):
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(change(file, tmp_path / 'changed.safetensors', edit))


def renamed(*pairs: tuple[str, str]):
    """Names with the first text of each pair in the place of the second, a pattern."""

    def rename(state):
        for name in list(state):
            new = name
            for theirs, plain in pairs:
                new = re.sub(plain, theirs, new)
            state[new] = state.pop(name)

    return rename


def squeezed(state) -> None:
    """Linear layers instead of 1×1 convolutions, and the names of diffusers' attention since July 2023."""
    names = {'q': 'to_q', 'k': 'to_k', 'v': 'to_v', 'proj_out': 'to_out.0'}
    for name in [name for name in state if '.mid.attn_1.' in name and '.norm.' not in name]:
        start, part, kind = name.rsplit('.', 2)
        value = state.pop(name)
        state[f'{start}.{names[part]}.{kind}'] = value[:, :, 0, 0].contiguous() if value.ndim == 4 else value


TEXT = 'cond_stage_model.transformer.'
WRITERS = {
    'diffusers from August 2023 to February 2024': squeezed,
    'diffusers with its first names': renamed(
        (r'\1.query.', r'(attn_1)\.q\.'), (r'\1.key.', r'(attn_1)\.k\.'), (r'\1.value.', r'(attn_1)\.v\.'),
        (r'\1.proj_attn.', r'(attn_1)\.proj_out\.'), (r'\1.group_norm.', r'(attn_1)\.norm\.'),
    ),
    'torch.compile': renamed(('model._orig_mod.diffusion_model.', r'^model\.diffusion_model\.')),
    'torch.compile of the U-Net': renamed(('model.diffusion_model._orig_mod.', r'^model\.diffusion_model\.')),
    'DistributedDataParallel': renamed(('module.', '^')),
    'DeepSpeed': renamed(('_forward_module.', '^')),
    'FSDP': renamed((r'\1._fsdp_wrapped_module.', r'^(model\.diffusion_model\.middle_block)\.')),
    'text_model twice': renamed((f'{TEXT}text_model.text_model.', re.escape(f'{TEXT}text_model.'))),
    'positions and ends of CLIP': lambda s: s.update(
        {
            f'{TEXT}text_model.embeddings.position_ids': torch.arange(77)[None],
            f'{TEXT}text_projection.weight': torch.zeros(64, 64),
            f'{TEXT}logit_scale': torch.tensor(4.6),
        }
    ),
    'what the autoencoder was trained with': lambda s: s.update(
        {'first_stage_model.loss.logvar': torch.zeros(()), 'first_stage_model.model_ema.decay': torch.zeros(())}
    ),
    'others beside it': lambda s: s.update({'betas': torch.zeros(1000), 'model_ema.decay': torch.zeros(())}),
}  # fmt: skip


LEFT_OUT = (
    f'{TEXT}text_model.embeddings.position_ids',
    'first_stage_model.loss.logvar',
    'first_stage_model.model_ema.decay',
)
BESIDE = (f'{TEXT}text_projection.weight', f'{TEXT}logit_scale', 'betas', 'model_ema.decay')


@pytest.mark.parametrize('writer', WRITERS)
def test_names_that_others_write(file, writer):
    """Every tensor is found under its original name, whoever has written the file."""
    state = dict.fromkeys(WeightFile(file).shapes, torch.zeros(1))
    expected = set(state)
    WRITERS[writer](state)
    assert set(state) != expected
    found = original_names(state, file)
    assert sorted(found.values()) == sorted(set(state) - set(LEFT_OUT))
    assert set(found) - set(BESIDE) == expected


def test_a_file_of_many_writers(first, file, tmp_path):
    """A Dreambooth extension's text encoder in a merge that diffusers exported, trained on several GPUs."""

    def edit(state):
        for writer in ('diffusers from August 2023 to February 2024', 'text_model twice', 'positions and ends of CLIP'):
            WRITERS[writer](state)
        WRITERS['DistributedDataParallel'](state)

    loaded = LatentDiffusion.from_pretrained(change(file, tmp_path / 'model.safetensors', edit))
    assert loaded.weights_hash() == first.weights_hash()


def test_merges_without_text_model(first, file, tmp_path):
    edit = renamed((TEXT, re.escape(f'{TEXT}text_model.')))
    loaded = LatentDiffusion.from_pretrained(change(file, tmp_path / 'model.safetensors', edit))
    assert loaded.weights_hash() == first.weights_hash()


def test_bfloat16_in_all_that_the_file_holds(first, file, tmp_path):
    def to(state):
        state |= {name: value.bfloat16() for name, value in state.items()}

    loaded = LatentDiffusion.from_pretrained(change(file, tmp_path / 'model.safetensors', to))
    found = loaded.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(found[name], value.bfloat16().float()), name


@pytest.mark.parametrize('name', ['model.ckpt', 'UP.SAFETENSORS', '0f3a9c', 'model.bin'])
def test_the_first_bytes_say_what_a_file_is(file, tmp_path, name):
    shutil.copy(file, tmp_path / name)
    found = check_ldm_file(tmp_path / name)
    assert found.shapes == WeightFile(file).shapes
    assert torch.equal(found.read('alphas_cumprod')['alphas_cumprod'], WeightFile(file).read('alp')['alphas_cumprod'])


@pytest.mark.parametrize('old', [False, True])
def test_a_checkpoint_under_the_name_of_safetensors(first, file, tmp_path, old):
    path = tmp_path / 'model.safetensors'
    torch.save({'state_dict': ldm_names(first)}, path, _use_new_zipfile_serialization=not old)
    assert check_ldm_file(path).shapes == WeightFile(file).shapes


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['conditioner.embedders.0.x', 'model.diffusion_model.x', 'first_stage_model.x'], 'found SDXL'),
        (['control_model.x'], 'found a ControlNet'),
        (['lora_unet_x'], 'found a LoRA'),
        (['model.diffusion_model.joint_blocks.0.x', 'first_stage_model.x'], 'found Stable Diffusion 3; give its diff'),
        (['model.diffusion_model.double_blocks.0.x'], 'found FLUX; give its diffusers folder'),
        (['double_blocks.0.x'], 'found the transformer of FLUX alone'),
        (['model_ema.diffusion_modelout2bias'], 'found averaged weights without the model'),
        (['down_blocks.0.x', 'mid_block.x'], 'one bare diffusers model; give the folder'),
        (['backbone.x', 'decode_head.y'], r'tensors of another layout \(backbone, decode_head\)'),
    ],
)
def test_other_kinds_of_files_are_recognised(tmp_path, names, message):
    path = tmp_path / 'other.safetensors'
    save_file({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_pretrained(path)


@pytest.fixture
def said(monkeypatch):
    """What is told to be left out."""
    lines: list[str] = []
    monkeypatch.setattr('mmdiff2in1.generators.ldm_account.print_log', lambda text, logger: lines.append(text))
    return lines


@pytest.mark.parametrize(
    ('names', 'told'),
    [
        ([], []),
        (['betas', 'alphas_cumprod_prev', 'sqrt_recipm1_alphas_cumprod', 'posterior_variance', 'global_step'], []),
        (
            [f'{TEXT}text_projection.weight', f'{TEXT}logit_scale'],
            [f'2 behind what the U-Net attends to: {TEXT}logit_scale, {TEXT}text_projection.weight'],
        ),
        (
            ['model_ema.decay', 'control_model.a', 'embedding_manager.b', 'control_model.c'],
            ['2 a ControlNet: control_model.a, control_model.c; 1 unknown: embedding_manager.b; 1 averaged weights: '
             'model_ema.decay'],
        ),
    ],
)  # fmt: skip
def test_what_is_left_out_is_told_in_one_line(first, file, tmp_path, said, names, told):
    add = {name: torch.zeros(1) for name in names}
    loaded = LatentDiffusion.from_pretrained(change(file, tmp_path / 'more.safetensors', lambda s: s.update(add)))
    assert loaded.weights_hash() == first.weights_hash()
    assert said == [f'more.safetensors: left out, not needed here: {each}' for each in told]


def test_the_block_of_version_2_that_is_not_used_is_told(second, tmp_path, said):
    save_file({n: v.contiguous() for n, v in ldm_names(second, open_clip=True).items()}, tmp_path / 'x.safetensors')
    (tmp_path / 'x.yaml').write_text('model: {params: {parameterization: v}}')
    LatentDiffusion.from_pretrained(tmp_path / 'x.safetensors')
    (line,) = said
    assert line.startswith('x.safetensors: left out, not needed here: 14 behind what the U-Net attends to: ')
    assert 'cond_stage_model.model.logit_scale' in line


@pytest.mark.parametrize('name', ['cond_stage_model.projection.weight', 'cond_stage_model.model_2.a'])
def test_a_head_that_nobody_knows_is_refused(file, tmp_path, name):
    path = change(file, tmp_path / 'more.safetensors', lambda s: s.update({name: torch.zeros(1)}))
    message = rf'more\.safetensors: 1 tensors beside the text encoders .* have no place in the model: {name};'
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
