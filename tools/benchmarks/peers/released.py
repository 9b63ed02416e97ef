"""Rows against the released Diff-2-in-1: its model, adapter, decoder, sampler, and the step of its second stage itself.

B, 3, H, W: RGB in [-1, 1]; c, h, w: latent. Its scripts are no modules; the loop over the data of the second stage and
the function that averages are taken out of their file and executed, with another device in the place of "cuda".
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils.data import DataLoader

import mmdiff2in1.components  # noqa: F401  registers our models
from mmdiff2in1.converters.released import LAYOUT
from mmdiff2in1.engine.self_improving_hook import SelfImprovingHook
from mmdiff2in1.generators import LatentDiffusion

from ..model import CAPTION
from .clones import Clone, quiet
from .diffusion import WIDTHS, give, our_config, precision, tensors_of, their_model, without_noise
from .pairs import Pair, Side
from .rows import Setup

SCRIPT = 'training_2nd_stage.py'
T, OUR_CALLS, RATE = 600, 20, 3.57e-4
ALPHA = 0.998
LEVELS = ('highest', 'high', 'mid', 'low')
"""Their names of the U-Net's resolutions, fine to coarse."""
PYRAMIDS = {'full': (24, 40, 64, 176, 2048), 'small': (8, 8, 16, 24, 64)}
"""Widths between adapter and decoder, fine to coarse."""
DECODERS = {'full': (1024, 512, 256, 128), 'small': (64, 32, 16, 16)}
POINTS = {'full': 128, 'small': 16}
BLOCKS = dict(low=(4,) * 6, mid=(4,) * 5 + (2,), high=(4, 2, 2, 2, 2, 1), highest=(2,) + (1,) * 6)
"""Widths of the U-Net's blocks of a resolution, in base channels; their order is not told."""


def rows(setup: Setup, clone: Clone) -> Pair:
    """Both sides of a row of the released code."""
    torch.manual_seed(0)
    init_default_scope('mmseg')
    if setup.row == 'released-features':
        return _features(setup, clone)
    if setup.row.startswith('released-create'):
        return _creation(setup, clone)
    if setup.row == 'released-ema':
        return _average(setup, clone)
    return _second_stage(setup, clone)


def _model(setup: Setup, clone: Clone, ours: LatentDiffusion) -> Any:
    """Theirs, with ours given its weights, and our text encoder in it."""
    (ddpm,) = clone.load('ldm.models.diffusion.ddpm')
    with quiet():
        model = their_model(ddpm, setup.width, checkpointing=True)
    model.requires_grad_(False)
    give(model, ours)
    ours.to(setup.device)
    model.get_learned_conditioning = lambda captions: ours.encode_text(list(captions))
    return model.to(setup.device)


def _features(setup: Setup, clone: Clone) -> Pair:
    backbone = _backbone(setup)
    model = _model(setup, clone, backbone.diffusion)
    (unet,) = clone.load('ldm.modules.diffusionmodules.openaimodel')
    backbone.to(setup.device).train()
    images, context = _images(setup), model.get_learned_conditioning([''] * setup.batch)

    def theirs(dtype: str = setup.dtype) -> list[Tensor]:
        with torch.no_grad(), precision(setup.device, dtype), quiet():
            unet.clear_feature_dic()
            z = model.get_first_stage_encoding(model.encode_first_stage(images))
            t = torch.zeros(len(images), dtype=torch.long, device=setup.device)
            model.apply_model(model.q_sample(x_start=z, t=t, noise=torch.randn_like(z)), t, context)
            found = unet.get_feature_dic()
            return [torch.cat(found[level], 1) for level in LEVELS]

    def ours(dtype: str = setup.dtype) -> list[Tensor]:
        with torch.no_grad(), precision(setup.device, dtype):
            return list(backbone(images))

    def side(step: Callable[..., list[Tensor]], module: nn.Module) -> Side:
        def outputs() -> dict[str, Tensor]:
            with without_noise():
                return {f'level {i}': maps for i, maps in enumerate(step('fp32'))}

        return Side(step, outputs, lambda: tensors_of(module))

    return Pair(side(theirs, model), side(ours, backbone))


