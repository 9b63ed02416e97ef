"""Lists of cells: what is measured on a CPU, on a GPU, and to see that the tool works."""

from typing import Any

from .cells import HEAD_CASES, Cell, product_of


def cpu(**common: Any) -> list[Cell]:
    """Ten minutes of two idle cores; 10 GB, the last cell 17."""
    common = dict(device='cpu') | common
    make = _maker(common)
    return [
        *make(['matmul'], ['fp32', 'bf16']),
        *make(['features', 'frozen'], ['fp32', 'bf16']),
        *make(['create'], ['fp32', 'bf16'], calls=[4]),
        *make(['ema'], ['fp32']),
        *make(['features'], ['fp32'], options=[('channels_last',), ('math-attention',)]),
        *make(['finetune'], ['fp32']),
        *make(HEAD_CASES, ['fp32', 'bf16']),
        *make(['features-detail', 'features-timesteps'], ['fp32', 'bf16']),
    ]


def views(**common: Any) -> list[Cell]:
    """Warm-ups of Scenes with and without cached views: five minutes of one thread, ``--repeats 6 --budget 120``."""
    make = _maker(dict(device='cpu') | common | dict(model='scenes', size=64))
    return [
        *make(['views-vpd_scenes', 'views-bae_scenes-normal'], ['fp32'], [12]),
        *make(['views-vpd_scenes'], ['bf16'], [12], options=[('channels_last',)]),
    ]


def compiled(**common: Any) -> list[Cell]:
    """Scenes plain and compiled, one thread: minutes of compiling each, then ``--repeats 8 --budget 240``."""
    make = _maker(dict(device='cpu') | common | dict(model='scenes', size=64))
    return [
        *make(['compiled-features', 'compiled-finetune'], ['fp32'], [12]),
        *make(['compiled-create'], ['fp32'], [4], calls=[4]),
    ]


def gpu(**common: Any) -> list[Cell]:
    """One large GPU, the most telling cells first: what a call does not finish, the next one does."""
    common = dict(device='cuda') | common
    make = _maker(common)
    best = [('channels_last', 'compile')]
    single: list[tuple[str, ...]] = [('channels_last',), ('compile',), ('math-attention',)]
    cells = [
        *make(['matmul'], ['bf16', 'tf32', 'fp32']),
        *make(['finetune'], ['bf16'], [1, 4, 16]),
        *make(['create'], ['bf16-weights'], [1, 4, 16], calls=[20]),
        *make(['ema'], ['fp32']),
        *make(['finetune'], ['bf16'], [4], options=[('checkpointing',), *single, *best]),
        *make(['create'], ['bf16-weights'], [4], calls=[20], options=[*single, *best]),
        *make(['finetune'], ['bf16'], [16], options=best),
        *make(['create'], ['bf16-weights'], [16], calls=[20], options=best),
        *make(['features', 'frozen'], ['bf16'], [1, 16]),
        *make(['mixed'], ['bf16'], [4, 16]),
        *make(['create'], ['bf16-weights'], [1, 16], calls=[50]),
        *make(['finetune'], ['tf32', 'fp32'], [4]),
        *make(['create'], ['bf16', 'tf32', 'fp32'], [4], calls=[20]),
        *make(['finetune'], ['bf16'], [8, 2]),
        *make(['create'], ['bf16-weights'], [8, 2], calls=[20]),
        *make(['finetune'], ['bf16'], [4], options=[('fused-adamw',), ('checkpointing', *best[0])]),
    ]
    cells += make(HEAD_CASES, ['bf16'], [1, 4])
    cells += make(['features-detail', 'features-timesteps'], ['bf16'], [1, 4])
    lean = [('checkpointing', 'fused-adamw')]
    for memory in (24.0, 16.0):
        cells += make(['finetune'], ['bf16'], [1, 2, 4], options=lean, memory=[memory])
        cells += make(['mixed'], ['bf16'], [2, 4], options=lean, memory=[memory])
        cells += make(['finetune'], ['bf16'], [1], memory=[memory])
        cells += make(['frozen'], ['bf16'], [4, 16], memory=[memory])
        cells += make(['create'], ['bf16-weights'], [4, 16], calls=[20], memory=[memory])
    return cells


def tiny(**common: Any) -> list[Cell]:
    """Every case and option on a toy, in a minute."""
    common = dict(device='cpu') | common | dict(model='tiny', size=64)
    make = _maker(common)
    return [
        *make(['features-detail', 'features-timesteps'], ['fp32'], [2]),
        *make(['matmul', 'features', 'frozen', 'finetune', 'mixed', 'ema'], ['fp32', 'bf16'], [2]),
        *make(['create'], ['fp32', 'bf16', 'bf16-weights'], [2], calls=[4]),
        *make(['finetune'], ['fp32'], [2], options=[('checkpointing',), ('channels_last',), ('math-attention',)]),
    ]


def _maker(common: dict[str, Any]):
    def make(cases, precisions, batches=(1,), calls=(0,), options=((),), memory=(0.0,)) -> list[Cell]:
        return product_of(
            list(cases), list(precisions), list(batches), list(calls), list(options), list(memory), **common
        )

    return make


PRESETS = dict(cpu=cpu, gpu=gpu, tiny=tiny, views=views, compiled=compiled)
