"""Scores as a person reads them in a terminal."""

from collections.abc import Sequence


def number(value: float | None) -> str:
    """With three decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def span(interval: Sequence[float] | None) -> str:
    """From the low end to the high one."""
    return "-" if interval is None else " to ".join(f"{value:.3f}" for value in interval)
