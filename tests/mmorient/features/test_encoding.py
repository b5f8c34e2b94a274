"""Features of batches: all of them, in order, with torch's threads used and given back."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from mmorient.features.encoding import encoded

THREADS = 3


class Features:
    """Of a batch: its number."""

    def __init__(self, number: torch.Tensor) -> None:
        self.number = number

    def as_inputs(self) -> dict[str, torch.Tensor]:
        return {"number": self.number}


class NumberModel:
    """Encodes the more slowly the earlier a batch comes, and remembers by which threads."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bool]] = []

    def encode(self, number: torch.Tensor) -> Features:
        self.seen.append((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))
        time.sleep(0.05 / (1 + int(number[0])))
        return Features(number)


@pytest.fixture(autouse=True)
def some_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def numbers(count: int, made: list[int] | None = None) -> Iterator[dict[str, torch.Tensor]]:
    for number in range(count):
        if made is not None:
            made.append(number)
        yield {"number": torch.tensor([number])}


@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_batches_come_in_their_order_whoever_is_done_first(count: int) -> None:
    model: Any = NumberModel()
    found = [int(features["number"]) for features in encoded(model, numbers(count))]
    assert found == list(range(count))
    assert torch.get_num_threads() == THREADS


def test_each_thread_takes_the_steps_of_its_batch_alone() -> None:
    model: Any = NumberModel()
    encode, together = model.encode, threading.Barrier(THREADS, timeout=60)

    def encode_together(number: torch.Tensor) -> Features:
        together.wait()  # passes only if so many batches are encoded at a time
        return encode(number)

    model.encode = encode_together
    for _ in encoded(model, numbers(7 * THREADS)):
        assert torch.get_num_threads() == 1
    threads = {thread for thread, _, _ in model.seen}
    assert len(threads) == THREADS and threading.get_ident() not in threads
    assert {(number, gradients) for _, number, gradients in model.seen} == {(1, False)}


def test_batches_are_not_made_long_before_they_are_used() -> None:
    made: list[int] = []
    model: Any = NumberModel()
    for used, _ in enumerate(encoded(model, numbers(50, made))):
        time.sleep(0.01)
        # Some are under way, and as many may be done before the one that comes next.
        assert len(made) <= used + 1 + 2 * (THREADS + 1)


def test_an_error_in_a_batch_is_raised_and_the_threads_are_given_back() -> None:
    def batches() -> Iterator[dict[str, torch.Tensor]]:
        yield from numbers(4)
        raise ValueError("row 17: nothing to read")

    model: Any = NumberModel()
    with pytest.raises(ValueError, match="row 17"):
        list(encoded(model, batches()))
    assert torch.get_num_threads() == THREADS


def test_whoever_stops_early_has_torchs_threads_again() -> None:
    model: Any = NumberModel()
    features = encoded(model, numbers(10))
    next(features)
    assert torch.get_num_threads() == 1
    features.close()
    assert torch.get_num_threads() == THREADS


@pytest.mark.parametrize("kind", ["vision", "joint"])
def test_features_are_those_of_the_model(
    make_model: Callable[..., Any], make_inputs: Callable[..., Any], kind: str
) -> None:
    model = make_model(kind)
    batches = [make_inputs(kind, 4, seed=seed) for seed in range(6)]
    for inputs, features in zip(batches, encoded(model, iter(batches)), strict=True):
        with torch.no_grad():
            expected = model.encode(**inputs).as_inputs()
        assert features.keys() == expected.keys()
        for name, values in features.items():
            torch.testing.assert_close(values, expected[name])
