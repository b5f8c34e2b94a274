"""One modality's embeddings as the references keep them, and a FAISS index over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .input_checks import MAX_ENTRY

STORAGE_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
# Rows that are encoded, or whose norms are taken, at a time.
ENCODE_ROWS = 4096
# References that an index is trained on, drawn at random; FAISS asks for 39 to 256 for each of its lists.
TRAINING_REFERENCES = 2**18
# References that are added to an index at a time.
ADD_REFERENCES = 2**14


@dataclass(frozen=True)
class StoredEmbeds:
    """One modality's embeddings of N references, e = scale * code.

    | dtype | code | scale | error of a cosine with e, at most |
    |---|---|---|---|
    | float32 | e / scale, exact | power of two | 0 |
    | float16 | e / scale, rounded | power of two | 2^-11 + sqrt(d) 2^-25 (5e-4) |
    | int8 | 127 e / max abs e, rounded | max abs e / 127 | (sqrt(d) / 254) (max abs e / norm of e) |

    The scale of each row brings its largest entry into [1, 2) (int8: to 127), so that neither very small
    nor very large embeddings lose more than others. (The last bound is for the worst case, about 0.01 for
    embeddings with normally distributed entries; the usual error is a tenth of it.)

    Args:
        codes: (N, d); zero for references that lack the modality.
        scales: (N,) float32.
        present: (N,), True = the reference has the modality.
        norms: (N,) float64, of the codes; zero for references that cannot be neighbours.
    """

    codes: torch.Tensor
    scales: torch.Tensor
    present: torch.Tensor
    norms: torch.Tensor

    @classmethod
    def encode(cls, embeds: torch.Tensor, present: torch.Tensor, dtype: torch.dtype) -> StoredEmbeds:
        """Store the rows of `embeds` (N, d) that are present; the others may hold anything.

        Embeddings that are not finite in float32 stay so: see `unsound`.
        """
        codes = torch.zeros(embeds.shape, dtype=dtype)
        scales = torch.ones(embeds.shape[0])
        for start in range(0, embeds.shape[0], ENCODE_ROWS):
            rows = slice(start, start + ENCODE_ROWS)
            block = embeds[rows].double().masked_fill(~present[rows].unsqueeze(-1), 0.0)
            largest = block.abs().amax(-1)
            largest = largest.masked_fill(largest == 0, 1.0)
            if dtype == torch.int8:
                codes[rows] = (127 * (block / largest.unsqueeze(-1))).round().to(dtype)
                scales[rows] = (largest / 127).float()
            else:
                scale = torch.ldexp(torch.ones_like(largest), largest.frexp().exponent - 1)
                codes[rows] = (block / scale.unsqueeze(-1)).to(dtype)
                scales[rows] = scale.float()
        return cls.of_codes(codes, scales, present.clone())

    @classmethod
    def of_codes(cls, codes: torch.Tensor, scales: torch.Tensor, present: torch.Tensor) -> StoredEmbeds:
        """From what was saved; norms are not finite where codes are not."""
        blocks = [row_dot(block, block).sqrt() for block in codes.split(ENCODE_ROWS)]
        norms = torch.cat(blocks) if blocks else torch.zeros(0, dtype=torch.float64)
        return cls(codes, scales, present, norms)

    def __len__(self) -> int:
        return self.codes.shape[0]

    def decode(self, indices: torch.Tensor) -> torch.Tensor:
        """The embeddings e of the given rows in float32, (n, d)."""
        return self.codes[indices].float() * self.scales[indices].unsqueeze(-1)

    def unsound(self, largest: float) -> torch.Tensor:
        """(N,), True = the embedding is not finite, its norm is above `largest`, or it should be missing."""
        sound = (self.norms * self.scales <= largest) & (self.scales >= 0)
        return ~sound | (~self.present & (self.norms > 0))


class ReferenceIndex:
    """A FAISS index over the unit vectors of the references that can be neighbours, for many of them.

    It proposes candidates and decides nothing else: the search ranks them by their cosines in float64. It
    holds a copy of the vectors in the form that its factory string says, on the CPU.

    Args:
        stored: The references of one modality.
        factory: As `faiss.index_factory` takes it: `"IVF1024,Flat"`, `"HNSW32"`, `"Flat"`.
        parameters: Of the search, by FAISS's names: `nprobe` of IVF, `efSearch` of HNSW.

    Raises:
        ImportError: If FAISS is not installed.
        ValueError: If FAISS refuses the factory, a parameter or the number of references.
    """

    def __init__(self, stored: StoredEmbeds, factory: str, parameters: Mapping[str, float]) -> None:
        faiss = _import_faiss()
        self.factory, self.parameters = factory, dict(parameters)
        self.indices = (stored.norms > 0).nonzero().squeeze(-1)
        try:
            self._index = faiss.index_factory(stored.codes.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            space = faiss.ParameterSpace()
            for name, value in parameters.items():
                space.set_index_parameter(self._index, name, float(value))
            if not self._index.is_trained:
                seed = torch.Generator().manual_seed(0)
                drawn = torch.randperm(len(self.indices), generator=seed)[:TRAINING_REFERENCES]
                self._index.train(_unit(stored, self.indices[drawn.to(self.indices.device)]))
            for indices in self.indices.split(ADD_REFERENCES):
                self._index.add(_unit(stored, indices))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"FAISS cannot build the index {factory!r} with {self.parameters} over "
                f"{len(self.indices)} references: {error}"
            ) from error

    def candidates(self, unit: torch.Tensor, count: int) -> torch.Tensor:
        """Indices of the `count` references that seem most similar to unit vectors (B, d), (B, count).

        -1 from where the index finds no more.
        """
        if not len(unit) or not len(self.indices):
            return torch.full((len(unit), count), -1, device=unit.device)
        found = torch.from_numpy(self._index.search(unit.cpu().numpy(), count)[1]).to(unit.device)
        return torch.where(found >= 0, self.indices.to(unit.device)[found.clamp(min=0)], found)


def largest_norm(name: str, width: int) -> float:
    """The largest norm that an entry of a reference may have: its embedding, or HIMA's vector.

    One reference alone could otherwise decide the answers of all rows, or make them NaN. HIMA's vectors are
    means of vectors at mean 0 and variance 1, so that their norm is at most sqrt(width); twice that leaves
    room for rounding.
    """
    return math.sqrt(width) * (2.0 if name.endswith("_vectors") else MAX_ENTRY)


def row_dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Σ_j a_ij b_ij of each row in float64, (n,), from a and b (n, d); see `sum_by_halves`."""
    return sum_by_halves(a.double() * b.double())


def sum_by_halves(products: torch.Tensor) -> torch.Tensor:
    """Σ_j x_...j over the last dimension of a float64 tensor, which is overwritten.

    Halves are added elementwise: unlike a matrix product's or a reduction's, a row's result is the same to
    the last bit whatever the number of rows, of threads, and on any device.
    """
    while (width := products.shape[-1]) > 1:
        half = (width + 1) // 2
        products[..., : width - half] += products[..., half:]
        products = products[..., :half]
    # A copy: the column alone would keep all of them in memory.
    return products[..., 0].clone()


def _unit(stored: StoredEmbeds, indices: torch.Tensor) -> Any:
    """Unit vectors of some references, an array (n, d) in float32."""
    return (stored.codes[indices].double() / stored.norms[indices].unsqueeze(-1)).float().cpu().numpy()


def _import_faiss() -> Any:
    # Not at the top of the module: loading it takes time and starts threads, and only indexes need it.
    try:
        import faiss
    except ImportError:
        raise ImportError(
            'an index needs FAISS, which is not installed: pip install "mmorient[faiss]", or search '
            "without an index, which is exact."
        ) from None
    return faiss
