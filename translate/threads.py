"""Work for several threads: all of it at once, or a bounded part of it ahead of whoever needs the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The function of each item, in order, by as many threads as there are cores; the first error ends it at once."""
    workers = os.cpu_count() or 1
    few = max(1, min(16, len(items) // (4 * workers)))  # at a time, since handing one over costs as much as a header
    parts = [items[i : i + few] for i in range(0, len(items), few)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            done = pool.map(lambda part: [function(item) for item in part], parts)
            return [result for results in done for result in results]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def prefetch(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[tuple[T, Future[R]]]:
    """Each item with the future of function(item), in order. At most `ahead` items are under way or waiting."""
    under_way: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        under_way.append((item, pool.submit(function, item)))
        if len(under_way) >= ahead:
            yield under_way.popleft()
    while under_way:
        yield under_way.popleft()
