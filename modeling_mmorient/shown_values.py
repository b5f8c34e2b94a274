"""Values as error messages show them."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 4
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 20
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120
# What is left of any value.
LONGEST = 400


def shown(value: Any) -> str:
    """The `repr` of any value, cut where it is long or deep; of one without, its type."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # of an integer of some thousand digits, for one, there is none
        return f"<{type(value).__name__}>"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
