"""Thresholds for a reference bank's graphs, and how well connected those are."""

import torch

from .features import GraphHealth, Neighbors
from .reference_bank import ReferenceBank

# A reference's nearest neighbour this similar is a copy of it.
COPY = 1 - 1e-9


def calibrate_threshold(
    bank: ReferenceBank, modality: str, quantile: float, sample: int = 1000, seed: int = 0
) -> float:
    """The quantile of the references' similarities to the references nearest to them.

    At 0.1, say, nine of ten references have a neighbour above the threshold.

    Args:
        bank: Of which each reference is compared with the others.
        modality: `image` or `text`.
        quantile: In [0, 1].
        sample: Number of references that are compared, drawn at random.
        seed: Of the drawing.

    Raises:
        ValueError: If fewer than two references have the modality, or so many are copies of others that
            nothing could be more similar than the threshold.
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"`quantile` is {quantile!r}: give a number in [0, 1].")
    nearest = _search_sample(bank, modality, 1, None, sample, seed)
    found = nearest.similarities[nearest.indices >= 0]
    if not len(found):
        raise ValueError(
            f"there are no two references with a {modality} vector to compare: add some, or give a threshold."
        )
    threshold = float(found.quantile(quantile))
    if threshold > COPY:
        copies = float((found > COPY).double().mean())
        raise ValueError(
            f"{copies:.0%} of the references have a copy among the others, so that the {quantile} quantile "
            f"of {modality} similarities is 1: give a lower quantile, or remove the copies."
        )
    return threshold


def bank_health(
    bank: ReferenceBank,
    modality: str,
    k: int | None = None,
    threshold: float | None = None,
    sample: int = 1000,
    seed: int = 0,
) -> GraphHealth:
    """Degree statistics of references as queries for the others.

    Args:
        bank, modality, sample, seed: As in [`calibrate_threshold`].
        k, threshold: As in [`ReferenceBank.search`].

    Returns:
        Statistics over the sample, all of which has the modality; zero where there is nothing to compare.
    """
    degrees = _search_sample(bank, modality, k, threshold, sample, seed).degrees()
    others = len(bank.searchable(modality)) - 1
    number = max(len(degrees), 1)
    return GraphHealth(
        mean_degree=degrees.sum() / number,
        isolated_share=(degrees == 0).sum() / number,
        complete_share=((degrees == others) & (degrees > 0)).sum() / number,
        degrees=degrees,
    )


def _search_sample(
    bank: ReferenceBank, modality: str, k: int | None, threshold: float | None, sample: int, seed: int
) -> Neighbors:
    """Neighbours of some references among the others."""
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 1:
        raise ValueError(f"`sample` is {sample!r}: give a whole number of at least 1.")
    places = bank.searchable(modality)
    drawn = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:sample]
    places = places[drawn.to(places.device)]
    return bank.search(modality, bank.embeds(modality, places), k=k, threshold=threshold, exclude=places)
