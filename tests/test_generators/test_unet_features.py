"""Features and attention maps against diffusers' own forward pass, read by hand with hooks.

z: latents (B, c, h, w); level l has size (h / 2^l, w / 2^l).
"""

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor

from mmdiff2in1.generators import LatentDiffusion, check_wanted, freeze_unread, ldm_blocks, vpd_taps
from mmdiff2in1.generators.attention import CollectingAttnProcessor, install_collecting_attention
from mmdiff2in1.generators.features import unet_features

HEADS = 2

# LDM name → (diffusers module whose output it is, channels, level), written down by hand.
TINY = {
    'in.0': ('conv_in', 8, 0),
    'in.1': ('down_blocks.0.resnets.0', 8, 0),
    'in.2': ('down_blocks.0.resnets.1', 8, 0),
    'in.3': ('down_blocks.0.downsamplers.0', 8, 1),
    'in.4': ('down_blocks.1.attentions.0', 16, 1),
    'in.5': ('down_blocks.1.attentions.1', 16, 1),
    'in.6': ('down_blocks.1.downsamplers.0', 16, 2),
    'in.7': ('down_blocks.2.attentions.0', 16, 2),
    'in.8': ('down_blocks.2.attentions.1', 16, 2),
    'mid': ('mid_block', 16, 2),
    'out.0': ('up_blocks.0.attentions.0', 16, 2),
    'out.1': ('up_blocks.0.attentions.1', 16, 2),
    'out.2': ('up_blocks.0.upsamplers.0', 16, 1),
    'out.3': ('up_blocks.1.attentions.0', 16, 1),
    'out.4': ('up_blocks.1.attentions.1', 16, 1),
    'out.5': ('up_blocks.1.upsamplers.0', 16, 0),
    'out.6': ('up_blocks.2.resnets.0', 8, 0),
    'out.7': ('up_blocks.2.resnets.1', 8, 0),
    'out.8': ('up_blocks.2.resnets.2', 8, 0),
}
# Stable Diffusion 1.x with widths 4, 8, 12, 16 for 320, 640, 1280, 1280.
SD = {
    'in.0': ('conv_in', 4, 0),
    'in.1': ('down_blocks.0.attentions.0', 4, 0),
    'in.2': ('down_blocks.0.attentions.1', 4, 0),
    'in.3': ('down_blocks.0.downsamplers.0', 4, 1),
    'in.4': ('down_blocks.1.attentions.0', 8, 1),
    'in.5': ('down_blocks.1.attentions.1', 8, 1),
    'in.6': ('down_blocks.1.downsamplers.0', 8, 2),
    'in.7': ('down_blocks.2.attentions.0', 12, 2),
    'in.8': ('down_blocks.2.attentions.1', 12, 2),
    'in.9': ('down_blocks.2.downsamplers.0', 12, 3),
    'in.10': ('down_blocks.3.resnets.0', 16, 3),
    'in.11': ('down_blocks.3.resnets.1', 16, 3),
    'mid': ('mid_block', 16, 3),
    'out.0': ('up_blocks.0.resnets.0', 16, 3),
    'out.1': ('up_blocks.0.resnets.1', 16, 3),
    'out.2': ('up_blocks.0.upsamplers.0', 16, 2),
    'out.3': ('up_blocks.1.attentions.0', 12, 2),
    'out.4': ('up_blocks.1.attentions.1', 12, 2),
    'out.5': ('up_blocks.1.upsamplers.0', 12, 1),
    'out.6': ('up_blocks.2.attentions.0', 8, 1),
    'out.7': ('up_blocks.2.attentions.1', 8, 1),
    'out.8': ('up_blocks.2.upsamplers.0', 8, 0),
    'out.9': ('up_blocks.3.attentions.0', 4, 0),
    'out.10': ('up_blocks.3.attentions.1', 4, 0),
    'out.11': ('up_blocks.3.attentions.2', 4, 0),
}
# Level → cross-attention layers of the down and up blocks.
MAPS = {
    'tiny': {
        1: [f'{side}_blocks.1.attentions.{i}' for side, n in (('down', 2), ('up', 3)) for i in range(n)],
        2: ['down_blocks.2.attentions.0', 'down_blocks.2.attentions.1']
        + [f'up_blocks.0.attentions.{i}' for i in range(3)],
    },
    'sd': {
        level: [f'down_blocks.{level}.attentions.{i}' for i in range(2)]
        + [f'up_blocks.{3 - level}.attentions.{i}' for i in range(3)]
        for level in (0, 1, 2)
    },
}


