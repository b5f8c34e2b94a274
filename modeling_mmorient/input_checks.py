"""Checks of the arguments of `forward`: types and shapes at once, values together.

A tensor's type, dtype, shape and device are known without waiting for the device; its values are not. All
conditions on values are gathered, and the device is waited for once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers.utils.import_utils import is_tracing

# Entries of features and embeddings are at most that large: squares of larger ones overflow where features
# are brought to variance 1, and no encoder comes near it (outliers in hidden states reach some 10^4).
MAX_ENTRY = 1e9

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
IDS = (torch.int64, torch.int32)
INTEGERS = (*IDS, torch.int16, torch.int8, torch.uint8)
DTYPES: dict[str, tuple[tuple[torch.dtype, ...], str]] = {
    "floats": (FLOATS, "a floating-point dtype, such as float32"),
    "ids": (IDS, "int64"),
    "mask": ((torch.bool, *INTEGERS, *FLOATS), "bool, or numbers 0 and 1"),
    "indices": (INTEGERS, "int64"),
    "bool": ((torch.bool,), "bool"),
    "int64": ((torch.int64,), "int64"),
}
# By argument: what it holds, and its dimensions.
INPUTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pixel_values": ("floats", ("batch_size", "channels", "height", "width")),
    "input_ids": ("ids", ("batch_size", "tokens")),
    "attention_mask": ("mask", ("batch_size", "tokens")),
    "token_type_ids": ("ids", ("batch_size", "tokens")),
    "joint_input_ids": ("ids", ("batch_size", "joint_tokens")),
    "joint_attention_mask": ("mask", ("batch_size", "joint_tokens")),
    "image_present": ("mask", ("batch_size",)),
    "text_present": ("mask", ("batch_size",)),
    "image_embeds": ("floats", ("batch_size", "width")),
    "text_embeds": ("floats", ("batch_size", "width")),
    "region_features": ("floats", ("batch_size", "regions", "width")),
    "region_mask": ("mask", ("batch_size", "regions")),
    "token_features": ("floats", ("batch_size", "tokens", "width")),
    "task_features": ("floats", ("batch_size", "task_feature_dim")),
    "own_reference": ("indices", ("batch_size",)),
}
# Of each modality, what a picture or a text can be given as, and what says which rows have one.
MODALITIES = (
    ("image_present", "picture", ("pixel_values", "region_features", "image_embeds")),
    ("text_present", "text", ("input_ids", "joint_input_ids", "token_features", "text_embeds")),
)
# Arguments that describe another argument, which therefore must be given too: the first one given counts.
COMPANIONS = {
    "region_mask": ("region_features",),
    "attention_mask": ("token_features", "input_ids"),
    "token_type_ids": ("input_ids",),
    "joint_attention_mask": ("joint_input_ids",),
}
# Which rows of an argument are looked at, and which entries of a row.
PRESENCE = {
    "pixel_values": "image_present",
    "image_embeds": "image_present",
    "region_features": "image_present",
    "input_ids": "text_present",
    "token_type_ids": "text_present",
    "joint_input_ids": "text_present",
    "text_embeds": "text_present",
    "token_features": "text_present",
}
MASKS = {"region_features": "region_mask", "token_features": "attention_mask"}


class ValueChecks:
    """Conditions on values, checked together with a single wait for the device.

    Under `torch.compile` and `torch.export` (and on tensors without values) nobody can look, and nothing is
    gathered; see `can_look`.
    """

    def __init__(self) -> None:
        self._gathered: list[tuple[torch.Tensor, Callable[[], str]]] = []

    def add(self, wrong: torch.Tensor, message: Callable[[], str]) -> None:
        """Gather a condition.

        Args:
            wrong: Booleans of any shape, True where a value is wrong.
            message: What the error says, asked for only where one is wrong.
        """
        self._gathered.append((wrong.any(), message))

    def settle(self) -> None:
        """Look at what was gathered, and forget it.

        Raises:
            ValueError: With the message of the first condition that does not hold.
        """
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        device = gathered[0][0].device
        if not bool(torch.stack([wrong.to(device) for wrong, _ in gathered]).any()):
            return
        raise ValueError(next(message() for wrong, message in gathered if bool(wrong)))


def can_look(values: torch.Tensor) -> bool:
    """Whether the values of a tensor can be read: not while a graph is recorded, nor on the meta device."""
    return not torch.compiler.is_compiling() and values.device.type != "meta" and not is_tracing(values)


def check_inputs(inputs: Mapping[str, Any]) -> torch.Tensor:
    """Types, dtypes, devices and shapes of the arguments of `forward` that are given, without their values.

    Args:
        inputs: By name, None where an argument is not given.

    Returns:
        One of the arguments; all have its number of rows and its device.

    Raises:
        ValueError: Naming the argument, what was given, and the remedy.
    """
    given = {name: values for name, values in inputs.items() if values is not None}
    for name, values in given.items():
        check_tensor(name, values, *INPUTS[name])
    for name, others in COMPANIONS.items():
        if name in given:
            _check_companion(name, given, others)
    contents = [name for _, _, names in MODALITIES for name in names]
    if not any(name in given for name in (*contents, "task_features")):
        raise ValueError(
            "neither a picture nor a text is given: give `pixel_values` or `input_ids` (or the "
            "precomputed features) of at least one modality."
        )
    (first, known), *rest = given.items()
    for name, values in rest:
        if values.device != known.device:
            raise ValueError(
                f"`{name}` is on the device {values.device} and `{first}` on {known.device}: move all inputs "
                "to the model's device."
            )
        if values.shape[0] != known.shape[0]:
            raise ValueError(
                f"`{name}` has {values.shape[0]} rows (shape {tuple(values.shape)}) and `{first}` has "
                f"{known.shape[0]} (shape {tuple(known.shape)}): give each argument one entry a row."
            )
    return known


def check_tensor(
    name: str, values: Any, kind: str, dimensions: tuple[str | int, ...], with_values: bool = False
) -> None:
    """Check that an argument is a tensor with one of the dtypes of `DTYPES[kind]` and these dimensions.

    Args:
        name: Of the argument.
        values: What was given.
        kind: Of `DTYPES`.
        dimensions: Each a size, or the word for one that may be any.
        with_values: It is not on the meta device either.
    """
    if not isinstance(values, torch.Tensor):
        raise ValueError(
            f"`{name}` is a {type(values).__name__}: give a tensor (a processor gives tensors with "
            '`return_tensors="pt"`).'
        )
    dtypes, needed = DTYPES[kind]
    if values.dtype not in dtypes:
        raise ValueError(f"`{name}` is {values.dtype}: give a tensor of {needed}.")
    check_dense(name, values)
    if with_values and values.is_meta:
        raise ValueError(f"`{name}` is on the meta device, which has no values: give a tensor with some.")
    # Several references may be the same row.
    several = name == "own_reference" and values.ndim == 2
    pairs = zip(values.shape, dimensions, strict=False)
    other = any(isinstance(size, int) and own != size for own, size in pairs)
    if other or (values.ndim != len(dimensions) and not several):
        raise ValueError(
            f"`{name}` has the shape {tuple(values.shape)}: give ({', '.join(map(str, dimensions))}"
            f"{',' if len(dimensions) == 1 else ''})."
        )


def check_dense(name: str, values: torch.Tensor) -> None:
    """Check that a tensor is neither sparse nor nested."""
    if values.is_nested or values.layout != torch.strided:
        what = "is nested" if values.is_nested else f"has the layout {values.layout}"
        raise ValueError(f"`{name}` {what}: give a dense tensor (`.to_dense()`, `.to_padded_tensor(0)`).")


def _check_companion(name: str, given: Mapping[str, torch.Tensor], others: tuple[str, ...]) -> None:
    other = next((other for other in others if other in given), None)
    if other is None:
        names = " or ".join(f"`{other}`" for other in others)
        raise ValueError(f"`{name}` is given without {names}, so it says nothing: give both, or neither.")
    if given[name].shape != given[other].shape[:2]:
        raise ValueError(
            f"`{name}` has the shape {tuple(given[name].shape)}: give {tuple(given[other].shape[:2])}, an "
            f"entry for each of `{other}`."
        )


def gather_id_checks(
    checks: ValueChecks, name: str, ids: torch.Tensor | None, present: torch.Tensor | None, number: int
) -> None:
    """Conditions on ids (batch_size, tokens): in present rows they are at least 0 and below `number`."""
    if ids is None:
        return
    wrong = (ids < 0) | (ids >= number)
    if present is not None:
        wrong = wrong & present.bool().unsqueeze(-1)
    checks.add(
        wrong,
        lambda: (
            f"`{name}` has the value {ids[wrong][0].item()}: the encoder knows the ids 0 to {number - 1}. "
            "Give what the tokenizer of this model makes of the texts."
        ),
    )


def gather_index_checks(checks: ValueChecks, own_reference: torch.Tensor, references: int) -> None:
    """Gather conditions on indices of references: below their number `references`, or -1."""
    wrong = (own_reference < -1) | (own_reference >= references)
    checks.add(
        wrong,
        lambda: (
            f"`own_reference` has the value {own_reference[wrong][0].item()}: the references' indices are "
            f"0 to {references - 1}, and -1 stands for none."
        ),
    )


def gather_value_checks(checks: ValueChecks, inputs: Mapping[str, torch.Tensor | None]) -> None:
    """Gather conditions on the values, which can be read, of inputs that passed `check_inputs`.

    Masks hold 0 and 1; floats are finite and at most `MAX_ENTRY`, where the row is present and the entry not
    masked.
    """
    for name, values in inputs.items():
        if values is None:
            continue
        kind, _ = INPUTS[name]
        if kind == "mask" and values.dtype != torch.bool:
            wrong = (values != 0) & (values != 1)
            checks.add(wrong, _mask_message(name, values, wrong))
        if kind == "floats":
            wrong = unsound(values) & looked_at(name, values, inputs)
            checks.add(wrong, _floats_message(name, values, wrong))
    for present, what, names in MODALITIES:
        said = inputs.get(present)
        if said is not None and all(inputs.get(name) is None for name in names):
            checks.add(said != 0, partial(_PRESENT_WITHOUT.format, present, what))


def unsound(values: torch.Tensor) -> torch.Tensor:
    """Which vectors of features (..., d) are not finite, or too large to be computed with, (...); and which
    pictures (B, channels, height, width), (B,)."""
    dims = (1, 2, 3) if values.ndim == 4 else (-1,)
    if 0 in values.shape[1:]:  # an entry's size is an error of its own
        return values.new_zeros(values.shape[: values.ndim - len(dims)], dtype=torch.bool)
    # A comparison with NaN is False. On CPU these two are some twenty times as fast as `isfinite`.
    return ~((values.amax(dims) <= MAX_ENTRY) & (values.amin(dims) >= -MAX_ENTRY))


def looked_at(name: str, values: torch.Tensor, inputs: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
    """Which of `unsound`'s vectors, or which rows of an argument, are present and not masked."""
    shape = [values.shape[0]] if values.ndim in (2, 4) else list(values.shape[:2])
    looked = torch.ones(shape, dtype=torch.bool, device=values.device)
    if (present := inputs.get(PRESENCE.get(name, ""))) is not None:
        looked = looked & present.bool().view(-1, *[1] * (looked.ndim - 1))
    mask = inputs.get(MASKS.get(name, ""))
    if mask is not None:
        looked = looked & mask.bool()
    return looked