def _creation(setup: Setup, clone: Clone) -> Pair:
    diffusion = LatentDiffusion.from_config(our_config(setup.width)).requires_grad_(False)
    model = _model(setup, clone, diffusion)
    unet, ddim = clone.load('ldm.modules.diffusionmodules.openaimodel', 'ldm.models.diffusion.ddim')
    sampler = ddim.DDIMSampler(model)
    if setup.device == 'cpu':  # theirs moves all to "cuda"
        sampler.register_buffer = lambda name, value: setattr(sampler, name, value)
    images = _images(setup)

    def theirs(dtype: str = setup.dtype) -> dict[str, Tensor]:
        with torch.no_grad(), precision(setup.device, dtype), quiet():
            unet.clear_feature_dic()  # their script predicts a label from it
            z = model.get_first_stage_encoding(model.encode_first_stage(images))
            t = torch.full((1,), T, device=setup.device)
            z, *_ = sampler.sample(
                S=setup.calls, conditioning=model.get_learned_conditioning([CAPTION]), batch_size=1,
                shape=list(z.shape[1:]), verbose=False, eta=0.0, ddpm_num_steps=t,
                x_T=model.q_sample(x_start=z, t=t, noise=torch.randn_like(z)),
            )  # fmt: skip
            return dict(latent=z, image=model.decode_first_stage(z).clamp(-1, 1))  # as their script writes it

    def ours(dtype: str = setup.dtype) -> dict[str, Tensor]:
        default = setup.row.endswith('default')
        calls = dict(num_calls=OUR_CALLS) if default else dict(num_calls=setup.calls, grid='released')
        with precision(setup.device, dtype):
            made = diffusion.create(images, captions=[CAPTION], seeds=[0], T=T, **calls)
        return dict(latent=made.latents, image=made.images)

    def side(step: Callable[..., dict[str, Tensor]], module: nn.Module) -> Side:
        def outputs() -> dict[str, Tensor]:
            with without_noise():
                return step('fp32')

        return Side(step, outputs, lambda: tensors_of(module))

    return Pair(side(theirs, model), side(ours, diffusion))


def _second_stage(setup: Setup, clone: Clone) -> Pair:
    segmentor = MODELS.build(
        dict(
            type='SelfImprovingSegmentor',
            segmentor=_segmentor(setup),
            normalize_by='pooled',
            share_draws=setup.row.endswith('shared'),
        )
    )
    exploiter = segmentor.exploiter
    model = _model(setup, clone, exploiter.backbone.diffusion)
    adapter, decoder = _their_heads(setup, clone)
    for each in (exploiter, segmentor.creator):
        _give_heads(adapter, decoder, each)
    segmentor.to(setup.device).train()
    images, normals, created = _images(setup), _normals(setup), setup.batch // 2
    theirs = _their_second_stage(setup, clone, model, adapter, decoder, images, normals, created)
    samples = []
    for i, normal in enumerate(normals):
        shape = tuple(normal.shape[1:])
        sample = SegDataSample(
            metainfo=dict(img_shape=shape, ori_shape=shape, pad_shape=shape, synthetic=i >= setup.batch - created)
        )
        sample.set_data({exploiter.tasks['normal'].field: PixelData(data=normal.float())})
        samples.append(sample)
    optimizer = torch.optim.Adam([p for p in segmentor.parameters() if p.requires_grad], lr=RATE)

    def step(dtype: str = setup.dtype) -> Tensor:
        with precision(setup.device, dtype):
            loss: Tensor = segmentor.parse_losses(segmentor.loss(images, samples))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    heads = [exploiter.decode_head.head, segmentor.creator.decode_head.head]
    outputs = _outputs(step, optimizer, heads, [exploiter.neck, exploiter.decode_head])
    return Pair(theirs, Side(step, outputs, lambda: tensors_of(segmentor, optimizer=optimizer)))


