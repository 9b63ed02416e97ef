"""Work behind other work: its order, what waits, and where errors go."""

import threading

import pytest

from mmdiff2in1.synthesis.behind import Behind


def test_all_is_done_in_order_in_one_other_thread() -> None:
    done: list[tuple[int, int]] = []
    with Behind(2) as behind:
        for number in range(20):
            behind.do(lambda number: done.append((number, threading.get_ident())), number)
    assert [number for number, _ in done] == list(range(20))
    assert len({thread for _, thread in done}) == 1 and done[0][1] != threading.get_ident()


def test_no_more_waits_than_it_may() -> None:
    gate, begun = threading.Event(), []

    def work(number: int) -> None:
        begun.append(number)
        gate.wait(30)

    with Behind(2) as behind:
        behind.do(work, 0)
        behind.do(work, 1)
        third = threading.Thread(target=behind.do, args=(work, 2))
        third.start()
        third.join(0.2)
        assert third.is_alive() and begun == [0]
        gate.set()
        third.join(30)
        assert not third.is_alive()
    assert begun == [0, 1, 2]


def test_an_error_is_raised_and_nothing_later_is_done() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise OSError('disk full')
        done.append(number)

    with pytest.raises(OSError, match='disk full'), Behind(4) as behind:
        for number in range(50):
            behind.do(work, number)
    assert done == [0]


def test_an_error_of_the_caller_drops_what_waits() -> None:
    gate, done = threading.Event(), []

    def work(number: int) -> None:
        gate.wait(30)
        done.append(number)

    with pytest.raises(KeyboardInterrupt), Behind(8) as behind:  # noqa: PT012
        for number in range(5):
            behind.do(work, number)
        threading.Timer(0.2, gate.set).start()
        raise KeyboardInterrupt
    assert done == [0]
