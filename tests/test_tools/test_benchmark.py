"""The benchmark: costs in closed form, children that end in every way, the page made by hand-written results."""

import functools
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

TOOLS = Path(__file__).parents[2] / 'tools'
sys.path.append(str(TOOLS))  # at the end: tools/test.py is not the standard library's

import benchmark as tool  # noqa: E402
from benchmarks import costs, estimate, options, page, presets, tables, timing  # noqa: E402
from benchmarks.cells import OPTIONS, Cell, cell_of, product_of  # noqa: E402
from benchmarks.heads import build_head, features_of, samples_of  # noqa: E402
from benchmarks.model import build_segmentor  # noqa: E402
from benchmarks.queue import finished, read_records, run_cells  # noqa: E402
from benchmarks.worker import measure_cell  # noqa: E402

TINY = dict(model='tiny', size=64)


# Cells


def test_a_record_gives_its_cell_back():
    cell = Cell('create', 'bf16', 4, 20, ('channels_last', 'compile'), 16.0)
    assert cell_of(json.loads(json.dumps(cell.record()))) == cell
    assert cell.name == 'create-20 bf16 b4 channels_last compile 16GB cpu'


def test_combinations_that_measure_nothing_new_are_left_out():
    cells = product_of(
        ['frozen', 'finetune', 'create', 'ema'], ['fp32', 'bf16-weights'], [1], [20, 50], [(), ('checkpointing',)], [0]
    )
    assert [cell.name for cell in cells] == [
        'frozen fp32 b1 cpu', 'finetune fp32 b1 cpu', 'finetune fp32 b1 checkpointing cpu',
        'create-20 fp32 b1 cpu', 'create-50 fp32 b1 cpu', 'create-20 bf16-weights b1 cpu',
        'create-50 bf16-weights b1 cpu', 'ema fp32 b1 cpu',
    ]  # fmt: skip


@pytest.mark.parametrize('name', ['cpu', 'gpu', 'tiny'])
def test_presets_hold_each_cell_once_and_all_options_somewhere(name):
    cells = presets.PRESETS[name]()
    assert len({cell.name for cell in cells}) == len(cells) == len(set(cells))
    assert {cell.case for cell in cells} >= {'matmul', 'features', 'frozen', 'create', 'ema'}
    if name == 'gpu':
        assert {option for cell in cells for option in cell.options} == set(OPTIONS)
        assert {cell.memory for cell in cells} == {0, 16, 24}
        assert {cell.batch for cell in cells if cell.case == 'finetune'} == {1, 2, 4, 8, 16}


def test_the_preset_of_warm_ups():
    cells = presets.PRESETS['views']()
    assert [cell.name for cell in cells] == [
        'views-vpd_scenes fp32 b12 scenes 64 cpu', 'views-bae_scenes-normal fp32 b12 scenes 64 cpu',
        'views-vpd_scenes bf16 b12 channels_last scenes 64 cpu',
    ]  # fmt: skip
    assert [cell.warmup for cell in cells] == ['vpd_scenes', 'bae_scenes-normal', 'vpd_scenes']
    assert product_of(['views-vpd_scenes'], ['fp32'], [12], [0], [()], [0]) == []  # of Scenes alone
    (full,) = product_of(['views-vpd'], ['fp32', 'bf16-weights'], [1], [0], [(), ('compile',)], [0])
    assert full.name == 'views-vpd fp32 b1 cpu' and full.warmup == 'vpd'
    assert product_of(['views-vpd'], ['fp32'], [1], [0], [()], [0], model='scenes') == []
    assert product_of(['frozen'], ['fp32'], [12], [0], [()], [0], model='scenes') == []


def test_the_preset_of_compiled_models():
    cells = presets.PRESETS['compiled']()
    assert [cell.name for cell in cells] == [
        'compiled-features fp32 b12 scenes 64 cpu', 'compiled-finetune fp32 b12 scenes 64 cpu',
        'compiled-create-4 fp32 b4 scenes 64 cpu',
    ]  # fmt: skip
    assert all(cell.paired and cell.warmup is None for cell in cells)
    assert product_of(['compiled-create'], ['bf16'], [4], [4], [()], [0], model='scenes') == []
    assert product_of(['compiled-create'], ['fp32'], [4], [4], [()], [0]) == []  # of Scenes alone


