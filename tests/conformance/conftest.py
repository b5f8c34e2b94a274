"""Gives the conformance tests transformers' suites, or keeps them from being collected."""

import json
import os
from pathlib import Path

import pytest

SUITES = os.environ.get("CONFORMANCE_SUITES")
RESULTS = os.environ.get("CONFORMANCE_RESULTS")

if SUITES is None:
    # An ordinary run of the tests: the suites come with tests/conformance/run.py.
    collect_ignore_glob = ["test_*.py"]
else:
    from suites import load_suites

    load_suites(Path(SUITES))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Writes a line per test, and per part of a test that did not pass, for run.py to read."""
    is_part = hasattr(report, "context")  # a `subTest`
    is_test = report.when == "call" and not is_part
    if RESULTS is None or (report.passed and not is_test):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    entry = {"test": report.nodeid, "part": is_part, "outcome": report.outcome, "reason": reason}
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