def _their_second_stage(
    setup: Setup,
    clone: Clone,
    model: Any,
    adapter: nn.Module,
    decoder: nn.Module,
    images: Tensor,
    normals: Tensor,
    created: int,
) -> Side:
    unet, util, losses = clone.load('ldm.modules.diffusionmodules.openaimodel', 'ldm.util', 'losses')
    adapters, decoders = ([m.to(setup.device), copy.deepcopy(m).to(setup.device)] for m in (adapter, decoder))
    for creator in (adapters[0], decoders[0]):
        creator.eval()
    optimizer = torch.optim.Adam([*adapters[1].parameters(), *decoders[1].parameters()], lr=RATE)
    labelled = torch.tensor([1] * (setup.batch - created) + [0] * created)
    known = torch.ones(setup.batch, setup.size, setup.size, 1, dtype=torch.bool)
    names: dict[str, Any] = dict(
        torch=torch,
        np=SimpleNamespace(transpose=lambda tensor, order: tensor.permute(order)),  # NumPy's takes no tensor any more
        model=model, default=util.default,
        clear_feature_dic=unet.clear_feature_dic, get_feature_dic=unet.get_feature_dic,
        sn_module_c=adapters[0], sn_module_e=adapters[1], bae_module_c=decoders[0], bae_module_e=decoders[1],
        loss_fn=losses.compute_loss('UG_NLL_ours'), g_optim=optimizer,
        opt=SimpleNamespace(scale=5.0, ema_update_interval=10), batch_size=1,
        iteration=0,  # no average in this step: it has a row of its own
        samples=dict(image=images, sns=normals.double(), sn_masks=known.to(setup.device), is_labelled=labelled),
    )  # fmt: skip
    body = clone.loop(SCRIPT, 'train_loader', setup.device)

    def step(dtype: str = setup.dtype) -> Tensor:
        with precision(setup.device, dtype), quiet():
            exec(body, names)
        loss: Tensor = names['loss'].detach()
        return loss

    outputs = _outputs(step, optimizer, decoders, [adapters[1], decoders[1]])
    return Side(step, outputs, lambda: tensors_of(model, *adapters, *decoders, optimizer=optimizer))


def _outputs(
    step: Callable[..., Tensor], optimizer: torch.optim.Optimizer, heads: Iterable[Any], trained: Iterable[nn.Module]
) -> Callable[[], dict[str, Tensor]]:
    """The loss and the length of its gradient, with all pixels taken, no noise drawn and no weight changed."""

    def outputs() -> dict[str, Tensor]:
        ratios = [head.sampling_ratio for head in heads]
        for group in optimizer.param_groups:
            group['lr'] = 0.0
        for head in heads:
            head.sampling_ratio = 1.0
        with without_noise():
            loss = step('fp32')
        for head, ratio in zip(heads, ratios, strict=True):
            head.sampling_ratio = ratio
        for group in optimizer.param_groups:
            group['lr'] = RATE
        gradients = [p.grad.flatten().double() for m in trained for p in m.parameters() if p.grad is not None]
        return {'loss': loss, 'gradient': torch.cat(gradients).norm()}

    return outputs


