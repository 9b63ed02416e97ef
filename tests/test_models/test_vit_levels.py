"""ViTLevels against transformers' ViT; weights of AugReg's npz and of timm's names; any input size."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTModel

from mmdiff2in1.models.backbones.vit_levels import ViTLevels
from mmdiff2in1.models.backbones.vit_parts import resized_positions
from mmdiff2in1.models.backbones.vit_weights import read_vit

WIDTH, DEPTH, HEADS, PATCH = 16, 8, 4, 4
TINY = dict(width=WIDTH, depth=DEPTH, heads=HEADS, patch=PATCH)


def theirs(grid=(3, 4)):
    """transformers' model of 3 × 4 patches, its weights moved away from zeros and ones."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
        layer_norm_eps=1e-6, image_size=(PATCH * grid[0], PATCH * grid[1]), patch_size=PATCH,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def in_timm_names(model):
    """The tensors of `theirs`, whose layers are found by their kind, not by the names of one version."""
    state = {
        'cls_token': model.embeddings.cls_token,
        'pos_embed': model.embeddings.position_embeddings,
        'patch_embed.proj.weight': model.embeddings.patch_embeddings.projection.weight,
        'patch_embed.proj.bias': model.embeddings.patch_embeddings.projection.bias,
        'norm.weight': model.layernorm.weight,
        'norm.bias': model.layernorm.bias,
    }
    layers = model.encoder.layer if hasattr(model, 'encoder') else model.layers
    for i, layer in enumerate(layers):
        linear = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        norms = [m for m in layer.modules() if isinstance(m, torch.nn.LayerNorm)]
        q, k, v, out, up, down = linear
        for kind in ('weight', 'bias'):
            state[f'blocks.{i}.attn.qkv.{kind}'] = torch.cat([getattr(m, kind) for m in (q, k, v)])
            named = {'norm1': norms[0], 'norm2': norms[1], 'attn.proj': out, 'mlp.fc1': up, 'mlp.fc2': down}
            state |= {f'blocks.{i}.{name}.{kind}': getattr(m, kind) for name, m in named.items()}
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def as_npz(state):
    """The same tensors as AugReg writes them."""
    head = WIDTH // HEADS
    arrays = {
        'cls': state['cls_token'],
        'Transformer/posembed_input/pos_embedding': state['pos_embed'],
        'embedding/kernel': state['patch_embed.proj.weight'].permute(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
        'head/kernel': torch.ones(WIDTH, 5),
        'head/bias': torch.ones(5),
    }
    for i in range(DEPTH):
        block, mine = f'Transformer/encoderblock_{i}', f'blocks.{i}'
        for number, name in ((0, 'norm1'), (2, 'norm2')):
            arrays[f'{block}/LayerNorm_{number}/scale'] = state[f'{mine}.{name}.weight']
            arrays[f'{block}/LayerNorm_{number}/bias'] = state[f'{mine}.{name}.bias']
        for number, name in ((0, 'fc1'), (1, 'fc2')):
            arrays[f'{block}/MlpBlock_3/Dense_{number}/kernel'] = state[f'{mine}.mlp.{name}.weight'].T
            arrays[f'{block}/MlpBlock_3/Dense_{number}/bias'] = state[f'{mine}.mlp.{name}.bias']
        attention = f'{block}/MultiHeadDotProductAttention_1'
        weights, biases = (state[f'{mine}.attn.qkv.{kind}'].chunk(3) for kind in ('weight', 'bias'))
        for name, weight, bias in zip(('query', 'key', 'value'), weights, biases, strict=True):
            arrays[f'{attention}/{name}/kernel'] = weight.T.reshape(WIDTH, HEADS, head)
            arrays[f'{attention}/{name}/bias'] = bias.reshape(HEADS, head)
        arrays[f'{attention}/out/kernel'] = state[f'{mine}.attn.proj.weight'].T.reshape(HEADS, head, WIDTH)
        arrays[f'{attention}/out/bias'] = state[f'{mine}.attn.proj.bias']
    return {name: tensor.numpy() for name, tensor in arrays.items()}


def test_maps_are_those_of_transformers():
    reference = theirs()
    model = ViTLevels(img_size=(12, 16), **TINY).eval()
    model.load_state_dict(in_timm_names(reference))
    images = torch.randn(2, 3, 12, 16)
    with torch.no_grad():
        found = model(images)
        expected = reference(images, output_hidden_states=True)
    assert len(found) == 4
    for tap, level in zip((2, 4, 6), found[:3], strict=True):
        tokens = expected.hidden_states[tap][:, 1:]
        torch.testing.assert_close(level, tokens.transpose(1, 2).reshape(2, WIDTH, 3, 4), atol=1e-5, rtol=1e-5)
    last = expected.last_hidden_state[:, 1:].transpose(1, 2).reshape(2, WIDTH, 3, 4)
    torch.testing.assert_close(found[3], last, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(20, 12), (17, 30)])
