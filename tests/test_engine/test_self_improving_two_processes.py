"""The average over the processes of a distributed training: one count of samples, one θ_C."""

import torch


def test_two_processes_count_the_global_batch_and_average_the_running_statistics(tiny, start_process, tmp_path):
    (tmp_path / 'out').mkdir()
    processes = [start_process('rank', tmp_path / 'out', tmp_path / 'meeting', rank) for rank in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(outputs)

    # A batch of 3 cannot be shared by two processes; 4 is the smallest that leaves a remainder.
    for batch in (4, 16, 128):
        ranks = [torch.load(tmp_path / f'out/{batch}.{rank}.pth') for rank in range(2)]
        (first, mine, creator), (_, theirs, other_creator) = ranks
        before_average = [value['1.running_mean'] for value in mine], [value['1.running_mean'] for value in theirs]
        assert any(not torch.equal(a, b) for a, b in zip(*before_average, strict=True)), 'the ranks see different data'
        merged = [
            {name: (a[name] + b[name]) / 2 if 'running' in name else a[name] for name in a}
            for a, b in zip(mine, theirs, strict=True)
        ]
        expected, _, updates = tiny.by_recursion(first, merged, batch)
        assert updates == 30 * batch // 40
        for name, value in creator.items():
            if name.endswith('.u'):
                continue  # made of each process's own samples
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-14)
            assert torch.equal(value, other_creator[name])
