"""The search of an exported graph finds what the model's own search finds."""

import pytest
import torch

from modeling_mmorient.reference_bank import ReferenceBank

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from mmorient.export.reference_search import ReferenceSearch  # noqa: E402

WIDTH, QUERIES = 24, 5


def references(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of which 50 are copies of one, some opposite, one zero, and some are missing."""
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(130, WIDTH, generator=generator)
    embeds[40:90] = embeds[7]
    embeds[100] = 2 * embeds[3]
    embeds[101] = 0
    embeds[102] = -embeds[5]
    present = torch.rand(130, generator=generator) < 0.9
    present[:10] = True
    return embeds, present


def found_in_onnx(
    search: ReferenceSearch, queries: torch.Tensor, present: torch.Tensor
) -> list[torch.Tensor]:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.search = search

        def forward(self, queries: torch.Tensor, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            found = self.search(queries, present)
            return found.indices, found.similarities

    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        Both(),
        (queries[:2], present[:2]),
        dynamic_shapes=({0: batch}, {0: batch}),
        opset_version=20,
        dynamo=True,
        verbose=False,
    )
    session = ort.InferenceSession(program.model_proto.SerializeToString())
    names = [entry.name for entry in session.get_inputs()]
    values = session.run(None, dict(zip(names, (queries.numpy(), present.numpy()), strict=True)))
    return [torch.from_numpy(value) for value in values]


@pytest.mark.parametrize(("k", "threshold"), [(4, None), (60, 0.3), (200, -0.5)])
def test_it_finds_what_the_model_finds(k: int, threshold: float | None) -> None:
    embeds, has = references()
    bank = ReferenceBank(WIDTH, WIDTH, {})
    ids = [str(number) for number in range(len(embeds))]
    bank.add(ids, {"image": embeds, "text": embeds}, {"image": has, "text": torch.ones_like(has)})
    queries = torch.randn(QUERIES, WIDTH, generator=torch.Generator().manual_seed(1))
    queries[0], queries[1], queries[2] = embeds[7], embeds[3], 0
    present = torch.tensor([True, True, True, False, True])
    expected = bank.search("image", queries, present, k=k, threshold=threshold)
    indices, similarities = found_in_onnx(ReferenceSearch(embeds, has, k, threshold), queries, present)
    width = min(k, len(embeds))
    assert torch.equal(indices, expected.indices[:, :width])
    torch.testing.assert_close(similarities, expected.similarities[:, :width], rtol=0, atol=1e-12)
    # Of many copies the earliest, in their order.
    copies = [7, *(place for place in range(40, 90) if has[place])]
    assert indices[0, : min(k, len(copies))].tolist() == copies[:k]


def test_copies_stand_in_order_whatever_the_products_last_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.nn.functional.linear

    def rising(unit: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """A product that is wrong by a little, and more so for later references."""
        return product(unit, weight) + 1e-6 * torch.arange(len(weight))

    monkeypatch.setattr(torch.nn.functional, "linear", rising)
    embeds, _ = references()
    has = torch.ones(len(embeds), dtype=torch.bool)
    queries = embeds[7:9]
    indices, _ = found_in_onnx(ReferenceSearch(embeds, has, 4, None), queries, torch.tensor([True, True]))
    assert indices[0].tolist() == [7, 40, 41, 42]
