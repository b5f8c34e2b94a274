"""Requests of many clients, answered together, one batch after the other."""

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

# Rows that are answered together: a few passes of an accelerator.
BATCH_ROWS = 32
# How long the first request of a batch waits for others.
WAIT_SECONDS = 0.004
# Requests that may wait; further ones are told to come again.
MOST_WAITING = 256


class Busy(Exception):
    """More requests wait than are answered in a few seconds."""


class Batcher:
    """One thread that asks a model, and takes the requests that have come in meanwhile together.

    A request's rows are in one batch, and edits of the references run between batches: what is answered to a
    request is of one state of the references.

    Args:
        pipeline: An `MMOrientPipeline`.
        batch_rows: A batch takes no further request once it has so many rows.
        wait_seconds: How long the first request of a batch waits for others. Default: not at all on CPU,
            which answers row by row.

    Attributes:
        batches, rows: Answered so far.
    """

    def __init__(
        self, pipeline: Any, batch_rows: int = BATCH_ROWS, wait_seconds: float | None = None
    ) -> None:
        self.pipeline, self.batch_rows = pipeline, batch_rows
        waits = 0.0 if pipeline.device.type == "cpu" else WAIT_SECONDS
        self.wait_seconds = waits if wait_seconds is None else wait_seconds
        self.batches = self.rows = 0
        self._waiting: queue.Queue[Any] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True, name="batches")
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests and edits that are not begun."""
        return self._waiting.qsize()

    def submit(self, request: Any) -> "Future[Any]":
        """The answer to a request of `pipeline.read_request`, once it is there.

        Raises:
            Busy: If too many wait.
        """
        return self._put(request)

    def run(self, edit: Callable[[], Any]) -> "Future[Any]":
        """What an edit gives, once it has run between two batches.

        Raises:
            Busy: If too many wait.
        """
        return self._put(edit)

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _put(self, work: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            self._waiting.put_nowait((work, future))
        except queue.Full:
            raise Busy(f"{MOST_WAITING} requests wait already; try again in a few seconds") from None
        return future

    def _work(self) -> None:
        following = self._waiting.get()
        while following is not None:
            if callable(following[0]):
                _settle(following[1], following[0])
                following = self._waiting.get()
                continue
            batch = [following]
            following = self._gather(batch)
            self._answer(batch)
            if following == ():
                following = self._waiting.get()

    def _gather(self, batch: list[Any]) -> Any:
        """Add requests to a batch; what came in that is none, or () where nothing did."""
        rows, deadline = len(batch[0][0].rows), time.monotonic() + self.wait_seconds
        while rows < self.batch_rows:
            try:
                found = self._waiting.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                return ()
            if found is None or callable(found[0]):
                return found
            batch.append(found)
            rows += len(found[0].rows)
        return ()

    def _answer(self, batch: list[Any]) -> None:
        rows = [row for request, _ in batch for row in request.rows]
        self.batches += 1
        self.rows += len(rows)
        try:
            outputs = iter(self.pipeline.forward({"rows": rows})["rows"])
        except Exception:
            # One of them is at fault: each by itself, so that the others get their answers.
            for request, future in batch:
                _settle(future, partial(self.pipeline.answer_request, request))
            return
        for request, future in batch:
            own = [next(outputs) for _ in request.rows]
            _settle(future, partial(self.pipeline.finish_request, request, own))


def _settle(future: "Future[Any]", work: Callable[[], Any]) -> None:
    try:
        result = work()
    except Exception as error:
        future.set_exception(error)
    else:
        future.set_result(result)
