"""What a processor's call is given: rows of pictures and texts, and keywords for its parts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import BatchFeature

from .image_input import MAX_PIXELS, blank_image, load_image
from .shown_values import shown
from .text_input import read_text

TENSOR_TYPES = ("pt", "np")
# Of an array's dimensions.
LAYOUTS = ("channels_first", "channels_last")
# Groups of keywords, each a mapping, and the part that takes them.
GROUPS = {"text_kwargs": "tokenizer", "images_kwargs": "image_processor"}
# Keywords that would change the number of rows, or what a row is.
REFUSED_KEYWORDS = (
    "text_pair",
    "text_target",
    "text_pair_target",
    "is_split_into_words",
    "return_overflowing_tokens",
)
# Options of an image processor that decide the size of the pictures it returns.
SIZES = ("size", "crop_size", "pad_size")


def as_rows(name: str, value: Any, is_single: Callable[[Any], bool]) -> list[Any] | None:
    """One entry per row; None for an argument that was not given.

    Args:
        name: Name of the argument, for errors.
        value: An entry, or a sequence of entries.
        is_single: Tells an entry from a sequence of entries.

    Raises:
        ValueError: `value` is an empty sequence.
    """
    if value is None:
        return None
    if is_single(value):
        return [value]
    if not isinstance(value, Sequence):
        raise ValueError(f"{name} is one entry or a list of entries, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} is an empty list; give one entry per row, or leave the argument out")
    return list(value)


def unwrap_images(pictures: list[Any] | None) -> list[Any] | None:
    """Accept a list of pictures per row, as is common in transformers, if it holds one or none.

    Raises:
        ValueError: A row has several pictures.
    """
    if pictures is None:
        return None
    unwrapped = []
    for row, entry in enumerate(pictures):
        if isinstance(entry, list | tuple):
            if len(entry) > 1:
                raise ValueError(f"row {row}: a row has one picture, got a list of {len(entry)}")
            entry = entry[0] if entry else None
        unwrapped.append(entry)
    return unwrapped


def check_rows(pictures: list[Any] | None, texts: list[str] | None) -> None:
    """Check that there are as many pictures as texts, and that every row has one of them.

    Args:
        pictures: One entry per row, None where the picture is missing; None: no pictures at all.
        texts: One entry per row, empty where the text is missing; None: no texts at all.

    Raises:
        ValueError: There is no input, the numbers differ, or a row has neither.
    """
    if pictures is None and texts is None:
        raise ValueError("there is no input; give images, text, or both")
    if pictures is not None and texts is not None and len(pictures) != len(texts):
        raise ValueError(
            f"got {len(pictures)} pictures and {len(texts)} texts; give one of each per row, "
            "None where it is missing"
        )
    for row in range(len(pictures or texts or [])):
        if not (pictures and pictures[row] is not None) and not (texts and texts[row]):
            raise ValueError(
                f"row {row}: there is neither a picture nor a text (a text that is blank, before "
                "or after cleaning, counts as missing); leave the row out"
            )


def read_texts(texts: list[Any], clean: bool) -> list[str]:
    """One text per row, empty where it is missing; see `text_input.read_text` for arguments and errors."""
    read = []
    for row, value in enumerate(texts):
        try:
            read.append(read_text(value, clean))
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
    return read


def encode_images(
    image_processor: Any, pictures: list[Any], options: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """`pixel_values` of the rows' pictures, zeros for a missing one, and `image_present`.

    Args:
        image_processor: The processor's; None: it has none.
        pictures: One entry per row, None where the picture is missing.
        options: Of the image processor, and `input_data_format`.

    Raises:
        ValueError: Naming the row that cannot be read, or what the image processor does wrong.
    """
    if image_processor is None:
        raise ValueError("pictures were given, but the processor has no image_processor")
    layout = options.pop("input_data_format", None)
    channels_first = None if layout is None else _is_first(layout)
    # One at a time: an error has a row, and only one picture is in memory at full size.
    pixels: list[torch.Tensor | None] = []
    for row, picture in enumerate(pictures):
        try:
            loaded = None if picture is None else load_image(picture, channels_first)
            pixels.append(None if loaded is None else _pixel_values(image_processor, loaded, options))
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
    reference = next((values for values in pixels if values is not None), None)
    if reference is None:  # only the image processor knows how large its pictures come out
        reference = _pixel_values(image_processor, blank_image(), options)
    for row, values in enumerate(pixels):
        if values is not None and values.shape != reference.shape:
            raise ValueError(
                f"row {row}: the image processor gives shape {tuple(values.shape)}, and "
                f"{tuple(reference.shape)} before; it must bring all pictures to one size (do_resize, "
                "do_center_crop, size, crop_size)"
            )
    filled = [torch.zeros_like(reference) if values is None else values for values in pixels]
    present = torch.tensor([values is not None for values in pixels])
    return {"pixel_values": torch.stack(filled), "image_present": present}


def merged_options(processor: Any, keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The options of the image processor and the tokenizer, by group; the keywords win over saved ones.

    Args:
        processor: An `MMOrientProcessor`.
        keywords: Of its call.

    Raises:
        ValueError: A keyword is unknown, has a value that no part takes, or would change the number of rows.
    """
    _refuse_unknown(processor, keywords)
    # The tokenizer's saved max_length is only the default of text_max_length and does not override it.
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


def as_batch(data: dict[str, Any], return_tensors: Any) -> BatchFeature:
    """What a call returns: tensors or arrays, or lists where `return_tensors` is None."""
    if return_tensors is None or plain(return_tensors) != "pt":
        data = {
            name: values.cpu().numpy() if isinstance(values, torch.Tensor) else values
            for name, values in data.items()
        }
    if return_tensors is None:  # as other processors: lists, of arrays where it is pictures
        for name in {"pixel_values", "image_present", "text_present"} & set(data):
            data[name] = list(data[name]) if name == "pixel_values" else data[name].tolist()
    return BatchFeature(data, tensor_type=return_tensors)


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


def _pixel_values(image_processor: Any, picture: Any, options: dict[str, Any]) -> torch.Tensor:
    with naming("the image processor (images_kwargs)", options):
        encoded = image_processor(picture, **{**options, "return_tensors": "pt"})
    if set(encoded) != {"pixel_values"} or encoded["pixel_values"].ndim != 4:
        raise ValueError(
            f"{type(image_processor).__name__} gives {', '.join(sorted(encoded))}; needed "
            "is one that gives pixel_values (batch, channels, height, width) and nothing else"
        )
    if not encoded["pixel_values"].isfinite().all():
        raise ValueError(
            "the image processor gives pixels that are not finite: correct its rescale_factor, "
            "image_mean and image_std"
        )
    return encoded["pixel_values"][0]


def _is_first(layout: Any) -> bool:
    if plain(layout) not in LAYOUTS:
        raise ValueError(f"input_data_format is {layout!r:.100}: give one of {LAYOUTS}")
    return plain(layout) == LAYOUTS[0]


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
        # One number, a sequence of numbers, or a mapping from names to numbers.
        given = size.values() if hasattr(size, "values") else size
        for side in [given] if isinstance(given, int | float) else given or ():
            if isinstance(side, int | float) and not side**2 <= MAX_PIXELS:
                raise ValueError(
                    f"{name} is {shown(size)}: a picture of {side:g} x {side:g} has more than the limit of "
                    f"{MAX_PIXELS} pixels; choose the size that the encoder was made for"
                )
