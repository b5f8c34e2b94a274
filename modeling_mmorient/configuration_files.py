"""`config.json` as a dict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_configuration(path: Any) -> dict[str, Any]:
    """The entries of a configuration's file.

    Args:
        path: Of the file, which exists.

    Raises:
        ValueError: If it holds no JSON object, or names another file, naming the file and what is wrong.
    """
    path = Path(path)
    try:
        entries = json.loads(path.read_bytes().decode("utf-8"))
    # Neither text nor JSON; too deep for a parser; numbers of some thousand digits.
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON in UTF-8 ({error}): it was cut short or altered; copy it again."
        ) from None
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds no JSON object: it is no configuration; copy it again.")
    if "configuration_files" in entries:
        raise ValueError(
            f"{path} has `configuration_files`, which name other files to read instead: remove the entry."
        )
    return entries
