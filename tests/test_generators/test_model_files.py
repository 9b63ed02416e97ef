"""Which weights of a folder are read: the plain ones, the only variant, or none, and then what lies there is listed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pipelines import sdxl, stable_diffusion_3
from transformers import SwinBackbone, SwinConfig

from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.generators.controlnet import branch_for, read_controlnet
from mmdiff2in1.generators.loading import check_perceiver, load_generator, load_perceiver
from mmdiff2in1.generators.model_files import variant_in
from mmdiff2in1.models import HFBackbone

INDEX = 'model.safetensors.index{}.json'
SHARDS = ('model{0}-00001-of-00002.safetensors', 'model{0}-00002-of-00002.safetensors')


@pytest.mark.parametrize(
    ('names', 'variant'),
    [
        (['diffusion_pytorch_model.safetensors'], None),
        (['pytorch_model.bin'], None),
        (['diffusion_pytorch_model.fp16.safetensors'], 'fp16'),
        (['diffusion_pytorch_model.non_ema.bin'], 'non_ema'),
        (['diffusion_pytorch_model.safetensors', 'diffusion_pytorch_model.fp16.safetensors'], None),
        (['model.fp16.safetensors', 'model.bf16.safetensors', 'pytorch_model.bin'], None),
        (['model.fp16.safetensors', 'pytorch_model.fp16.bin', 'flax_model.msgpack'], 'fp16'),
        ([INDEX.format(''), *(name.format('') for name in SHARDS)], None),
        ([INDEX.format('.fp16'), *(name.format('.fp16') for name in SHARDS)], 'fp16'),
    ],
)
def test_the_variant_that_lies_there(tmp_path, names, variant):
    for name in names:
        (tmp_path / name).write_text(index(name) if name.endswith('.json') else '')
    assert variant_in(tmp_path) == variant


def index(name: str, shards=SHARDS) -> str:
    variant = '.fp16' if 'fp16' in name else ''
    return json.dumps(dict(weight_map={f'w{i}': shard.format(variant) for i, shard in enumerate(shards)}))


@pytest.mark.parametrize(
    ('files', 'error', 'message'),
    [
        (
            {},
            FileNotFoundError,
            r'found no weights \(nothing\), expected diffusion_pytorch_mo',
        ),
        ({'config.json': '', 'model.onnx': ''}, FileNotFoundError, r'found no weights \(config\.json, model\.onnx\)'),
        (
            {'model.fp16.safetensors': '', 'model.bf16.safetensors': ''},
            ValueError,
            r'holds the variants bf16, fp16 and no plain weights \(model\.bf16.*keep one',
        ),
        ({SHARDS[0].format(''): ''}, FileNotFoundError, r'found no weights \(model-00001-of-00002'),
        (
            {INDEX.format(''): index('x'), SHARDS[0].format(''): ''},
            FileNotFoundError,
            r'missing model-00002-of-00002\.safetensors, of which model\.safetensors\.index\.json tells',
        ),
        ({INDEX.format(''): '{}'}, ValueError, 'names no shards, expected weight_map'),
        ({INDEX.format(''): '{"weight_map": ['}, ValueError, r'index\.json is not valid JSON'),
        (
            {INDEX.format(''): index('x', ['../a.safetensors'])},
            ValueError,
            r'names \.\./a\.safetensors, expected files',
        ),
    ],
)
def test_folders_without_weights_that_can_be_read(tmp_path, files, error, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        variant_in(tmp_path)


def test_safetensors_only(tmp_path):
    (tmp_path / 'pytorch_model.bin').touch()
    with pytest.raises(FileNotFoundError, match=r'found no weights \(pytorch_model\.bin\).* or save it as safetensors'):
        variant_in(tmp_path, safetensors_only=True)


def to_variant(folder: Path, name: str = 'fp16') -> None:
    """Every file of weights below becomes that variant, in half precision."""
    for path in [*folder.rglob('*.safetensors')]:
        state = {key: value.half() if value.is_floating_point() else value for key, value in load_file(path).items()}
        save_file(state, path.with_suffix(f'.{name}.safetensors'), metadata={'format': 'pt'})
        path.unlink()


@pytest.mark.parametrize('name', ['fp16', 'non_ema'])
def test_stable_diffusion(tiny_diffusion, tmp_path, name):
    tiny_diffusion.add_controlnet(branch_for(tiny_diffusion.unet, 2))
    tiny_diffusion.save_folder(tmp_path / 'tiny')
    to_variant(tmp_path / 'tiny', name)
    loaded = LatentDiffusion.from_pretrained(tmp_path / 'tiny')
    found = loaded.state_dict()
    for key, value in tiny_diffusion.state_dict().items():
        assert torch.equal(found[key], value.half().float()), key
    assert loaded.takes_conditions
    assert read_controlnet(tmp_path / 'tiny' / 'controlnet', torch.float16).dtype == torch.float16
    (tmp_path / 'tiny' / 'vae' / f'diffusion_pytorch_model.{name}.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'vae: found no weights \(config\.json\)'):
        check_perceiver(tmp_path / 'tiny')


def test_pipelines(tmp_path):
    pipelines = dict(sdxl=sdxl(), sd3=stable_diffusion_3())
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(tmp_path / name)
        to_variant(tmp_path / name)
    made = load_generator(tmp_path / 'sdxl').pipeline
    assert torch.equal(made.unet.conv_out.weight, pipelines['sdxl'].unet.conv_out.weight.half().float())
    assert torch.equal(
        made.text_encoder_2.text_projection.weight,
        pipelines['sdxl'].text_encoder_2.text_projection.weight.half().float(),
    )
    seen = load_perceiver(tmp_path / 'sd3')
    assert torch.equal(seen.transformer.proj_out.weight, pipelines['sd3'].transformer.proj_out.weight.half().float())
    # What else may be wrong in such folders: found before anything is loaded.
    (tmp_path / 'sd3' / 'tokenizer_2' / 'tokenizer.json').unlink()
    with pytest.raises(FileNotFoundError, match='tokenizer_2 holds no vocabulary'):
        check_perceiver(tmp_path / 'sd3')
    shutil.rmtree(tmp_path / 'sdxl' / 'tokenizer_2')
    shutil.copytree(tmp_path / 'sd3' / 'tokenizer_3', tmp_path / 'sdxl' / 'tokenizer_2')
    with pytest.raises(ValueError, match='tokenizer_2 is not the tokenizer of the text encoder .* 8 tokens'):
        load_generator(tmp_path / 'sdxl')
    (tmp_path / 'sdxl' / 'scheduler' / 'scheduler_config.json').write_text('{}')
    with pytest.raises(ValueError, match='scheduler_config.json: found no fields, without beta_schedule'):
        load_generator(tmp_path / 'sdxl')


def test_shards(tiny_diffusion, tmp_path):
    """Of the U-Net and of the text encoder, which two libraries read."""
    tiny_diffusion.save_folder(tmp_path / 'tiny')
    parts = ('unet', tiny_diffusion.unet, '50KB'), ('text_encoder', tiny_diffusion.text.encoder, '5KB')
    for part, kind, size in parts:
        shutil.rmtree(tmp_path / 'tiny' / part)
        kind.save_pretrained(tmp_path / 'tiny' / part, max_shard_size=size, variant='fp16')
        assert len([*(tmp_path / 'tiny' / part).glob('*.safetensors')]) > 1
    loaded = LatentDiffusion.from_pretrained(tmp_path / 'tiny')
    assert loaded.weights_hash() == tiny_diffusion.weights_hash()


def test_a_backbone(tmp_path):
    shape = dict(embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=2, image_size=32)
    model = SwinBackbone(SwinConfig(**shape))
    model.save_pretrained(tmp_path / 'swin')
    to_variant(tmp_path / 'swin')
    made = HFBackbone(str(tmp_path / 'swin'))
    name, value = next(iter(model.state_dict().items()))
    assert torch.equal(made.model.state_dict()[name], value.half().float())
