"""The average over the processes of a distributed training: one count of samples, one θ_C, one set of statistics."""

import pytest
import torch
from forks import Fork, skip_where_a_gpu_is_in_use


@pytest.fixture
def two_processes(tiny, tmp_path):
    """Runs a function of `tiny_self_improving.py` twice, side by side; the folder that both write to."""

    skip_where_a_gpu_is_in_use()

    def run(function, *arguments):
        out, meeting = tmp_path / 'out', tmp_path / 'meeting'
        out.mkdir()
        processes = [
            Fork(tmp_path / f'{rank}.log', tiny.one_of_two, rank, meeting, function, out, *arguments)
            for rank in range(2)
        ]
        outputs = [process.wait(120) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)
        return out

    return run


def test_two_processes_count_the_global_batch_and_average_the_running_statistics(tiny, two_processes):
    out = two_processes(tiny.average_of_two_processes)
    # A batch of 3 cannot be shared by two processes; 4 is the smallest that leaves a remainder.
    for batch in (4, 16, 128):
        ranks = [torch.load(out / f'{batch}.{rank}.pth') for rank in range(2)]
        (first, mine, my_after, creator), (_, theirs, their_after, other_creator) = ranks
        before_average = [value['1.running_mean'] for value in mine], [value['1.running_mean'] for value in theirs]
        assert not any(torch.equal(a, b) for a, b in zip(*before_average, strict=True)), 'the ranks see different data'
        merged = [
            {name: (a[name] + b[name]) / 2 if 'running' in name else a[name] for name in a}
            for a, b in zip(mine, theirs, strict=True)
        ]
        for a, b, expected in zip(my_after, their_after, merged, strict=True):  # with and without an update
            for name in ('1.running_mean', '1.running_var'):
                assert torch.equal(a[name], b[name])
                torch.testing.assert_close(a[name], expected[name], rtol=1e-12, atol=1e-14)
        expected, _, updates = tiny.by_recursion(first, merged, batch)
        assert updates == 30 * batch // 40
        for name, value in creator.items():
            if name.endswith('.u'):
                continue  # made of each process's own samples
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-14)
            assert torch.equal(value, other_creator[name])


def test_two_processes_resume_exactly_between_two_updates(tiny, two_processes, scene_files):
    """The checkpoint has the statistics of the first process: the second one must not have had others."""
    out = two_processes(tiny.resume_of_two_processes, scene_files)
    for rank in range(2):
        (iters, straight, metrics), (resumed_iters, resumed, resumed_metrics) = (
            torch.load(out / f'{name}.{rank}.pth', weights_only=False) for name in ('straight', 'resumed')
        )
        assert iters == resumed_iters == 10
        assert all(torch.equal(value, straight[name]) for name, value in resumed.items())
        assert {'val/accuracy', 'val/exploiter/accuracy'} <= set(metrics)
        assert {name: values.tolist() for name, values in metrics.items()} == {
            name: values.tolist() for name, values in resumed_metrics.items()
        }