@pytest.fixture(scope='module')
def sd_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    attending = 'CrossAttnDownBlock2D'
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(4, 8, 12, 16), layers_per_block=2, norm_num_groups=4,
        down_block_types=(attending, attending, attending, 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'),
        cross_attention_dim=10, attention_head_dim=HEADS,
    ).eval()  # fmt: skip
    install_collecting_attention(unet)
    return unet


@pytest.fixture(params=['tiny', 'sd'])
def net(request, sd_unet, two_layer_diffusion) -> tuple:
    """(U-Net, LDM table, map layers, latents, timesteps, tokens); the latents are not square."""
    unet, table, shape, width = (
        (two_layer_diffusion.unet, TINY, (2, 4, 8, 12), 16)
        if request.param == 'tiny'
        else (sd_unet, SD, (2, 4, 8, 24), 10)
    )
    draw = torch.Generator().manual_seed(3)
    z, context = torch.randn(shape, generator=draw), torch.randn(2, 5, width, generator=draw)
    return unet, table, MAPS[request.param], z, torch.tensor([3, 700]), context


def reference(unet, table, map_layers, z, t, context):
    """diffusers' forward with its plain attention; probabilities layer by layer, head by head, from the weights."""
    unet = copy.deepcopy(unet)
    unet.set_attn_processor(AttnProcessor())
    modules, taps, inputs = dict(unet.named_modules()), {}, {}

    def keep_output(name):
        return lambda module, args, output: taps.__setitem__(name, output[0] if isinstance(output, tuple) else output)

    def keep_input(name):
        return lambda module, args, kwargs: inputs.__setitem__(name, args[0])

    for name, (path, _, _) in table.items():
        modules[path].register_forward_hook(keep_output(name))
    for path in sum(map_layers.values(), []):
        modules[f'{path}.transformer_blocks.0.attn2'].register_forward_pre_hook(keep_input(path), with_kwargs=True)
    with torch.no_grad():
        output = unet(z, t, context, return_dict=False)[0]
        maps = {}
        for level, paths in map_layers.items():
            total = 0
            for path in paths:
                attn = modules[f'{path}.transformer_blocks.0.attn2']
                query, key = inputs[path] @ attn.to_q.weight.T, context @ attn.to_k.weight.T
                width = query.shape[-1] // HEADS
                for head in range(HEADS):
                    part = slice(head * width, (head + 1) * width)
                    scores = torch.einsum('bnd,bld->bnl', query[..., part], key[..., part]) / width**0.5
                    total = total + scores.exp() / scores.exp().sum(-1, keepdim=True)
            mean = total / (HEADS * len(paths))
            h, w = z.shape[-2] // 2**level, z.shape[-1] // 2**level
            maps[level] = torch.stack([mean[:, y * w : (y + 1) * w] for y in range(h)], 1).permute(0, 3, 1, 2)
    return taps, maps, output


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_taps_maps_and_output_equal_diffusers(net):
    unet, table, map_layers, z, t, context = net
    taps, maps, output = reference(*net)
    with torch.no_grad():
        found = unet_features(unet, z, t, context, taps=list(table), map_levels=list(map_layers), need_output=True)
    assert list(found.taps) == list(table) and list(found.maps) == list(map_layers)
    for name, (_, channels, level) in table.items():
        assert found.taps[name].shape == (2, channels, z.shape[-2] // 2**level, z.shape[-1] // 2**level), name
        close(found.taps[name], taps[name])
    for level in map_layers:
        close(found.maps[level], maps[level])
        close(found.maps[level].sum(1), torch.ones_like(found.maps[level][:, 0]))
    close(found.output, output)
    # Nothing asked for but the output: the network is the one that `unet(…)` is.
    with torch.no_grad():
        assert torch.equal(unet_features(unet, z, t, context, need_output=True).output, unet(z, t, context).sample)


def test_the_table_of_blocks(net):
    unet, table, map_layers = net[:3]
    blocks = ldm_blocks(unet)
    assert {name: (block.channels, block.level) for name, block in blocks.items()} == {
        name: row[1:] for name, row in table.items()
    }
    assert list(blocks) == list(table)
    attending = {block.attends_at for block in blocks.values() if block.name != 'mid'} - {None}
    assert attending == set(map_layers)


def test_taps_of_vpd(net):
    assert vpd_taps(net[0]) == (
        ('out.1', 'out.4', 'out.8') if net[1] is TINY else ('out.1', 'out.4', 'out.7', 'out.11')
    )


@pytest.mark.parametrize('tap', ['in.0', 'in.3', 'in.8', 'mid', 'out.2', 'out.4', 'out.8'])
def test_a_pass_that_ends_early_gives_the_same_and_runs_no_further(net, tap):
    unet, table, _, z, t, context = net
    calls, names = [], list(table)
    hooks = [
        unet.get_submodule(path).register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, (path, _, _) in table.items()
        if name != 'mid'  # its layers are called one by one
    ]
    hooks.append(unet.mid_block.resnets[0].register_forward_hook(lambda *_: calls.append('mid')))
    with torch.no_grad():
        whole = unet_features(unet, z, t, context, taps=names, need_output=True)
        assert calls == names
        calls.clear()
        part = unet_features(unet, z, t, context, taps=[tap])
    for hook in hooks:
        hook.remove()
    assert calls == names[: names.index(tap) + 1]
    assert list(part.taps) == [tap] and torch.equal(part.taps[tap], whole.taps[tap])
    assert part.output is None


def test_maps_alone_run_to_the_last_layer_of_their_level(two_layer_diffusion):
    unet, calls = two_layer_diffusion.unet, []
    unet.up_blocks[1].attentions[2].register_forward_hook(lambda *_: calls.append('level 1'))
    unet.up_blocks[2].resnets[0].register_forward_hook(lambda *_: calls.append('behind'))
    z, context = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 16)
    with torch.no_grad():
        maps = unet_features(unet, z, torch.tensor([1]), context, map_levels=[1]).maps
    assert calls == ['level 1'] and maps[1].shape == (1, 3, 2, 2)


