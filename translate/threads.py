"""Work for several threads: all of it at once, or a bounded number of items ahead of the consumer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """function(item) for each item, in order, by a thread for each core; the first error ends it at once."""
    workers = os.cpu_count() or 1
    size = max(1, min(16, len(items) // (4 * workers)))  # handing one item to a thread costs as much as a header
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            done = pool.map(lambda chunk: [function(item) for item in chunk], chunks)
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