def without_unsound(values: torch.Tensor | None) -> torch.Tensor | None:
    """Features whose unsound vectors are NaN, so that the answer of their row is NaN, and no other answer."""
    if values is None:
        return None
    wrong = unsound(values)
    return values.masked_fill(wrong.view(*wrong.shape, *[1] * (values.ndim - wrong.ndim)), torch.nan)


_PRESENT_WITHOUT = "`{}` marks rows as present, but no {} is given: give it, or leave the argument out."


def _mask_message(name: str, values: torch.Tensor, wrong: torch.Tensor) -> Callable[[], str]:
    return lambda: (
        f"`{name}` has the value {values[wrong][0].item()}: a mask holds True (present) or False, 1 or 0."
    )


def _floats_message(name: str, values: torch.Tensor, wrong: torch.Tensor) -> Callable[[], str]:
    def message() -> str:
        index = wrong.nonzero()[0].tolist()
        entries = values[tuple(index)].flatten()
        entry = entries[~(entries.abs() <= MAX_ENTRY)][0].item()
        what = "is not finite" if entry - entry != 0 else "is too large to be computed with"
        said = f", or say in `{PRESENCE[name]}` that the row lacks it" if name in PRESENCE else ""
        return (
            f"`{name}` has the value {entry} in row {index[0]}, which {what} (at most {MAX_ENTRY:g}): "
            f"leave the row out{said}."
        )

    return message