def _average(setup: Setup, clone: Clone) -> Pair:
    """Adapter and decoder of θ_E differ from those of θ_C by noise; the U-Net, which nobody averages, is narrow."""
    segmentor = MODELS.build(dict(type='SelfImprovingSegmentor', segmentor=_segmentor(setup)))
    adapters, decoders = ([m, copy.deepcopy(m)] for m in _their_heads(setup, clone))
    with torch.no_grad():
        for parameter in [*adapters[1].parameters(), *decoders[1].parameters()]:
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    for each, adapter, decoder in zip((segmentor.creator, segmentor.exploiter), adapters, decoders, strict=True):
        _give_heads(adapter, decoder, each)
    segmentor.to(setup.device)
    names: dict[str, Any] = dict(zip(('sn_module_c', 'sn_module_e'), adapters, strict=True))
    names |= dict(zip(('bae_module_c', 'bae_module_e'), decoders, strict=True))
    for module in names.values():
        module.to(setup.device)
    names['OrderedDict'] = OrderedDict
    exec(clone.function(SCRIPT, 'update_creation', setup.device), names)
    hook = SelfImprovingHook(alpha=ALPHA)
    trained = next(p for p in segmentor.parameters() if p.requires_grad)
    runner: Any = SimpleNamespace(
        model=segmentor,
        iter=0,
        train_loop=SimpleNamespace(dataloader=DataLoader([], batch_size=None)),
        logger=MMLogger.get_instance('benchmark'),
        message_hub=MessageHub.get_instance('benchmark'),
        optim_wrapper=OptimWrapper(torch.optim.SGD([trained], lr=0.0)),
    )
    hook.before_train(runner)
    batch = dict(inputs=[None] * hook.samples_per_update)

    def theirs() -> None:
        names['update_creation'](keep_rate=ALPHA)

    def ours() -> None:
        hook.after_train_iter(runner, 0, batch)

    def their_outputs() -> dict[str, Tensor]:
        theirs()
        moved = _moved({**names['sn_module_c'].state_dict(), **names['bae_module_c'].state_dict()})
        return {part: _flat(moved, f'{part}.') for part in ('neck', 'decode_head')}

    def our_outputs() -> dict[str, Tensor]:
        ours()
        return {part: _flat(segmentor.creator.state_dict(), f'{part}.') for part in ('neck', 'decode_head')}

    return Pair(
        Side(theirs, their_outputs, lambda: tensors_of(*adapters, *decoders)),
        Side(ours, our_outputs, lambda: tensors_of(segmentor)),
    )


def _their_heads(setup: Setup, clone: Clone) -> tuple[nn.Module, nn.Module]:
    """Their adapter and decoder; at a small width their layers are made anew by the classes that they are made of."""
    sn_module, of_decoder = clone.load('ldm.models.sn_module', 'ldm.models.decoder')
    adapter, decoder = sn_module.SNmodule(), of_decoder.Decoder()
    if setup.width != 'full':
        _narrow_adapter(adapter, setup.width)
        _narrow_decoder(decoder, setup.width)
    return adapter, decoder


def _narrow_adapter(adapter: Any, width: str) -> None:
    finest, finer, *pyramid = PYRAMIDS[width]
    widths = dict(zip(LEVELS, (pyramid[0], *pyramid), strict=True))
    for level, before in _level_channels(width).items():
        setattr(adapter, f'{level}_feature_conv', nn.Sequential(nn.Conv2d(before, widths[level], 1, bias=False)))
    for level, coarser in zip(LEVELS[:-1], LEVELS[1:], strict=True):
        old = getattr(adapter, f'{level}_feature_mix_conv')
        new = type(old)(
            in_channels=widths[level] + widths[coarser], out_channels=widths[level], con_channels=None,
            which_conv=old.which_conv, which_linear=old.which_linear, activation=old.activation, upsample=False,
        )  # fmt: skip
        setattr(adapter, f'{level}_feature_mix_conv', new)
    fine = pyramid[0]
    adapter.bn_up0, adapter.bn_up1, adapter.bn_up2 = (nn.BatchNorm2d(c) for c in (fine, finer, finest))
    adapter.conv_up1 = nn.ConvTranspose2d(fine, finer, 2, 2)
    adapter.conv_up2 = nn.ConvTranspose2d(fine + finer, finest, 2, 2)
    for name in ('transfromer_decoder', 'mlp', 'to_k', 'to_q'):  # never read, and as wide as ever
        delattr(adapter, name)


