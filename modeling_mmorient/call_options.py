"""Keywords of a processor's call: checked, and sorted by the part that they are for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .image_input import MAX_PIXELS
from .shown_values import shown

TENSOR_TYPES = ("pt", "np")
# Keywords of which each part has its own, in a mapping.
GROUPS = {"text_kwargs": "tokenizer", "images_kwargs": "image_processor"}
# Keywords that would change the number of rows, or what a row is.
REFUSED_KEYWORDS = (
    "text_pair",
    "text_target",
    "text_pair_target",
    "is_split_into_words",
    "return_overflowing_tokens",
)
# Options of an image processor that say how large its pictures come out.
SIZES = ("size", "crop_size", "pad_size")


def merged_options(processor: Any, keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of the image processor and the tokenizer, by group; the keywords win over saved ones.

    Args:
        processor: An `MMOrientProcessor`.
        keywords: Of its call.

    Raises:
        ValueError: A keyword is unknown, has a value that no part takes, or would change the number of rows.
    """
    _refuse_unknown(processor, keywords)
    # The tokenizer's saved max_length is the default of text_max_length, not its superior.
    saved = {} if processor.tokenizer is None else {**processor.tokenizer.init_kwargs}
    saved.pop("max_length", None)
    with naming("the processor", keywords):
        options = processor._merge_kwargs(
            processor.valid_processor_kwargs, tokenizer_init_kwargs=saved, **keywords
        )
    refused = [name for name in REFUSED_KEYWORDS if options["text_kwargs"].get(name)]
    if refused:
        raise ValueError(f"{', '.join(refused)}: not supported, every row is one plain text")
    for options_of_part in (options["text_kwargs"], options["images_kwargs"]):
        tensors = options_of_part.get("return_tensors")
        if tensors is not None and plain(tensors) not in TENSOR_TYPES:
            raise ValueError(
                f"return_tensors is {tensors!r:.100}: give one of {TENSOR_TYPES}, or leave it out"
            )
    if processor.image_processor is not None:
        _check_sizes(processor.image_processor, options["images_kwargs"])
    return options


@contextmanager
def naming(part: str, keywords: Mapping[str, Any]) -> Iterator[None]:
    """Turn whatever a library raises into a `ValueError` that names the part and its options."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={shown(value)}" for name, value in keywords.items())
        reason = f"{type(error).__name__}: {error}"[:500]
        if given:
            raise ValueError(
                f"{part} cannot work with {given} ({reason}); correct or leave out what is wrong"
            ) from error
        raise ValueError(f"{part} cannot work with this input ({reason})") from error


def plain(choice: Any) -> Any:
    """The value of an enumeration's member; anything else as it is."""
    return getattr(choice, "value", choice)


def _refuse_unknown(processor: Any, keywords: Mapping[str, Any]) -> None:
    known: dict[str, set[str]] = {group: _known_to(processor, group) for group in GROUPS}
    known["common_kwargs"] = set().union(*known.values())
    everything = known["common_kwargs"] | set(known)
    for name, value in keywords.items():
        if name not in everything:
            raise ValueError(f"a call has no keyword {name!r}{_hint(name, everything)}; leave it out")
        if name in known:
            if not isinstance(value, Mapping):
                raise ValueError(f"{name} is {shown(value)}: give a mapping from keywords to values")
            for entry in value:
                if entry not in known[name]:
                    raise ValueError(
                        f"{name} has no keyword {entry!r}{_hint(entry, known[name])}; leave it out"
                    )


def _known_to(processor: Any, group: str) -> set[str]:
    part = getattr(processor, GROUPS[group])
    own = getattr(getattr(part, "valid_kwargs", None), "__annotations__", {})
    return {*processor.valid_processor_kwargs.__annotations__[group].__annotations__, *own}


def _hint(name: Any, known: set[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_sizes(image_processor: Any, options: Mapping[str, Any]) -> None:
    for name in SIZES:
        size: Any = options.get(name)
        if size is None:
            size = getattr(image_processor, name, None)
        # A number, several, or several with names.
        given = size.values() if hasattr(size, "values") else size
        for side in [given] if isinstance(given, int | float) else given or ():
            if isinstance(side, int | float) and not side**2 <= MAX_PIXELS:
                raise ValueError(
                    f"{name} is {shown(size)}: a picture of {side:g} x {side:g} has more than the limit of "
                    f"{MAX_PIXELS} pixels; choose the size that the encoder was made for"
                )
