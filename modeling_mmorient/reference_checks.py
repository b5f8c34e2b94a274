"""Checks of what callers give to references.

All raise a ValueError that names the argument, the value and the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .features import MODALITIES
from .input_checks import MAX_ENTRY, check_dense
from .label_checks import check_label_shapes, check_labels
from .reference_embeds import STORAGE_DTYPES
from .task_kinds import kind_of
from .task_specs import TaskSpec


def width_argument(name: str) -> str:
    """The bank's argument for the width of what it stores under a name."""
    return f"{name.removesuffix('s')}_dim" if name.endswith("_vectors") else f"{name}_embed_dim"


def check_settings(widths: Mapping[str, Any], dtype: Any, notes: Any) -> None:
    """Widths by what is stored, the name of a storage dtype, and a text."""
    for name, width in widths.items():
        if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width < 2**31:
            raise ValueError(f"`{width_argument(name)}` is {width!r}: give a width, a whole number.")
    if not isinstance(dtype, str) or dtype not in STORAGE_DTYPES:
        raise ValueError(f"`dtype` is {dtype!r}: choose one of {list(STORAGE_DTYPES)}.")
    if not isinstance(notes, str):
        raise ValueError(f"`notes` is {notes!r}: give a text.")


def check_ids(ids: Any) -> tuple[str, ...]:
    """The ids, if they are non-empty strings and each is there once."""
    if isinstance(ids, str) or not isinstance(ids, Sequence):
        raise ValueError(f"`ids` is {ids!r}: give a list of strings, one for each reference.")
    if (wrong := next((place for place, name in enumerate(ids) if not _is_id(name)), None)) is not None:
        raise ValueError(
            f"`ids` holds {ids[wrong]!r} at {wrong}: each id is a non-empty string that UTF-8 can hold."
        )
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"`ids` holds {twice!r} twice: each reference has an id of its own.")
    return tuple(ids)


