"""What the docstring of a dataclass says about its fields: the one source of `--help`."""

import inspect
import re

# In an `Args:` section: names at its first indentation, what is said about them deeper.
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")


def field_docs(described: type) -> dict[tuple[str, ...], str]:
    """By the fields that an entry of the docstring's `Args:` is about, what it says, in one line.

    Args:
        described: A dataclass with a Google docstring.
    """
    section = (inspect.getdoc(described) or "").partition("Args:\n")[2]
    docs: dict[tuple[str, ...], str] = {}
    for line in section.splitlines():
        if (entry := _ENTRY.fullmatch(line)) is not None:
            names = tuple(entry[1].split(", "))
            docs[names] = entry[2]
        elif line.startswith(" " * 8):
            docs[names] += f" {line.strip()}"
        elif line:  # the next section
            break
    return docs


def field_summaries(described: type) -> dict[str, str]:
    """By field, the first sentence that the docstring says about it, without the full stop."""
    return {name: summary(text) for names, text in field_docs(described).items() for name in names}


def summary(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return re.split(r"\.(?=\s|$)", text, maxsplit=1)[0]
