"""How a command ends."""

import sys
from collections.abc import Callable, Sequence

from mmorient.files.disk_failures import one_line


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Carry out a command: what it refuses ends as one line `error: ...` and status 1."""
    try:
        main(argv)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
