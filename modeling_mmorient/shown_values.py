"""Values as error messages show them."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120
# The most characters of a value that are shown.
LONGEST = 400


def shown(value: Any) -> str:
    """The `repr` of any value, cut where it is long or deep; its type if `repr` fails."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # `repr` fails for an integer with thousands of digits, for example
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