def test_the_command_line():
    flags = '--case finetune --batch 2 4 --options none checkpointing+compile --memory 24GB 16 --precision bf16'
    args = tool.parse_args(flags.split())
    assert args.memory == [24, 16] and args.options == [(), ('checkpointing', 'compile')]
    assert len(tool.chosen(args)) == 8
    args = tool.parse_args(['--preset', 'cpu', '--cells', '^create', 'ema'])
    assert {cell.case for cell in tool.chosen(args)} == {'create', 'ema'}


@pytest.mark.parametrize(
    'flags, message',
    [
        ('', 'say what to measure'),
        ('--preset tiny --case ema', 'say what to measure'),
        ('--case features --options warp', 'unknown warp; known: none, checkpointing'),
        ('--case features --memory lots', 'expected gigabytes, for example 16 or 16GB'),
        ('--case features --size 100', 'a multiple of 64'),
        ('--preset tiny', 'needs --out'),
        ('--preset cpu --cells nothing', 'no such cell; known:'),
        ('--case ema --precision bf16', 'no cell is left'),
        ('--case features --device cuda', 'no GPU was found'),
    ],
)
def test_what_is_refused(flags, message, capsys):
    if 'GPU' in message and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(SystemExit) as error:
        tool.main(flags.split())
    assert message in f'{error.value}{capsys.readouterr().err}'


# Costs on paper


def test_operations_in_closed_form():
    a, b = torch.empty(3, 5, device='meta'), torch.empty(5, 7, device='meta')
    assert costs.count(lambda: a @ b) == 2 * 3 * 5 * 7
    image, weight = torch.empty(2, 3, 8, 8, device='meta'), torch.empty(6, 3, 3, 3, device='meta')
    assert costs.count(lambda: F.conv2d(image, weight, padding=1)) == 2 * (2 * 8 * 8) * 6 * (3 * 3 * 3)
    query, key = torch.empty(2, 4, 10, 8, device='meta'), torch.empty(2, 4, 6, 8, device='meta')
    attention = 2 * (2 * 2 * 4 * 10 * 6 * 8)  # query · key and probabilities · value
    assert costs.count(lambda: F.scaled_dot_product_attention(query, key, key)) == attention
    query.requires_grad_()
    # Query and key get a gradient each, from two products of the same size; so do probabilities and value.
    key.requires_grad_()
    assert costs.count(lambda: F.scaled_dot_product_attention(query, key, key).sum().backward()) == 3 * attention


def test_stable_diffusion_costs_what_is_known():
    """0.80, 0.81, 1.12 and 2.51 TFLOP."""
    found = {name: round(flops / 1e12, 3) for name, flops in costs.known_costs('stable-diffusion-1.5', 512).items()}
    text = found.pop('text encoder')
    assert list(found.values()) == [0.803, 0.809, 1.117, 2.515] and 0.01 < text < 0.02


