"""What a server counts, in the text form that Prometheus reads."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

PREFIX = "mmorient"
# Upper ends of the histogram of seconds.
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Seen:
    """How a request ends: its HTTP status."""

    status: int = 200


class Metrics:
    """Requests by route and status, and how long they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.within: Counter[tuple[str, float]] = Counter()
        self.seconds: Counter[str] = Counter()
        self.lock = threading.Lock()

    @contextmanager
    def timed(self, route: str) -> Iterator[Seen]:
        """Count what happens inside as one request of a route."""
        seen, start = Seen(), time.perf_counter()
        try:
            yield seen
        finally:
            seconds = time.perf_counter() - start
            with self.lock:
                self.requests[route, seen.status] += 1
                self.seconds[route] += seconds  # type: ignore[assignment]
                for bucket in BUCKETS:
                    self.within[route, bucket] += seconds <= bucket

    def text(self, others: Mapping[str, tuple[str, int]]) -> str:
        """All of it; `others` are further numbers by name, with their type."""
        lines = [f"# TYPE {PREFIX}_requests_total counter"]
        with self.lock:
            for (route, status), count in sorted(self.requests.items()):
                lines.append(f'{PREFIX}_requests_total{{route="{route}",status="{status}"}} {count}')
            lines.append(f"# TYPE {PREFIX}_request_seconds histogram")
            for route, total in sorted(self.seconds.items()):
                count = sum(number for (of, _), number in self.requests.items() if of == route)
                name = f"{PREFIX}_request_seconds"
                for bucket in BUCKETS:
                    number = self.within[route, bucket]
                    lines.append(f'{name}_bucket{{route="{route}",le="{bucket}"}} {number}')
                lines.append(f'{name}_bucket{{route="{route}",le="+Inf"}} {count}')
                lines.append(f'{name}_sum{{route="{route}"}} {total:.6f}')
                lines.append(f'{name}_count{{route="{route}"}} {count}')
        for name, (kind, value) in others.items():
            lines += [f"# TYPE {PREFIX}_{name} {kind}", f"{PREFIX}_{name} {value}"]
        return "\n".join(lines) + "\n"
