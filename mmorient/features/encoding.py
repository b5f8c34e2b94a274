"""From batches of raw inputs to features, using the whole machine."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch

from mmorient.features.batches import ahead
from modeling_mmorient import MMOrientForMultitaskClassification

Batch = Mapping[str, torch.Tensor]


def encoded(
    model: MMOrientForMultitaskClassification, batches: Iterator[Batch]
) -> Generator[dict[str, torch.Tensor], None, None]:
    """The features of one batch after another, in memory, as `EncodedFeatures.as_inputs` names them.

    On an accelerator, the next batch is made while one is encoded. On CPU, there are as many threads as torch
    has; each makes a batch and encodes it alone, since most steps of a model are too small to be shared among
    threads. Batches are made one at a time. Until the last batch, or until the generator is closed, the
    caller's steps have one torch thread too: threads that share a step would wait for each other on busy
    cores.

    Args:
        model: In evaluation mode.
        batches: What the encoders take, as `batches.raw_inputs` gives it.
    """
    if model.device.type != "cpu":
        for batch in ahead(batches, model.device):
            yield _encode(model, batch)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from _encoded_by_threads(model, batches, threads)
    finally:
        torch.set_num_threads(threads)


def _encoded_by_threads(
    model: MMOrientForMultitaskClassification, batches: Iterator[Batch], threads: int
) -> Iterator[dict[str, torch.Tensor]]:
    numbered, turn = enumerate(batches), Lock()

    def encode_next() -> tuple[int, dict[str, torch.Tensor]] | None:
        with turn:
            taken = next(numbered, None)
        return None if taken is None else (taken[0], _encode(model, taken[1]))

    # A new thread starts with torch's default number of threads, not with that of its creator.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        coming = deque(pool.submit(encode_next) for _ in range(threads + 1))
        done: dict[int, dict[str, torch.Tensor]] = {}
        number = 0
        while coming:
            if (found := coming.popleft().result()) is None:
                continue
            coming.append(pool.submit(encode_next))
            done[found[0]] = found[1]
            while number in done:  # batches may be finished out of order
                yield done.pop(number)
                number += 1


@torch.no_grad()
def _encode(model: MMOrientForMultitaskClassification, batch: Batch) -> dict[str, torch.Tensor]:
    inputs = {name: value.to(model.device) for name, value in batch.items()}
    return {name: value.cpu() for name, value in model.encode(**inputs).as_inputs().items()}