def test_steps_are_made_of_their_parts():
    @functools.cache
    def flops(case, **other):
        return costs.model_flops(Cell(case, **other, **TINY))

    known = costs.known_costs('tiny', 64)
    call, encode, decode = (known[name] for name in ('U-Net call, 8 tokens', 'VAE encode', 'VAE decode'))
    assert flops('create', calls=5) - flops('create', calls=3) == 2 * call
    assert flops('create', calls=1) == call + encode + decode + known['text encoder']
    assert flops('features', batch=3) == 3 * flops('features')
    assert flops('features', precision='bf16', options=('compile',), memory=8) == flops('features')
    assert flops('frozen') > flops('features') and flops('ema') == flops('matmul') == 0
    # The encoder's levels are free; a stem has two convolutions of 16 channels at stride 1 and two at stride 2.
    stem = 2 * (64 * 64 * 9 * (3 * 16 + 16 * 16) + 32 * 32 * 9 * (16 * 16 + 16 * 16))
    assert flops('features-detail') == flops('features') + stem
    # The U-Net runs twice, the encoder once.
    assert flops('features-timesteps') == 2 * flops('features') - encode
    # Backward through the U-Net costs twice its forward pass, less the gradient of what it is given.
    backward = flops('finetune') - flops('frozen')
    assert 1.8 * (flops('features') - encode) < backward < 2.1 * (flops('features') - encode)
    # Recomputing is not asked for by the mathematics.
    assert flops('finetune', options=('checkpointing',)) == flops('finetune')
    # Of two images one is labelled by another forward pass, from shared latents.
    labelling = flops('mixed', batch=2) - 2 * flops('finetune')
    assert flops('features') - encode < labelling < flops('frozen') - encode


def test_a_head_costs_what_its_convolutions_do():
    cell, operations = Cell('vpd-depth-predict', size=64, batch=2), 0
    head = build_head(cell, 'meta')

    def add(layer, inputs, output):
        nonlocal operations
        # A transposed convolution multiplies each of its inputs with the whole kernel, another one each output.
        places = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        operations += 2 * layer.weight.numel() * places.shape[0] * places.shape[2] * places.shape[3]

    for layer in head.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(add)
    head.predict(features_of(head, cell, 'meta'), samples_of(head, cell, 'meta'))
    assert costs.model_flops(cell) == operations
    # The weights' gradient costs as much again, and so does that of the inputs but for the first layers'.
    training = costs.model_flops(Cell('vpd-depth', size=64, batch=2))
    assert 2.5 * operations < training < 3 * operations


def test_memory_in_closed_form():
    alive = estimate.Alive()
    a = torch.empty(100, device='meta')
    alive.add([a, a[:10]])  # shared memory counts once
    with alive:
        b = torch.empty(50, device='meta')
        del b
        c = a * 2
        torch.empty(20, device='meta')
    assert alive.bytes == 400 + 400 and alive.peak == 400 + 400 + 80
    del c
    assert alive.bytes == 400


def test_casts_and_fused_attention_as_on_a_gpu():
    layer = nn.Linear(8, 8, bias=False, device='meta')
    x = torch.empty(4, 8, device='meta')
    with estimate.LikeGPU(bf16=True, fused=True):
        assert layer(x).dtype == torch.bfloat16 and F.layer_norm(layer(x), (8,)).dtype == torch.float32
        q = torch.empty(1, 2, 64, 8, device='meta', requires_grad=True)
        with estimate.Alive() as fused:
            out = F.scaled_dot_product_attention(q, q, q)
            torch.autograd.backward(out.sum())
    assert out.dtype == torch.bfloat16 and q.grad.shape == q.shape
    q = torch.empty(1, 2, 64, 8, device='meta', requires_grad=True)
    with estimate.LikeGPU(bf16=False, fused=False), estimate.Alive() as plain:
        kept = F.scaled_dot_product_attention(q, q, q)
    probabilities = 2 * 64 * 64 * 4
    assert plain.peak >= probabilities > fused.peak and kept.requires_grad


@pytest.mark.slow
def test_estimates_follow_batch_and_options():
    def memory(case='finetune', **other):
        return estimate.memory(Cell(case, device='cuda', **other, **TINY))

    model = build_segmentor(Cell('finetune', **TINY), 'meta')
    weights = sum(p.numel() for p in model.parameters()) * 4 / 2**30
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) * 4 / 2**30
    small, large = memory(batch=4), memory(batch=8)
    assert large > small > weights + 3 * trained  # weights, gradients, two moments; activations on top of it
    bf16 = memory(batch=8, precision='bf16')
    assert memory(batch=8, precision='bf16', options=('checkpointing',)) < bf16 < large
    assert memory(batch=8, options=('math-attention',)) > large
    assert memory('create', calls=20) == memory('create', calls=50)
    assert memory('ema') == pytest.approx(weights + trained, rel=0.01)
    assert memory('matmul') is None