def test_any_input_size(size):
    """Another grid has resized positions; sides that are no multiple are padded with zeros below and right."""
    reference = theirs(grid=(3, 3))
    model = ViTLevels(img_size=(12, 12), **TINY).eval()
    model.load_state_dict(in_timm_names(reference))
    images = torch.randn(1, 3, *size)
    padded = torch.zeros(1, 3, *(-(-side // PATCH) * PATCH for side in size))
    padded[..., : size[0], : size[1]] = images
    with torch.no_grad():
        found = model(images)[-1]
        expected = reference(padded, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    assert found.shape == (1, WIDTH, *(side // PATCH for side in padded.shape[-2:]))
    torch.testing.assert_close(found.flatten(2).mT, expected, atol=1e-5, rtol=1e-5)


def test_positions_by_hand():
    """Doubled along the width by cubic convolution (a = -3/4), centres of pixels aligned; the class token's stays."""
    row = torch.tensor([0.0, 1, 5, 2, 2, 7, 3, 1])
    positions = torch.cat([torch.tensor([77.0]), row.repeat(4)])[None, :, None]
    found = resized_positions(positions, (4, 8), (4, 16))
    assert found[0, 0, 0] == 77 and found.shape == (1, 1 + 64, 1)
    # 3.25: a quarter of a pixel behind pixel 3; weights of pixels 2 to 5 by their distances 1.25, 0.25, 0.75, 1.75.
    a = -0.75
    near = [(a + 2) * d**3 - (a + 3) * d**2 + 1 for d in (0.25, 0.75)]
    far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (1.25, 1.75)]
    expected = far[0] * row[2] + near[0] * row[3] + near[1] * row[4] + far[1] * row[5]
    torch.testing.assert_close(found[0, 1:, 0].reshape(4, 16)[:, 7], expected.expand(4))


@pytest.mark.parametrize('suffix', ['npz', 'pth', 'safetensors'])
def test_weights_of_a_file(tmp_path, suffix):
    """AugReg's are of a square grid; what comes out is what transformers computes with them."""
    reference = theirs(grid=(3, 3))
    state, path = in_timm_names(reference), tmp_path / f'vit.{suffix}'
    if suffix == 'npz':
        np.savez(path, **as_npz(state))
    elif suffix == 'pth':
        torch.save(state | {'head.weight': torch.ones(5, WIDTH), 'head.bias': torch.ones(5)}, path)
    else:
        save_file(state, path)
    for name, tensor in read_vit(path).items():
        torch.testing.assert_close(tensor, state[name])
    model = ViTLevels(img_size=(12, 20), pretrained=str(path), **TINY).eval()
    images = torch.randn(1, 3, 12, 20)
    with torch.no_grad():
        expected = reference(images, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        found = model(images)[-1].flatten(2).mT
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_wrong_files_are_named(tmp_path):
    state = in_timm_names(theirs(grid=(3, 3)))
    with pytest.raises(FileNotFoundError, match='Nothing is downloaded'):
        read_vit(tmp_path / 'missing.npz')
    del state['blocks.1.norm1.bias']
    state['blocks.0.mlp.fc1.bias'] = torch.ones(3)
    torch.save(state, tmp_path / 'vit.pth')
    expected = r'missing 1: blocks.1.norm1.bias; of another shape 1: blocks.0.mlp.fc1.bias \[3\], expected \[64\]'
    with pytest.raises(ValueError, match=expected):
        ViTLevels(img_size=(12, 12), pretrained=str(tmp_path / 'vit.pth'), **TINY)
    torch.save({'conv.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='no plain vision transformer'):
        read_vit(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='expected rising numbers of blocks, the last of them depth=8'):
        ViTLevels(taps=(2, 4), **TINY)


def test_stochastic_depth_is_linear_and_of_training_alone():
    model = ViTLevels(img_size=(12, 16), drop_path_rate=0.7, **TINY)
    rates = [getattr(block.drop, 'drop_prob', 0.0) for block in model.blocks]
    torch.testing.assert_close(torch.tensor(rates), torch.linspace(0, 0.7, DEPTH))
    images = torch.randn(1, 3, 12, 16)
    model.eval()
    assert torch.equal(model(images)[-1], model(images)[-1])
    model.train()
    assert not torch.equal(model(images)[-1], model(images)[-1])


def test_computing_blocks_again_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = ViTLevels(img_size=(12, 16), checkpointing=checkpointing, **TINY).train()
        torch.manual_seed(1)
        sum(level.square().sum() for level in model(torch.randn(2, 3, 12, 16))).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_full_size():
    """ViT-L/16 of 448 × 576 as in InvPT's NYUD checkpoint, and ViT-B/16."""
    with torch.device('meta'):
        large = ViTLevels(img_size=(448, 576))
        base = ViTLevels(img_size=(512, 512), width=768, depth=12, heads=12)
        assert [tuple(level.shape) for level in large(torch.empty(1, 3, 448, 576))] == [(1, 1024, 28, 36)] * 4
    assert large.taps == [6, 12, 18, 24] and base.taps == [3, 6, 9, 12]
    # 24 blocks of 12 C² + 13 C; patches; positions and class token; the last norm.
    C = 1024
    expected = 24 * (12 * C**2 + 13 * C) + 3 * 256 * C + C + (28 * 36 + 1) * C + C + 2 * C
    assert sum(p.numel() for p in large.parameters()) == expected == 304_133_120
