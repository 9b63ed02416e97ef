"""A compiled denoiser creates what the plain one creates; its loop has nothing that a CUDA graph cannot record."""

import pytest
import torch
from torch import nn
from waits import Waits

from mmdiff2in1.generators import timestep_grid
from mmdiff2in1.generators.compiling import compile_denoiser
from mmdiff2in1.generators.sample_noise import generators_of
from mmdiff2in1.generators.solvers import SOLVERS

CAPTIONS = ['a red ball', 'a floor']


def created(diffusion, **changes):
    device = diffusion.device
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5)).to(device) * 2 - 1
    options = dict(captions=CAPTIONS, seeds=[0, 1], T=600, num_calls=4, guidance_scale=2.0) | changes
    return diffusion.create(images, **options)


@pytest.fixture(autouse=True)
def forget():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


@pytest.mark.slow  # half a minute of compiling
def test_a_compiled_denoiser_creates_the_same(tiny_diffusion):
    """As one graph, compiled once for all calls of one shape; hooks and names stay."""
    plain = created(tiny_diffusion)
    names, seen = list(tiny_diffusion.state_dict()), []
    tiny_diffusion.unet.register_forward_hook(lambda *_: seen.append(1))
    compile_denoiser(tiny_diffusion.unet, backend='aot_eager', fullgraph=True)
    first, again = created(tiny_diffusion), created(tiny_diffusion)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] == 1 and len(seen) == 8
    torch.testing.assert_close(first.images, plain.images)
    assert torch.equal(first.latents, again.latents)
    assert list(tiny_diffusion.state_dict()) == names


def test_an_output_is_not_overwritten_by_the_next_call():
    """A recorded graph writes each output to the same place: here a backend that does so everywhere."""
    place = []

    def recording(graph, inputs):
        def run(*args):
            outputs = graph(*args)
            place[:] = place or [output.clone() for output in outputs]
            return [kept.copy_(output) for kept, output in zip(place, outputs, strict=True)]

        return run

    denoiser = nn.Linear(3, 3)
    inputs = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [denoiser(each) for each in inputs]
        compile_denoiser(denoiser, backend=recording)
        found = [denoiser(each) for each in inputs]
    assert len(place) == 1 and not torch.equal(*expected)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize(('solver', 'at_start'), [('ddim', 0), ('ddpm', 0), ('dpm++', None)])
def test_a_step_waits_for_nothing(tiny_diffusion, solver, at_start):
    """DPM-Solver++ of diffusers looks its first timestep up; no step after that one."""

    def waits(calls):
        grid = timestep_grid(600, calls)
        z = torch.randn(2, tiny_diffusion.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
        context = tiny_diffusion.encode_text(CAPTIONS)

        def denoise(z, t, last):
            return tiny_diffusion.unet(z, t, context).sample

        with torch.no_grad(), Waits() as seen:
            SOLVERS[solver](tiny_diffusion.schedule, denoise, z, grid, generators_of([0, 1]))
        return len(seen.found)

    assert waits(2) == waits(5)
    assert at_start is None or waits(2) == at_start


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize(
    ('plain', 'recorded'),
    [
        (None, dict(backend='cudagraphs')),  # the kernels of torch
        (dict(mode='default'), dict(mode='reduce-overhead')),  # those of inductor
    ],
)
def test_a_recorded_graph_gives_the_bits_of_the_kernels_it_records(tiny_diffusion, plain, recorded):
    """Thrice: the first calls warm up and record, later ones replay."""
    diffusion, forward = tiny_diffusion.cuda(), tiny_diffusion.unet.forward
    if plain is not None:
        compile_denoiser(diffusion.unet, **plain)
    expected = created(diffusion, num_calls=8)
    diffusion.unet.forward = forward
    torch._dynamo.reset()
    compile_denoiser(diffusion.unet, **recorded)
    for _ in range(3):
        found = created(diffusion, num_calls=8)
        assert torch.equal(found.latents, expected.latents) and torch.equal(found.images, expected.images)
