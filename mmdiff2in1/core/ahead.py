"""Work of a pool, in order, with no more of it under way than is needed to keep the pool busy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def ahead(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """As `pool.map`, which takes all items before it gives the first result; left early, what waits is dropped.

    `most` items are under way at once: some for each worker of the pool.
    """
    waiting: deque[Future[Result]] = deque()
    items = iter(items)
    try:
        while True:
            waiting.extend(pool.submit(work, item) for item in islice(items, most - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def together(items: Iterable[Item], most: int) -> Iterator[Sequence[Item]]:
    """Lists of `most` items, the last of fewer."""
    items = iter(items)
    while found := list(islice(items, most)):
        yield found