def test_each_sample_has_its_own_timestep(net):
    unet, table, map_layers, z, t, context = net
    wanted = dict(taps=['mid', 'out.4'], map_levels=list(map_layers), need_output=True)
    with torch.no_grad():
        both = unet_features(unet, z, t, context, **wanted)
        for i in range(2):
            alone = unet_features(unet, z[i : i + 1], t[i : i + 1], context[i : i + 1], **wanted)
            for name in wanted['taps']:
                close(both.taps[name][i : i + 1], alone.taps[name])
            for level in wanted['map_levels']:
                close(both.maps[level][i : i + 1], alone.maps[level])
        same = unet_features(unet, z, torch.tensor([3, 3]), context, **wanted)
    close(same.taps['mid'][0], both.taps['mid'][0])
    assert (same.taps['mid'][1] - both.taps['mid'][1]).abs().max() > 1e-3


def test_under_bfloat16_autocast(net):
    unet, table, map_layers, z, t, context = net
    wanted = dict(taps=list(table), map_levels=list(map_layers), need_output=True)
    with torch.no_grad():
        exact = unet_features(unet, z, t, context, **wanted)
        with torch.autocast('cpu', torch.bfloat16):
            rough, own = unet_features(unet, z, t, context, **wanted), unet(z, t, context).sample
            bare = unet_features(unet, z, t, context, need_output=True).output
    assert rough.output.dtype == bare.dtype == torch.bfloat16 and torch.equal(bare, own)
    for other in (exact.output, own.float()):
        error = (rough.output.float() - other).square().mean() / exact.output.square().mean()
        assert error.sqrt() < 0.03
    for level, maps in rough.maps.items():
        assert maps.dtype == torch.float32
        close(maps.sum(1), torch.ones_like(maps[:, 0]), 1e-5)
        close(maps, exact.maps[level], 0.02)


