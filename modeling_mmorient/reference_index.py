"""Candidates for neighbours from a FAISS index, for banks that are too large to be searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .reference_embeds import StoredEmbeds

# References that the index is trained on, drawn at random; FAISS asks for 39 to 256 for each of its lists.
TRAINING_REFERENCES = 2**18
# References that are added at a time.
ADD_REFERENCES = 2**14


class ReferenceIndex:
    """A FAISS index over the unit vectors of the references that can be neighbours.

    It proposes candidates and decides nothing else: the bank ranks them by their cosines in float64. It
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
        self.places = (stored.norms > 0).nonzero().squeeze(-1)
        try:
            self._index = faiss.index_factory(stored.codes.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
            space = faiss.ParameterSpace()
            for name, value in parameters.items():
                space.set_index_parameter(self._index, name, float(value))
            if not self._index.is_trained:
                seed = torch.Generator().manual_seed(0)
                drawn = torch.randperm(len(self.places), generator=seed)[:TRAINING_REFERENCES]
                self._index.train(_unit(stored, self.places[drawn.to(self.places.device)]))
            for places in self.places.split(ADD_REFERENCES):
                self._index.add(_unit(stored, places))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"FAISS cannot build the index {factory!r} with {self.parameters} over "
                f"{len(self.places)} references: {error}"
            ) from error

    def candidates(self, unit: torch.Tensor, count: int) -> torch.Tensor:
        """Places of the `count` references that seem most similar to unit vectors (B, d), (B, count).

        -1 from where the index finds no more.
        """
        if not len(unit) or not len(self.places):
            return torch.full((len(unit), count), -1, device=unit.device)
        found = torch.from_numpy(self._index.search(unit.cpu().numpy(), count)[1]).to(unit.device)
        return torch.where(found >= 0, self.places.to(unit.device)[found.clamp(min=0)], found)


def _unit(stored: StoredEmbeds, places: torch.Tensor) -> Any:
    """Unit vectors of the references at these places, an array (n, d) in float32."""
    return (stored.codes[places].double() / stored.norms[places].unsqueeze(-1)).float().cpu().numpy()


def _import_faiss() -> Any:
    # Here and not above: loading it takes time and starts threads, which only those need who build an index.
    try:
        import faiss
    except ImportError:
        raise ImportError(
            'an index needs FAISS, which is not installed: pip install "mmorient[faiss]", or search '
            "without an index, which is exact."
        ) from None
    return faiss
