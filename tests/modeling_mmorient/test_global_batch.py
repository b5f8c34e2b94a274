"""The batch across processes: whose rows are where, and gradients that go back to them."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from modeling_mmorient.global_batch import GlobalBatch

ROWS = (2, 3)  # of each process


def parts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 4, generator=generator) for rows in ROWS]


def loss(rows: torch.Tensor, own: slice) -> torch.Tensor:
    """Of the rows of one process, each of which depends on all rows."""
    return (rows[own].tanh() @ rows.T).exp().sum()


def one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", len(ROWS))
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=len(ROWS))
    values = parts()[rank].requires_grad_()
    batch = GlobalBatch(len(values), values.device)
    rows, odd = batch.gather(values), batch.gather(torch.arange(len(values)) % 2 == rank)
    loss(rows, batch.own).backward()
    found = {"own": [batch.own.start, batch.own.stop], "rows": rows.detach(), "odd": odd, "grad": values.grad}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_rows_of_all_processes_in_order_with_the_gradients_of_the_sum_of_their_losses(tmp_path: Path) -> None:
    multiprocessing.spawn(one_process, (str(tmp_path),), nprocs=len(ROWS))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(len(ROWS))]
    whole = torch.cat(parts()).requires_grad_()
    own = [slice(0, 2), slice(2, 5)]
    sum(loss(whole, rows) for rows in own).backward()
    for rank, process in enumerate(found):
        assert slice(*process["own"]) == own[rank]
        assert torch.equal(process["rows"], whole.detach())
        assert process["odd"].tolist() == [True, False, False, True, False]
        torch.testing.assert_close(process["grad"], whole.grad[own[rank]])


def test_a_single_process_holds_the_whole_batch() -> None:
    values = torch.randn(3, 2, requires_grad=True)
    batch = GlobalBatch(3, values.device)
    assert batch.gather(values) is values and batch.own == slice(0, 3)