@pytest.mark.parametrize('autocast', [False, True])
def test_class_maps_do_not_overflow_in_float16(autocast):
    """Logits near 10^5, which float16 does not hold, that differ by a few units."""
    attention = Attention(query_dim=8, cross_attention_dim=8, heads=1, dim_head=8, processor=CollectingAttnProcessor())
    for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        layer.weight.data = torch.eye(8)
    attention.to_out[0].bias.data.zero_()
    generator = torch.Generator().manual_seed(0)
    tokens, queries = torch.full((1, 5, 8), 200.0), torch.full((1, 6, 8), 200.0)
    tokens[..., 7] = torch.randint(-32, 33, (5,), generator=generator) / 16
    queries[..., 7] = torch.randint(-32, 33, (6,), generator=generator) / 16
    logits = queries.double() @ tokens.double().transpose(1, 2) / 8**0.5
    assert logits.min() > torch.finfo(torch.float16).max
    dtype, collector = torch.float32 if autocast else torch.float16, []
    with torch.no_grad(), torch.autocast('cpu', torch.float16, enabled=autocast):
        out = attention.to(dtype)(queries.to(dtype), tokens.to(dtype), collector=collector)
    assert out.dtype == torch.float16 and torch.isfinite(out).all()
    assert collector[0].dtype == torch.float32
    # Float32 has steps of 1/128 at these logits.
    close(collector[0].double(), logits.softmax(-1), 0.02)


@pytest.mark.parametrize(
    'wanted', [dict(taps=['out.4']), dict(taps=[], map_levels=[1]), dict(taps=['mid'], map_levels=[2])]
)
def test_gradients_reach_tokens_latents_and_weights(net, wanted):
    unet, z, t, context = net[0], *net[3:]
    z, context = z.clone().requires_grad_(), context.clone().requires_grad_()
    unet.zero_grad(set_to_none=True)
    found = unet_features(unet, z, t, context, **wanted)
    # Maps sum to 1 over the tokens: weights that differ, so that the sum is no constant.
    loss = sum(tap.square().sum() for tap in found.taps.values())
    loss = loss + sum((maps[:, 0] ** 2).sum() for maps in found.maps.values())
    loss.backward()
    assert context.grad.abs().sum() > 0 and z.grad.abs().sum() > 0
    first = unet.get_submodule('down_blocks.1.attentions.0.transformer_blocks.0.attn2')
    for weight in (unet.conv_in.weight, unet.time_embedding.linear_1.weight, first.to_k.weight, first.to_q.weight):
        assert weight.grad.abs().sum() > 0
    # Against a difference quotient, in double precision.
    double = copy.deepcopy(unet).double()
    direction = torch.randn(context.shape, generator=torch.Generator().manual_seed(0)).double()

    def value(step):
        with torch.no_grad():
            seen = unet_features(double, z.double(), t, context.double() + step * direction, **wanted)
        total = sum(tap.square().sum() for tap in seen.taps.values())
        return total + sum((maps[:, 0].double() ** 2).sum() for maps in seen.maps.values())

    if 'out.4' in wanted['taps']:  # maps are single precision: too rough for a quotient
        slope = (value(1e-5) - value(-1e-5)) / 2e-5
        assert (context.grad.double() * direction).sum().item() == pytest.approx(slope.item(), rel=1e-3)
    unet.zero_grad(set_to_none=True)


