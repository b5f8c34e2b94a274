"""The batch that several processes train on together: each holds some of its rows."""

from typing import Any

import torch
from torch import distributed


class GlobalBatch:
    """The rows of all processes, in the order of their ranks.

    Every process has to make one at the same time, and to gather the same things in the same order. In a
    single process its own rows are all.

    Args:
        rows: Number of rows here; processes may have different numbers.
        device: Where the rows are.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        self.sizes = [rows]
        start = 0
        if distributed.is_available() and distributed.is_initialized():
            size = torch.tensor([rows], device=device)
            self.sizes = torch.cat(_all_gather(size)).tolist()
            start = sum(self.sizes[: distributed.get_rank()])
        self.own = slice(start, start + rows)

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Values (rows, ...) of all processes, (all rows, ...), with gradients to where they came from."""
        if len(self.sizes) == 1:
            return values
        return _Gather.apply(values, self.sizes, self.own)


class _Gather(torch.autograd.Function):
    """The rows of all processes; the gradient of a row is the sum of its gradients in all processes.

    torch's own (`torch.distributed.nn`) is deprecated, and what replaces it is not in every release that
    is supported here.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, sizes: list[int], own: slice) -> torch.Tensor:
        ctx.own = own
        # Collectives want equal sizes, and not every backend knows booleans.
        padded = values.new_zeros(max(sizes), *values.shape[1:])
        padded[: len(values)] = values
        plain = padded.to(torch.uint8) if values.dtype == torch.bool else padded
        each = [rows[:size] for rows, size in zip(_all_gather(plain), sizes, strict=True)]
        return torch.cat(each).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total[ctx.own], None, None


def _all_gather(values: torch.Tensor) -> list[torch.Tensor]:
    gathered = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, values.contiguous())
    return gathered
