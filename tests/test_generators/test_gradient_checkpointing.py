"""Gradient checkpointing: the same losses and gradients to the last bit, with fewer activations kept."""

import copy
from functools import partial

import pytest
import torch
from mmseg.registry import MODELS

import mmdiff2in1.components  # noqa: F401  registers the backbone
from mmdiff2in1.generators.features import Features, unet_features

WANTED = dict(taps=('in.4', 'mid', 'out.1', 'out.4', 'out.8'), map_levels=(1, 2), need_output=True)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, timesteps, tokens."""
    draw = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 4, 8, 8, generator=draw),
        torch.tensor([3, 700]),
        torch.randn(2, 5, 16, generator=draw).requires_grad_(),
    )


def loss_of(features) -> torch.Tensor:
    """Reads taps, maps and output, each with weights of its own so that no map sums to a constant."""
    read = features
    if isinstance(features, Features):
        read = [*features.taps.values(), *features.maps.values(), features.output]
    return sum((x * torch.linspace(0, 1, x.numel()).view_as(x)).square().mean() for x in read)


def kept_bytes(run) -> tuple[torch.Tensor, int]:
    """The loss of what `run` returns, and the bytes that autograd keeps for its backward pass."""
    sizes = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(run())
    return loss, sum(sizes.values())


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_loss_and_gradients_are_identical(two_layer_diffusion, precision):
    plain = two_layer_diffusion.unet.requires_grad_(True)
    saving = copy.deepcopy(plain)
    saving.enable_gradient_checkpointing()
    found = []
    for unet in (plain, saving):
        z, t, context = inputs()
        with torch.autocast('cpu', torch.bfloat16, enabled=precision == 'bfloat16'):
            loss, kept = kept_bytes(partial(unet_features, unet, z, t, context, **WANTED))
        loss.backward()
        found.append((loss, kept, context.grad, dict(unet.named_parameters())))
    (loss, kept, tokens, weights), (other_loss, other_kept, other_tokens, other_weights) = found
    assert loss > 0 and torch.equal(loss, other_loss)
    assert tokens.abs().sum() > 0 and torch.equal(tokens, other_tokens)
    for name, weight in weights.items():
        assert weight.grad is not None and torch.equal(weight.grad, other_weights[name].grad), name
    assert other_kept < kept / 2


def test_every_layer_runs_once_forward_and_once_more_backward(two_layer_diffusion):
    unet, calls = two_layer_diffusion.unet.requires_grad_(True), []
    unet.enable_gradient_checkpointing()
    layers = [*unet.down_blocks[0].resnets, unet.mid_block.resnets[1], unet.up_blocks[1].attentions[2]]
    for layer in layers:  # before the layer: recomputing stops once it has all that the backward pass needs
        layer.register_forward_pre_hook(lambda module, *_: calls.append(module))
    z, t, context = inputs()
    seen = unet_features(unet, z, t, context, **WANTED)
    assert [calls.count(layer) for layer in layers] == [1, 1, 1, 1]
    loss_of(seen).backward()
    assert [calls.count(layer) for layer in layers] == [2, 2, 2, 2]
    # Recomputing adds no second copy of the maps.
    with torch.no_grad():
        again = unet_features(unet, z, t, context, **WANTED)
    assert [calls.count(layer) for layer in layers] == [3, 3, 3, 3]  # without gradients nothing is recomputed
    for level, maps in seen.maps.items():
        torch.testing.assert_close(maps, again.maps[level])


@pytest.mark.parametrize('text_adapter', [False, True])
@pytest.mark.parametrize('regime', ['frozen', 'finetune'])
def test_the_field_of_the_backbone(two_layer_config, regime, text_adapter):
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    losses, gradients, kept = [], [], []
    for gradient_checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = MODELS.build(
            dict(
                type='mmseg.DiffusionBackbone',
                diffusion=two_layer_config,
                classes=['wall', 'floor', 'red ball'],
                regime=regime,
                text_adapter=text_adapter,
                gradient_checkpointing=gradient_checkpointing,
            )
        ).train()
        assert backbone.diffusion.unet.is_gradient_checkpointing is gradient_checkpointing
        scale = torch.ones((), requires_grad=True)  # what is trained behind a frozen backbone

        def run(backbone=backbone, scale=scale) -> list[torch.Tensor]:
            return [scale * level for level in backbone(images)]

        loss, size = kept_bytes(run)
        loss.backward()
        losses.append(loss)
        kept.append(size)
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if p.requires_grad})
    assert torch.equal(*losses)
    assert bool(gradients[0]) is (regime == 'finetune' or text_adapter)
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    assert kept[1] < kept[0] / 2 if gradients[0] else kept[1] == kept[0]
