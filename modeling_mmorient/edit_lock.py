"""A lock that does not stand in the way of copies."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any


class EditLock:
    """A `threading.RLock` whose deep copies and pickles are locks of their own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return EditLock, ()
