"""Texts as people hold them to token ids."""

from __future__ import annotations

from typing import Any

from .text_cleaning import clean_text

DEFAULT_TEXT_LENGTH = 128
DEFAULT_JOINT_LENGTH = 77
# Tokenizers say "no limit" with a number of thirty digits.
_NO_LIMIT = 1_000_000


def read_text(value: Any, clean: bool) -> str:
    """One text, empty where it is missing or blank.

    Args:
        value: A string, or None where the text is missing.
        clean: Apply `clean_text`.

    Raises:
        ValueError: `value` is something else, or holds halves of surrogate pairs.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"text is a string, or None where it is missing, got {value!r:.100}")
    text = clean_text(value) if clean else value
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode ({error}); set clean_text=True") from error
    return "" if text.isspace() else text


def checked_length(name: str, length: Any, tokenizer: Any, default: int | None) -> int | None:
    """The number of tokens, special ones included, after which a text is cut off.

    Args:
        name: Name of the option, for errors.
        length: The option's value; None takes the default.
        tokenizer: Tokenizer whose limit holds; None: there is nothing to check against.
        default: Length without an option, cut to the tokenizer's limit. None: the tokenizer's
            limit, or 77 (CLIP's) where it has none.

    Raises:
        ValueError: `length` is no integer, leaves no room beside the special tokens, or exceeds the
            tokenizer's limit; or the tokenizer has no padding token.
    """
    if tokenizer is None:
        return length
    if tokenizer.pad_token is None:
        raise ValueError(f"{type(tokenizer).__name__} has no padding token; set its pad_token")
    limit = tokenizer.model_max_length
    if length is None:
        default = default or (DEFAULT_JOINT_LENGTH if limit > _NO_LIMIT else limit)
        return min(default, limit)
    special = tokenizer.num_special_tokens_to_add()
    is_integer = isinstance(length, int) and not isinstance(length, bool)
    if not is_integer or not special < length <= limit:
        raise ValueError(
            f"{name} is an integer above {special} (the special tokens) and at most {limit} (the "
            f"tokenizer's limit), got {length!r}"
        )
    return length


def tokenize(tokenizer: Any, texts: list[str], options: dict[str, Any]) -> Any:
    """Tokenize; every row has at least one token, also that of an empty text.

    Args:
        tokenizer: Any tokenizer of transformers.
        texts: One text per row.
        options: Keywords of the tokenizer's call.
    """
    # Where no special tokens are added, an empty text would be a row that is masked out wholly.
    add_special_tokens = options.get("add_special_tokens", True)
    is_bare = not tokenizer("", add_special_tokens=add_special_tokens)["input_ids"]
    filler = (tokenizer.eos_token or tokenizer.pad_token) if is_bare else ""
    return tokenizer([text or filler for text in texts], **options)
