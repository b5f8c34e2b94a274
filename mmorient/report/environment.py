"""How values get into a page: escaped, of bounded length, without characters that change how it is read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# What pages call the relation graphs.
GRAPHS = {"image": "Picture graph", "text": "Text graph"}
# Of a name or a text, in characters: a page repeats some names a dozen times.
MAX_LENGTH = 2000
# Control characters, orders to turn the reading direction of what follows, halves of surrogate pairs (which
# JSON can hold and UTF-8 cannot), and what is no character.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)


def page_environment(templates: Sequence[Path], filters: Mapping[str, Any]) -> Environment:
    """Jinja's environment for pages from data that nobody has checked.

    Whatever a template writes is [`showable`] and escaped, unless it is `Markup`, which only own code makes.

    Args:
        templates: Folders to look for templates in.
        filters: By name.
    """
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=showable,
    )
    environment.filters.update(filters)
    return environment


def showable(value: Any) -> Any:
    """A text as a page shows it, and anything else, `Markup` too, as it is.

    A text is cut after `MAX_LENGTH` characters, and each character that would not be seen as itself becomes
    U+FFFD.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    cut = value if len(value) <= MAX_LENGTH else value[: MAX_LENGTH - 1] + "…"
    return cut if cut.isascii() and cut.isprintable() else _UNSHOWN.sub("\ufffd", cut)