@pytest.mark.parametrize('last', ['in.0', 'in.4', 'in.6', 'mid', 'out.2', 'out.4', 'out.8'])
def test_what_lies_behind_the_last_tap_is_frozen_and_nothing_else(net, last):
    unet, table, _, z, t, context = net
    unet.requires_grad_(True)
    freeze_unread(unet, last)
    unet_features(unet, z, t, context, taps=[last]).taps[last].square().sum().backward()
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    reached = {name for name, p in unet.named_parameters() if p.grad is not None}
    if last == 'in.0':  # alone it does not know the time
        trained = {name for name in trained if not name.startswith('time_embedding.')}
    assert trained == reached
    unet.requires_grad_(True).zero_grad(set_to_none=True)


def test_no_state_is_left_behind(net):
    unet, _, map_layers, z, t, context = net
    before = {name: set(vars(module)) for name, module in unet.named_modules()}
    with torch.no_grad():
        first = unet_features(unet, z, t, context, map_levels=list(map_layers))
        plain = unet(z, t, context).sample
        second = unet_features(unet, z, t, context, map_levels=list(map_layers), need_output=True)
    assert {name: set(vars(module)) for name, module in unet.named_modules()} == before
    close(second.output, plain)
    for level in map_layers:
        assert torch.equal(first.maps[level], second.maps[level])


def test_selected_samples(net):
    unet, _, map_layers, z, t, context = net
    with torch.no_grad():
        both = unet_features(unet, z, t, context, taps=['mid'], map_levels=list(map_layers), need_output=True)
    one = both[1:]
    assert torch.equal(one.taps['mid'], both.taps['mid'][1:]) and torch.equal(one.output, both.output[1:])
    assert all(torch.equal(one.maps[level], both.maps[level][1:]) for level in map_layers)
    assert both[torch.tensor([True, False])].output.shape[0] == 1


def test_impossible_requests_say_why(two_layer_diffusion):
    unet, t = two_layer_diffusion.unet, torch.tensor([1])
    z, context = torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 16)
    for wanted, message in (
        (dict(taps=['out.9', 'mid']), r"unknown taps \['out.9'\]; this U-Net has in.0, .*, mid, out.0, .*, out.8"),
        (dict(map_levels=[0]), r'levels \[0\] asked for; this U-Net has \[1, 2\]'),
        (dict(), r'no features were asked for'),
    ):
        with pytest.raises(ValueError, match=message):
            unet_features(unet, z, t, context, **wanted)
    with pytest.raises(ValueError, match=r'latent of \(8, 6\): height and width must be multiples of 4'):
        unet_features(unet, z[..., :6], t, context, taps=['mid'])
    with pytest.raises(ValueError, match='unknown taps'):
        check_wanted(unet, ['up.1'], [])
    with pytest.raises(ValueError, match='attention masks are not supported'):
        unet(z, t, context, encoder_attention_mask=torch.ones(1, 3))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(class_embed_type='timestep'), "this U-Net uses class_embed_type='timestep'; only .* 1.x and 2.x"),
        (dict(addition_embed_type='text'), "addition_embed_type='text'"),
        (
            dict(down_block_types=('DownBlock2D', 'CrossAttnDownBlock2D', 'AttnDownBlock2D')),
            'this U-Net uses AttnDownBlock2D',
        ),
        (dict(in_channels=9), r'the U-Net maps 9 to 4 channels, but the VAE has latents of 4 \(inpainting'),
    ],
)
def test_other_layouts_are_refused(two_layer_config, changes, message):
    config = two_layer_config | dict(unet=two_layer_config['unet'] | changes)
    with pytest.raises(ValueError, match=message):
        LatentDiffusion.from_config(config)


def test_attention_with_norms_is_refused():
    unet = UNet2DConditionModel(
        block_out_channels=(4, 8), norm_num_groups=4, layers_per_block=1, cross_attention_dim=8, attention_head_dim=2,
        down_block_types=('DownBlock2D', 'SimpleCrossAttnDownBlock2D'), mid_block_type=None,
        up_block_types=('SimpleCrossAttnUpBlock2D', 'UpBlock2D'), cross_attention_norm='layer_norm',
    )  # fmt: skip
    with pytest.raises(ValueError, match='attention layer down_blocks.1.attentions.0 uses .*norm_cross.*not supported'):
        install_collecting_attention(unet)
