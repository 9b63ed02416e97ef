"""The adapter of the released code once more, under its own names: shapes, random numbers, and what it computes.

Written from what the code does, without modules, so that it shares nothing with ours. Levels: low, mid, high, highest.
"""

import math

import torch
import torch.nn.functional as F

LEVELS = ('low', 'mid', 'high', 'highest')
PUBLISHED = dict(given=(7680, 7040, 4160, 2560), widths=(2048, 176, 64, 64), finer=(40, 24))
TINY = dict(given=(12, 10, 8, 6), widths=(16, 8, 8, 8), finer=(6, 4))


def shapes(given, widths, finer, unread=True):
    """Name → shape of `checkpoint_45.pth`; 512, 2048 and 768 are the sizes of what is never read."""
    found = {f'{level}_feature_conv.0.weight': (w, g, 1, 1) for level, g, w in zip(LEVELS, given, widths, strict=True)}
    for level, coarser, own in zip(LEVELS[1:], widths[:-1], widths[1:], strict=True):
        block, before = f'{level}_feature_mix_conv', coarser + own
        for conv, into, kernel in (('conv1', before, 3), ('conv2', own, 3), ('conv_sc', before, 1)):
            found[f'{block}.{conv}.weight'] = (own, into, kernel, kernel)
            found |= {f'{block}.{conv}.bias': (own,), f'{block}.{conv}.u0': (1, own), f'{block}.{conv}.sv0': (1,)}
        for i, channels in ((1, before), (2, own)):
            found |= {f'{block}.stored_mean{i}': (channels,), f'{block}.stored_var{i}': (channels,)}
    last = widths[-1]
    found |= {'conv_up1.weight': (last, finer[0], 2, 2), 'conv_up1.bias': (finer[0],)}
    found |= {'conv_up2.weight': (finer[0] + last, finer[1], 2, 2), 'conv_up2.bias': (finer[1],)}
    for i, channels in enumerate((last, *finer)):
        found |= {f'bn_up{i}.{part}': (channels,) for part in ('weight', 'bias', 'running_mean', 'running_var')}
        found[f'bn_up{i}.num_batches_tracked'] = ()
    if not unread:
        return found
    total = sum(widths)
    for i in range(3):
        layer = f'transfromer_decoder.layers.{i}.'
        for attention in ('self_attn', 'multihead_attn'):
            found[f'{layer}{attention}.in_proj_weight'] = (1536, 512)
            found[f'{layer}{attention}.out_proj.weight'] = (512, 512)
        for linear, a, b in (('linear1', 2048, 512), ('linear2', 512, 2048)):
            found |= {f'{layer}{linear}.weight': (a, b), f'{layer}{linear}.bias': (a,)}
        found |= {f'{layer}norm{j}.{part}': (512,) for j in (1, 2, 3) for part in ('weight', 'bias')}
        out = total if i == 2 else 512
        found |= {f'mlp.layers.{i}.weight': (out, 512), f'mlp.layers.{i}.bias': (out,)}
    return found | {'to_k.weight': (512, 16 * total), 'to_q.weight': (512, 768)}


def state(seed=0, dtype=torch.float64, **sizes):
    """Random numbers, variances positive."""
    g, found = torch.Generator().manual_seed(seed), {}
    for name, shape in shapes(**(sizes or TINY)).items():
        if name.endswith('tracked'):
            found[name] = torch.tensor(5)
        elif 'var' in name or name.startswith('bn_up') and name.endswith('weight'):
            found[name] = torch.rand(shape, generator=g, dtype=dtype) + 0.5
        else:
            found[name] = torch.randn(shape, generator=g, dtype=dtype) / math.sqrt(math.prod(shape[1:]) or 1)
    return found


def adapter(state, inputs, training=False):
    """Inputs low … highest → outputs coarse … fine; in training the running statistics and u of `state` move."""
    sizes = [x.shape[-2:] for x in inputs]
    targets = [*sizes[1:], sizes[-1]]

    def enlarged(x, size):
        return F.interpolate(x, size=tuple(size), mode='bilinear', align_corners=False)

    def spectral(name, x, padding):
        weight, u = state[f'{name}.weight'], state[f'{name}.u0']
        matrix = weight.reshape(len(weight), -1)
        v = u @ matrix.detach()
        v = v / v.norm().clamp(min=1e-4)
        new = v @ matrix.detach().t()
        new = new / new.norm().clamp(min=1e-4)
        if training:
            state[f'{name}.u0'] = new
        return F.conv2d(x, weight / (v @ matrix.t() * new).sum(), state[f'{name}.bias'], padding=padding)

    def normed(x, mean, var, weight=None, bias=None, eps=1e-5):
        axes = (0, 2, 3)
        if training:
            m, v, n = x.mean(axes), x.var(axes, unbiased=False), x.numel() / x.shape[1]
            state[mean] = 0.9 * state[mean] + 0.1 * m.detach()
            state[var] = 0.9 * state[var] + 0.1 * v.detach() * n / (n - 1)
        else:
            m, v = state[mean], state[var]
        x = (x - m[:, None, None]) / (v + eps).sqrt()[:, None, None]
        return x if weight is None else x * state[weight][:, None, None] + state[bias][:, None, None]

    def block(name, x):
        x = normed(x, f'{name}.stored_mean1', f'{name}.stored_var1', eps=1e-4).relu()
        h = spectral(f'{name}.conv1', x, 1)
        h = normed(h, f'{name}.stored_mean2', f'{name}.stored_var2', eps=1e-4).relu()
        return spectral(f'{name}.conv2', h, 1) + spectral(f'{name}.conv_sc', x, 0)

    def top(i, x):
        parts = (f'bn_up{i}.{part}' for part in ('running_mean', 'running_var', 'weight', 'bias'))
        return normed(x, *parts)

    outputs, before = [], None
    for level, x, size in zip(LEVELS, inputs, targets, strict=True):
        x = F.conv2d(enlarged(x, size), state[f'{level}_feature_conv.0.weight'])
        if before is not None:
            x = block(f'{level}_feature_mix_conv', torch.cat([enlarged(before, size), x], 1))
        outputs.append(x)
        before = x
    mixed = top(0, outputs.pop()).relu()
    finer = F.conv_transpose2d(mixed, state['conv_up1.weight'], state['conv_up1.bias'], stride=2)
    finer = top(1, finer).relu()
    both = torch.cat([finer, enlarged(mixed, finer.shape[-2:])], 1)
    finest = F.conv_transpose2d(both, state['conv_up2.weight'], state['conv_up2.bias'], stride=2)
    return [*outputs, finer, top(2, finest)]
