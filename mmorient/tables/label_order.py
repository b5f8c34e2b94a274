"""The order of labels, as their words or numbers say it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

# Words of degree, the weakest first; a label without any stands between `mild` and `strong` ones.
DEGREES = (
    ("not", "no", "none", "non", "never", "without"),
    ("slight", "slightly", "little", "mild", "mildly", "low", "somewhat", "barely", "rarely", "weak"),
    ("moderate", "moderately", "medium", "some", "sometimes"),
    ("quite", "rather", "high", "strong", "strongly", "often"),
    ("very", "much", "highly", "really"),
    ("extreme", "extremely", "severe", "severely", "always", "most", "hateful", "hilarious"),
)
PLAIN = 2
NEGATIVE, NEUTRAL, POSITIVE = (
    ("negative", "bad", "sad"),
    ("neutral", "mixed", "so"),
    ("positive", "good", "happy"),
)


@dataclass(frozen=True)
class LabelOrder:
    """Labels in an order.

    Args:
        labels: All of them.
        is_scale: Whether they are degrees of one thing.
        note: What a person should check; empty for nothing.
    """

    labels: list[str]
    is_scale: bool
    note: str = ""


def ordered_labels(labels: Sequence[str]) -> LabelOrder:
    """Bring labels into the order that their numbers or words say.

    Whole numbers, three or more, are a scale; so are labels of which at least two say a degree (`not_funny`,
    `very_funny`), if no two of them say the same one. Others are in the order of the alphabet.
    """
    if all(re.fullmatch(r"-?\d+", label) for label in labels):
        ordered = sorted(labels, key=int)
        if len(labels) < 3:
            return LabelOrder(ordered, False)
        return LabelOrder(ordered, True, "numbers in order; if they only stand for names, kind: multiclass")
    for rank, note in ((_polarity, "from negative to positive"), (_degree, "by degree")):
        ranks = [rank(label) for label in labels]
        if None not in ranks and len(set(ranks)) == len(labels):
            ordered = sorted(labels, key=lambda label: ranks[labels.index(label)] or 0)
            # Two labels are in any order, and three of polarity are mostly asked as classes.
            said = sum(_says_degree(label) for label in labels)
            is_scale = len(labels) >= 3 and said >= 2
            return LabelOrder(ordered, is_scale, f"{note}; is that their order?" if is_scale else "")
    return LabelOrder(sorted(labels), False)


def _words(label: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", label.casefold())


def _says_degree(label: str) -> bool:
    return any(word in degree for word in _words(label) for degree in DEGREES)


def _degree(label: str) -> int | None:
    words = _words(label)
    found = [place for place, degree in enumerate(DEGREES) if any(word in degree for word in words)]
    if 0 in found:
        return 0
    return max(found) * 2 if found else PLAIN * 2 + 1


def _polarity(label: str) -> int | None:
    words = _words(label)
    for sign, names in ((-1, NEGATIVE), (0, NEUTRAL), (1, POSITIVE)):
        if any(word in names for word in words):
            return sign * (1 + (_degree(label) or 0))
    return None