def _narrow_decoder(decoder: Any, width: str) -> None:
    skips, widths, points = PYRAMIDS[width][-2::-1], DECODERS[width], POINTS[width]
    coarsest = PYRAMIDS[width][-1]
    decoder.conv2 = nn.Conv2d(coarsest, coarsest, 1)
    for i, (before, skip, after) in enumerate(zip((coarsest, *widths[:-1]), skips, widths, strict=True), 1):
        old = getattr(decoder, f'up{i}')
        setattr(decoder, f'up{i}', type(old)(skip_input=before + skip, output_features=after))
    decoder.out_conv_res8 = nn.Conv2d(widths[1], 4, 3, padding=1)
    for scale, before in zip((4, 2, 1), widths[1:], strict=True):
        channels = (before + 4, points, points, points, 4)
        layers = [nn.Conv1d(a, b, 1) for a, b in zip(channels[:-1], channels[1:], strict=True)]
        mixed = [each for layer in layers for each in (layer, nn.ReLU())][:-1]
        setattr(decoder, f'out_conv_res{scale}', nn.Sequential(*mixed))


def _level_channels(width: str) -> dict[str, int]:
    """Their level → channels of all blocks of the U-Net there."""
    return {level: WIDTHS[width][0] * sum(BLOCKS[level]) for level in LEVELS}


def _give_heads(adapter: nn.Module, decoder: nn.Module, segmentor: Any) -> None:
    moved = _moved({**adapter.state_dict(), **decoder.state_dict()})
    for part in ('neck', 'decode_head'):
        module, prefix = getattr(segmentor, part), f'{part}.'
        state = {name.removeprefix(prefix): value for name, value in moved.items() if name.startswith(prefix)}
        counters = {n: v for n, v in module.state_dict().items() if n.endswith('num_batches_tracked')}
        module.load_state_dict(counters | state)


def _moved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Adapter and decoder under our names, by the rules of our converter."""
    found = {}
    for name, tensor in state.items():
        place = LAYOUT.place(name)
        if place is not None and LAYOUT.reason(name) is None:
            found |= dict(zip(place.names, place.rule.apart(tensor), strict=True))
    return found


def _flat(state: dict[str, Tensor], prefix: str) -> Tensor:
    """All that is averaged below a prefix: neither counters nor singular vectors."""
    kept = [n for n in sorted(state) if n.startswith(prefix) and not n.endswith(('num_batches_tracked', '.u'))]
    return torch.cat([state[name].flatten() for name in kept])


def _backbone(setup: Setup) -> Any:
    width = 'small' if setup.row == 'released-ema' else setup.width
    return MODELS.build(
        dict(type='DiffusionBackbone', diffusion=our_config(width), feature=dict(preset='released'), regime='frozen')
    )


def _segmentor(setup: Setup) -> dict[str, Any]:
    task, pyramid = dict(type='SurfaceNormal', kappa=True), PYRAMIDS[setup.width]
    head = dict(
        type='BaeNormalHead', task=task, in_channels=pyramid, widths=DECODERS[setup.width],
        point_channels=POINTS[setup.width],
    )  # fmt: skip
    width = 'small' if setup.row == 'released-ema' else setup.width
    return dict(
        type='DenseEstimator',
        task=task,
        data_preprocessor=dict(type='DenseDataPreProcessor'),
        backbone=dict(
            type='DiffusionBackbone', diffusion=our_config(width), feature=dict(preset='released'), regime='frozen'
        ),
        neck=dict(
            type='ReleasedAdapter', in_channels=list(_level_channels(setup.width).values()), out_channels=pyramid
        ),
        decode_head=dict(type='GenerativeDecodeHead', head=head),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def _images(setup: Setup) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(setup.batch, 3, setup.size, setup.size, generator=generator) * 2 - 1
    return images.to(setup.device)


def _normals(setup: Setup) -> Tensor:
    """(B, 3, H, W), unit length, double precision as their loader gives it."""
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(setup.batch, 3, setup.size, setup.size, generator=generator, dtype=torch.float64)
    return nn.functional.normalize(vectors).to(setup.device)
