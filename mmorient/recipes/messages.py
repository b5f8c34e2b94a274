"""Parts of messages about what a person wrote: values as they are shown, names that were perhaps meant."""

import difflib
from collections.abc import Collection
from typing import Any

# Of a value in a message.
SHOWN_CHARACTERS = 200


def nearest(name: Any, known: Collection[str]) -> str:
    """The question whether one of the known names was meant; empty where none resembles the given one."""
    words = [other for other in known if str(name) in other or other in str(name)] if name else []
    close = difflib.get_close_matches(str(name), known, n=1) or sorted(words, key=len)[:1]
    return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
