"""Values that a caller may give by mistake or on purpose, where a tensor or a plain value is wanted."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch

#: Python objects that are no tensors, by name.
NO_TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "a list": lambda tensor: tensor.tolist(),
    "a tuple of tensors": lambda tensor: tuple(tensor),
    "an array": lambda tensor: tensor.numpy(),
    "a string": lambda tensor: "features",
    "bytes": lambda tensor: b"\x00" * 8,
    "a number": lambda tensor: 3,
    "a boolean": lambda tensor: True,
    "a dict": lambda tensor: {"values": tensor},
    "an object": lambda tensor: object(),
}

DTYPES = (
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
)

#: The same rows in another shape, by name; each is another one than the tensor's.
SHAPES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "no dimension": lambda tensor: tensor.reshape(-1)[0],
    "one dimension more in front": lambda tensor: tensor.unsqueeze(0),
    "one dimension more at the end": lambda tensor: tensor.unsqueeze(-1),
    "flat": lambda tensor: torch.cat([tensor.reshape(-1), tensor.reshape(-1)]),
    "a row less": lambda tensor: tensor[:-1],
    "a row more": lambda tensor: torch.cat([tensor, tensor[:1]]),
    "one row for all": lambda tensor: tensor[:1],
    "no rows": lambda tensor: tensor[:0],
    "narrower": lambda tensor: tensor[..., :-1] if tensor.ndim > 1 else tensor[1:],
    "wider": lambda tensor: torch.cat([tensor, tensor], -1),
    "of width zero": lambda tensor: tensor[..., :0] if tensor.ndim > 1 else tensor[:0],
    "transposed": lambda tensor: tensor.transpose(0, -1) if tensor.ndim > 1 else tensor.view(1, -1),
}

#: The same values in another way of storing them, by name.
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "on the meta device": lambda tensor: tensor.to("meta"),
    "sparse": lambda tensor: tensor.to_sparse(),
    "not contiguous": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "a parameter": lambda tensor: torch.nn.Parameter(
        tensor.clone(), requires_grad=tensor.is_floating_point()
    ),
    "nested": lambda tensor: torch.nested.nested_tensor(list(tensor)),
}

FLOATS = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "3e38": 3e38, "-1e30": -1e30}


def with_entry(tensor: torch.Tensor, value: float, rng: random.Random) -> tuple[torch.Tensor, int]:
    """The tensor with one of its entries replaced, and the row that it is in."""
    changed = tensor.clone()
    place = tuple(rng.randrange(size) for size in tensor.shape)
    changed[place] = value
    return changed, place[0]


def wrong_tensors(tensor: torch.Tensor) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything above in the place of a tensor: what it is, and a function that makes it."""
    for makers in (NO_TENSORS, SHAPES, LAYOUTS):
        for name, make in makers.items():
            yield name, lambda make=make: make(tensor)  # type: ignore[misc]
    for dtype in DTYPES:
        if dtype != tensor.dtype:
            yield f"as {dtype}", lambda dtype=dtype: tensor.to(dtype)  # type: ignore[misc]
