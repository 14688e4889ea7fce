"""Batches on this machine: one after the other on an accelerator, side by side on the cores of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

Batch = TypeVar("Batch")


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
        work: called once a batch, from several threads at once on a CPU.
        batches: the largest first, so that the cores end together.
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
        # The setting of a worker reaches libraries that know one setting a process.
        torch.set_num_threads(threads)