def check_embeds(
    count: int,
    embeds: Mapping[str, torch.Tensor],
    present: Mapping[str, torch.Tensor],
    widths: Mapping[str, int],
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By modality: embeddings (count, d) and presence (count,), all on the CPU."""
    given: tuple[tuple[str, Any, Mapping[str, Any]], ...]
    given = ("embeds", embeds, widths), ("present", present, embeds)
    for name, entries, known in given:
        if not isinstance(entries, Mapping):
            raise ValueError(f"`{name}` is a {type(entries).__name__}: give a dict by modality.")
        for key in entries:
            if key not in known:
                raise ValueError(f"`{name}` has the modality {key!r}: give tensors of {list(known)} only.")
    checked = {}
    for modality, width in widths.items():
        values = embeds.get(modality, torch.zeros(count, width))
        has = present.get(modality, torch.full((count,), modality in embeds))
        name = f"embeds[{modality!r}]"
        _check_tensor(name, values, (count, width))
        _check_tensor(f"present[{modality!r}]", has, (count,), "bool")
        values, has = values.detach().cpu(), has.cpu()
        norms = torch.linalg.vector_norm(values.double(), dim=-1)
        if row := first_row(has & ~(norms <= largest_norm(modality, width))):
            what = "too large" if values[row[0]].isfinite().all() else "not finite"
            raise ValueError(
                f"`{name}` is {what} in row {row[0]}, which is present (its norm is {norms[row[0]]:g}, and "
                f"at most {largest_norm(modality, width):g} is taken): leave the reference out, or say in "
                "`present` that it lacks the modality."
            )
        checked[modality] = values, has
    return checked


def largest_norm(name: str, width: int) -> float:
    """The largest norm of what may be stored of a reference: of its embedding, or of HIMA's vector.

    One reference alone could otherwise decide the answers of all rows, or make them NaN. HIMA's vectors are
    means of vectors at mean 0 and variance 1, so that their norm is at most sqrt(width); twice that leaves
    room for rounding.
    """
    return math.sqrt(width) * (2.0 if name.endswith("_vectors") else MAX_ENTRY)


def check_somewhere(ids: Sequence[str], present: Sequence[torch.Tensor]) -> None:
    """Each reference has a modality."""
    if row := first_row(~torch.stack(list(present)).any(0)):
        raise ValueError(f"reference {ids[row[0]]!r} has neither a picture nor a text: leave it out.")


def check_vectors(ids: Sequence[str], present: Mapping[str, torch.Tensor]) -> None:
    """HIMA's vectors, where they are stored, are there for whoever has the modality."""
    for modality in MODALITIES:
        vectors = f"{modality}_vectors"
        if vectors in present and (row := first_row(present[vectors] != present[modality])):
            known, missing = (modality, vectors) if present[modality][row[0]] else (vectors, modality)
            raise ValueError(
                f"reference {ids[row[0]]!r} has {known!r} and no {missing!r}: give both, or none of them."
            )


def check_reference_labels(
    count: int, labels: Mapping[str, torch.Tensor], tasks: Mapping[str, TaskSpec]
) -> dict[str, torch.Tensor]:
    """Labels of `count` references by task, of every task, on the CPU."""
    checked = {name: values.cpu() for name, values in check_labels(tasks, labels).items()}
    check_label_shapes(tasks, checked, count, torch.device("cpu"))
    full = {}
    for name, spec in tasks.items():
        full[name] = checked[name] if name in checked else kind_of(spec).unlabelled(spec, count)
    return full


def check_search(
    queries: torch.Tensor,
    present: torch.Tensor,
    width: int,
    k: int | None,
    threshold: float | None,
    checked: bool,
) -> None:
    """Queries (B, width) of which those that are present are finite, and how many neighbours they seek.

    Values that are `checked` already are not looked at.
    """
    _check_tensor("queries", queries, (None, width))
    _check_tensor("present", present, (len(queries),), "bool")
    if k is None and threshold is None:
        raise ValueError("`k` and `threshold` are both None: give a number of neighbours, or a threshold.")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise ValueError(f"`k` is {k!r}: give a whole number of at least 1.")
    if threshold is not None and not -1 <= threshold <= 1:
        raise ValueError(f"`threshold` is {threshold!r}: a cosine is a number in [-1, 1].")
    if not checked and (row := first_row(present & ~queries.float().isfinite().all(-1))):
        raise ValueError(
            f"`queries` is not finite in row {row[0]}, which is present: say in `present` that it lacks the "
            "modality, or look where the value comes from."
        )


def check_exclude(exclude: torch.Tensor, queries: int, references: int, checked: bool) -> None:
    """(queries,) or (queries, any) of places among so many references, or -1; see `check_search`."""
    several = isinstance(exclude, torch.Tensor) and exclude.ndim == 2
    _check_tensor("exclude", exclude, (queries, None) if several else (queries,), "int64")
    if checked:
        return
    wrong = exclude[(exclude < -1) | (exclude >= references)]
    if wrong.numel():
        raise ValueError(
            f"`exclude` has the value {int(wrong[0])}: the bank's places are 0 to {references - 1}, "
            "and -1 stands for none."
        )


def _is_id(name: Any) -> bool:
    if not isinstance(name, str) or not name:
        return False
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair, which a file could not tell from its whole
        return False


def _check_tensor(name: str, values: Any, shape: tuple[int | None, ...], kind: str = "float") -> None:
    if not isinstance(values, torch.Tensor):
        raise ValueError(f"`{name}` is a {type(values).__name__}: give a tensor.")
    check_dense(name, values)
    if values.is_meta:
        raise ValueError(f"`{name}` is on the meta device, which has no values: give a tensor with some.")
    pairs = zip(values.shape, shape, strict=False)
    if values.ndim != len(shape) or any(wanted is not None and own != wanted for own, wanted in pairs):
        needed = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"`{name}` has the shape {tuple(values.shape)}: {needed} is needed.")
    kinds = {
        "float": values.is_floating_point(),
        "bool": values.dtype == torch.bool,
        "int64": values.dtype == torch.long,
    }
    if not kinds[kind]:
        raise ValueError(f"`{name}` is {values.dtype}: a tensor of {kind} is needed.")


def first_row(wrong: torch.Tensor) -> list[int]:
    """The first place where `wrong` (n,) holds, as a list; empty where it holds nowhere."""
    return wrong.nonzero()[:1, 0].tolist()
