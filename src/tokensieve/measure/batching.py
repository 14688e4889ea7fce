"""Batches by length under a token budget, and how they run: one by one, or side by side on the cores of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.containers import Int64

Batch = TypeVar("Batch")


def plan_batches(lengths: Int64, token_budget: int) -> list[NDArray[np.int64]]:
    """Cut examples, sorted by length, into batches of at most ``token_budget`` padded tokens.

    The longest come first, so that a batch that does not fit into memory shows at once.

    Args:
        lengths: int64 ``[examples]``, tokens to pass through the model.
        token_budget: longest example times examples of a batch, at most. An example that is longer makes
            a batch of its own.

    Returns:
        Example numbers of each batch; every example with a length above 0 is in exactly one.
    """
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    batches, start = [], 0
    while start < len(order):
        count = max(1, token_budget // int(lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches


def run_batches(
    work: Callable[[Batch], object],
    batches: Sequence[Batch],
    device: torch.device,
    on_done: Callable[[Batch], object],
) -> None:
    """Do the work of every batch.

    On a CPU each core takes a batch of its own: small operations split over cores wait for each other
    (docs/log.md). What a batch yields then does not depend on the number of cores.

    Args:
        work: called once per batch, from several threads at once on a CPU.
        batches: the largest first, so that the cores finish together.
        device: where the model is.
        on_done: told of each batch that is done, from the calling thread.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        for batch in batches:
            work(batch)
            on_done(batch)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        pending = {pool.submit(work, batch): batch for batch in batches}
        for future in as_completed(pending):
            future.result()
            on_done(pending[future])
    finally:
        pool.shutdown(cancel_futures=True)
        # Some libraries know one setting per process, which the setting of a thread has changed.
        torch.set_num_threads(threads)