# Options


@pytest.mark.parametrize('option', ['channels_last', 'math-attention', 'checkpointing'])
def test_options_do_not_change_features(option):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for chosen in ((), (option,)):
        cell = Cell('finetune', options=chosen, **TINY)
        model = options.prepare(build_segmentor(cell, 'cpu').eval(), cell)
        with torch.no_grad(), options.computing(cell):
            found.append(model.backbone(images))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(plain, other, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler')
def test_compiled_layers_compute_the_same():
    """Features with class maps, and an image."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for chosen in ((), ('compile',)):
        cell = Cell('features', options=chosen, **TINY)
        backbone = options.prepare(build_segmentor(cell, 'cpu').eval(), cell).backbone
        with torch.no_grad():
            image = backbone.diffusion.create(images, captions=['a room'], seeds=[0], num_calls=2).images
            found.append([*backbone(images), image])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(plain, other, atol=1e-3, rtol=1e-3)


# Measuring


def test_repeats_end_with_the_budget():
    calls = []
    times = timing.measure(lambda: calls.append(sum(range(200_000))), 'cpu', repeats=5, budget=60)
    assert len(calls) == len(times.seconds) == 5
    found = times.record()
    assert found['seconds_min'] <= found['seconds'] <= found['seconds_max'] and found['repeats'] == 5
    assert len(timing.measure(lambda: sum(range(200_000)), 'cpu', repeats=5, budget=0).seconds) == 1
    assert timing.Times((3.0, 1.0, 2.0)).record()['seconds'] == 2


CHILD = """
import json, os, signal, sys, time
given = json.loads(sys.argv[2])
batch = given['cell']['batch']
if batch == 2:
    os.kill(os.getpid(), signal.SIGKILL)
if batch == 3:
    time.sleep(60)
if batch == 4 and not os.path.exists('mended'):
    sys.exit('the fourth one broke')
print('noise')
print(json.dumps(dict(outcome='measured', seconds=batch * given['settings']['budget'], memory_peak=1.0)))
"""


def test_every_end_of_a_child_is_recorded_and_a_second_call_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script, out = tmp_path / 'child.py', tmp_path / 'out.jsonl'
    script.write_text(CHILD)
    cells = [Cell('ema', batch=batch, **TINY) for batch in (1, 2, 3, 4)]

    def run(chosen):
        return run_cells(chosen, out, dict(budget=0.5), 1.0, None, script)

    assert run(cells) == cells[3:]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line['outcome'] for line in lines] == ['measured', 'out of memory', 'too slow', 'failed']
    assert lines[0]['seconds'] == 0.5 and lines[0]['model_flops'] == 0 and lines[0]['memory_estimated'] > 0
    assert 'the fourth one broke' in lines[3]['error']
    assert finished(out) == set(cells[:3])  # what failed is tried again
    (tmp_path / 'mended').touch()
    assert run([cell for cell in cells if cell not in finished(out)]) == []
    assert len(out.read_text().splitlines()) == 5 and finished(out) == set(cells)
    assert [record['outcome'] for record in read_records([out])][-1] == 'measured'
    # A line that was cut off is measured again.
    out.write_text(out.read_text() + out.read_text().splitlines()[0][:40])
    assert finished(out) == set(cells)
    # Time is up before anything starts, or in the middle of a cell: both are left for the next call.
    assert run_cells(cells, tmp_path / 'b.jsonl', dict(budget=0.5), 60, 0, script) == cells
    assert run_cells(cells[2:3], tmp_path / 'b.jsonl', dict(budget=0.5), 60, 1 / 60, script) == cells[2:3]
    assert not (tmp_path / 'b.jsonl').exists()


def test_a_line_of_somebody_else_is_named(tmp_path):
    (tmp_path / 'out.jsonl').write_text('{"cell": 1}\n')
    with pytest.raises(ValueError, match=r'out.jsonl:1: no result of tools/benchmark.py'):
        finished(tmp_path / 'out.jsonl')


@pytest.mark.parametrize(
    'case', ['features', 'features-detail', 'frozen', 'mixed', 'create', 'ema', 'idisc', 'vpd-depth-predict']
)
def test_every_case_can_be_measured(case, monkeypatch):
    # In this process: neither is its memory to be limited, nor is it to be ended first.
    monkeypatch.setattr('benchmarks.worker._dies_first', lambda: None)
    monkeypatch.setattr('benchmarks.memory.limit', lambda *_: None)
    cell = Cell(case, batch=2, calls=3 if case == 'create' else 0, **TINY)
    if cell.head:  # there is one of each, for the features of Stable Diffusion
        cell = Cell(case, batch=2, size=64)
    found = measure_cell(cell, warm_ups=1, repeats=2, budget=30)
    assert found['outcome'] == 'measured' and found['repeats'] == 2 and found['seconds'] > 0
    assert 0.1 < found['memory_peak'] < 50 and 0 < found['cores'] <= torch.get_num_threads() + 1
    if case == 'create':
        # The calls of both repeats and none of the warm-up; they are part of the time.
        assert len(found['seconds_of_calls']) == 6 and min(found['seconds_of_calls']) > 0
        assert sum(found['seconds_of_calls']) < found['repeats'] * found['seconds_max']
    if case == 'ema':
        model = build_segmentor(cell, 'meta')
        own = [*model.backbone.diffusion.unet.parameters(), *model.neck.parameters(), *model.decode_head.parameters()]
        running = [buffer for name, buffer in model.named_buffers() if 'running' in name or name == 'backbone.tokens']
        assert found['averaged'] == sum(tensor.numel() for tensor in [*own, *running])
        assert found['bytes_moved'] == 3 * 4 * found['averaged']


def test_warm_ups_in_pairs(monkeypatch):
    monkeypatch.setattr('benchmarks.worker._dies_first', lambda: None)
    monkeypatch.setattr('benchmarks.memory.limit', lambda *_: None)
    for name, value in dict(STEPS=1, LABELLED=4, VIEWS=1).items():
        monkeypatch.setattr(f'benchmarks.views.{name}', value)
    cell = Cell('views-vpd_scenes', batch=4, model='scenes', size=64)
    found = measure_cell(cell, warm_ups=1, repeats=2, budget=30)
    assert found['outcome'] == 'measured' and found['repeats'] == 2
    assert len(found['images_per_second']) == 2  # the warm-up does not count
    assert all(0 < 4 / speed < found['seconds_max'] for pair in found['images_per_second'] for speed in pair)


@pytest.mark.parametrize('case', ['features', 'finetune', 'create'])
def test_compiled_models_in_pairs(monkeypatch, case):
    """With a compiler that notes what it is given: one of the two sides."""
    monkeypatch.setattr('benchmarks.worker._dies_first', lambda: None)
    monkeypatch.setattr('benchmarks.memory.limit', lambda *_: None)
    given = []
    for name, value in dict(STEPS=1, compile_layers=given.append, compile_denoiser=given.append).items():
        monkeypatch.setattr(f'benchmarks.compiled.{name}', value)
    cell = Cell(f'compiled-{case}', batch=2, calls=2 * (case == 'create'), model='scenes', size=64)
    found = measure_cell(cell, warm_ups=1, repeats=2, budget=30)
    assert [type(each).__name__ for each in given] == ['UNet2DConditionModel' if case == 'create' else 'EncoderDecoder']
    assert found['outcome'] == 'measured' and len(found['images_per_second']) == found['repeats'] == 2
    assert all(speed > 0 for pair in found['images_per_second'] for speed in pair)


@pytest.mark.slow
def test_a_real_child_that_runs_out_of_memory(tmp_path):
    cell = Cell('finetune', batch=64, memory=1, **TINY)
    left = run_cells(
        [cell], tmp_path / 'x.jsonl', dict(warm_ups=0, repeats=1, budget=1), 300, None, TOOLS / 'benchmark.py'
    )
    (record,) = read_records([tmp_path / 'x.jsonl'])
    assert left == [] and record['outcome'] == 'out of memory' and 'memory' in record['error']


@pytest.mark.slow
def test_the_tool_as_it_is_called(tmp_path, capsys):
    flags = ['--preset', 'tiny', '--cells', 'matmul fp32', 'finetune fp32 b2 checkpointing', 'create-4 bf16-weights']
    tool.main([*flags, '--out', str(tmp_path / 'tiny.jsonl'), '--dry-run'])
    assert capsys.readouterr().out.count('to do') == 3
    tool.main([*flags, '--out', str(tmp_path / 'tiny.jsonl')])
    assert len((tmp_path / 'tiny.jsonl').read_text().splitlines()) == 3
    tool.main([*flags, '--out', str(tmp_path / 'tiny.jsonl')])
    assert '3 cells, 3 of them' in capsys.readouterr().out
    assert len((tmp_path / 'tiny.jsonl').read_text().splitlines()) == 3
    tool.main(['report', '--folder', str(tmp_path)])
    text = (tmp_path / 'README.md').read_text()
    assert '| finetune | fp32 | checkpointing | 2 |' in text and 'create, 20 calls, extrapolated' in text


# The page


def measured(case, seconds, flops=0, *, cores=None, device='cuda', **other):
    extra = {name: other.pop(name) for name in ('seconds_of_calls', 'bytes_moved') if name in other}
    cell = Cell(case, device=device, **other)
    found = dict(outcome='measured', seconds=seconds, seconds_min=seconds / 2, seconds_max=seconds * 2, repeats=3)
    found |= dict(cell=cell.record(), model_flops=flops, memory_peak=5.0, memory_estimated=4.0, **extra)
    found['environment'] = dict(device='X', torch='2', threads=2, date='2030-01-01')
    return found | (dict(cuda='13') if device == 'cuda' else {}) | ({} if cores is None else dict(cores=cores))


def peak(rate, precision='bf16', **other):
    record = measured('matmul', 1, precision=precision, **other)
    return record | dict(flops_per_second=rate, rates={'64': rate / 2, '128': rate})


def rows(table):
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_rates_shares_and_speed_ups_by_hand():
    records = [
        peak(8e12),
        measured('finetune', 2.0, 4e12, precision='bf16', batch=4),
        measured('finetune', 0.5, 4e12, precision='bf16', batch=4, options=('compile',)),
        measured('finetune', 2.0, 4e12, precision='fp32'),
        measured('ema', 0.1, precision='fp32', bytes_moved=2e9),
        dict(cell=Cell('finetune', 'bf16', 8, memory=16).record(), outcome='out of memory', model_flops=1),
    ]
    plain, compiled, single, ema, failed = rows(tables.cell_table(records))
    assert plain['time (min – max)'] == '2 s (1 s – 4 s)' and plain['per image'] == '500 ms'
    assert plain['TFLOP/s'] == '2' and plain['of peak'] == '25.0%' and plain['speed-up'] == '–'
    assert compiled['TFLOP/s'] == '8' and compiled['of peak'] == '100.0%' and compiled['speed-up'] == '4.00×'
    assert single['of peak'] == '–'  # the peak in that precision was not measured
    assert ema['TFLOP/s'] == '20 GB/s' and ema['memory, GB'] == '5.0' and ema['on paper'] == '4.0'
    assert failed['time (min – max)'] == 'out of memory' and failed['limit'] == '16 GB'
    (best,) = rows(tables.peak_table(records))
    assert best == {'precision': 'bf16', 'TFLOP/s': '8', 'n × n': '128'}
    goals = rows(tables.goal_table(records))
    assert [row['reached'] for row in goals] == ['100.0%', '2.00%']  # 0.1 s / 40 images over 0.5 s / 4 images
    assert tables.goal_table(records[:1]) is None


def test_shared_cores_are_taken_into_account():
    """Half of the cores, half of the rate: the same share of the peak."""
    records = [
        peak(8e10, 'fp32', device='cpu', cores=2.0),
        measured('features', 1.0, 2e10, device='cpu', cores=1.0),
        measured('features', 2.0, 2e10, device='cpu', cores=0.5, batch=2),
    ]
    records.append(measured('features', 3.0, 2e10, device='cpu', cores=0.25, batch=2, options=('compile',)))
    found = rows(tables.cell_table(records))
    assert [row['of peak'] for row in found[:2]] == ['50.0%', '50.0%'] and found[2]['speed-up'] == '1.33×'


def test_ratios_are_those_within_a_pair():
    pairs = [[10.0, 20.0], [5.0, 20.0], [8.0, 12.0]]
    where = dict(device='cpu', model='scenes', size=64, batch=12)
    record = measured('views-vpd_scenes', 1.0, **where) | dict(images_per_second=pairs)
    record['environment']['threads'] = 1
    (row,) = rows(tables.views_table([record]))
    assert (row['images/s without'], row['with']) == ('8.0', '20.0')
    assert row['ratio (min – max)'] == '2.00 (1.50 – 4.00)'
    assert row['pairs'] == '3' and tables.views_table([measured('frozen', 1.0)]) is None
    assert rows(tables.cell_table([record])) == []


def test_compiled_models_are_compared_within_a_pair():
    where = dict(device='cpu', model='scenes', size=64, batch=4, calls=4)
    record = measured('compiled-create', 1.0, **where)
    record |= dict(images_per_second=[[10.0, 5.0], [4.0, 6.0], [8.0, 8.0]])
    record['environment'] |= dict(threads=1, device='a processor')
    (row,) = rows(tables.compiled_table([record]))
    assert (row['case'], row['processor']) == ('create, 4 calls', 'a processor')
    assert (row['images/s plain'], row['compiled'], row['ratio (min – max)']) == ('8.0', '6.0', '1.00 (0.50 – 1.50)')
    assert tables.compiled_table([measured('create', 1.0)]) is None and rows(tables.cell_table([record])) == []


def test_creations_are_extrapolated_from_their_own_calls():
    calls = [9.0, 1.0, 1.5, 2.0, 1.5]
    record = measured('create', 10.0, 1e12, device='cpu', calls=4, batch=2, seconds_of_calls=calls, cores=1.5)
    assert tables.extrapolated(record) == [(20, 10 + 16 * 1.5), (50, 10 + 46 * 1.5)]
    found = rows(tables.cell_table([record]))
    assert [row['case'] for row in found] == [
        'create, 4 calls', 'create, 20 calls, extrapolated', 'create, 50 calls, extrapolated'
    ]  # fmt: skip
    assert found[1]['time (min – max)'] == '34 s' and found[1]['per image'] == '17 s'
    assert [row['core-seconds'] for row in found] == ['15', '51', '118']
    assert tables.extrapolated(measured('create', 10.0, calls=50, seconds_of_calls=[1.0])) == []


def test_the_page(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match='measure first'):
        page.write_page(tmp_path)
    lines = [peak(8e12, 'fp32', device='cpu'), measured('features', 1.0, 2e12, device='cpu', **TINY)]
    lines[0]['cell'] |= TINY
    (tmp_path / 'cpu.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (tmp_path / 'estimates.jsonl').write_text(json.dumps(dict(name='finetune, bf16', batch=4, memory=17.25)) + '\n')
    text = page.write_page(tmp_path).read_text()
    assert '## cpu: X' in text and '2030-01-01' in text and '| features | fp32 | – | 1 |' in text
    assert '| finetune, bf16 | – | – | 17.2 | – | – |' in text
    assert 'Not yet measured' in text
    lines.append(measured('finetune', 1.0, 2e12, **TINY))
    (tmp_path / 'gpu.jsonl').write_text(
        json.dumps(lines[-1] | dict(environment=dict(device='Y', cuda='13', date='2030'))) + '\n'
    )
    assert 'Not yet measured' not in page.write_page(tmp_path).read_text()
