"""The harness tells the five outcomes apart, on attempts whose outcome is known."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import Case, check, command, counts, run_case
from table import END, START, write_table

from modeling_mmorient import MMOrientConfig


def _exit(code: object) -> None:
    raise SystemExit(code)


def _sleep() -> None:
    try:
        time.sleep(5)
    except Exception:
        return


ATTEMPTS: list[tuple[str, Callable[[], object], str]] = [
    ("returns", lambda: None, "answered"),
    ("refuses the option", lambda: MMOrientConfig(frieze_encoders=True), "refused"),
    ("reports it in one line", lambda: _exit("error: frieze_encoders is unknown: leave it out"), "refused"),
    ("names something else", lambda: MMOrientConfig(image_neighbors=-1), "traceback"),
    ("says too little", lambda: _exit("error: frieze_encoders"), "traceback"),
    ("is a library's", lambda: int("frieze_encoders"), "traceback"),
    ("exits without a line", lambda: _exit(1), "traceback"),
    ("a process's traceback", lambda: command("-c", "int('frieze_encoders')"), "traceback"),
    ("a wrong answer", lambda: check(1 == 2, "1 is not 2"), "wrong"),
    ("over its time", _sleep, "hanging"),
    ("beyond 2 GB", lambda: torch.zeros(1 << 30), "hanging"),
    ("beyond 2 GB elsewhere", lambda: command("-c", "bytearray(100 << 30)"), "hanging"),
]


@pytest.mark.parametrize(("name", "attempt", "outcome"), ATTEMPTS, ids=[name for name, *_ in ATTEMPTS])
def test_outcomes_are_told_apart(name: str, attempt: Callable[[], object], outcome: str) -> None:
    ending = run_case(Case("harness", name, 0, "frieze_encoders", attempt, seconds=0.5))
    assert ending.outcome == outcome, ending


def test_the_page_keeps_the_rows_of_classes_that_were_not_run(tmp_path: Path) -> None:
    page = tmp_path / "attacks.md"
    page.write_text(f"# Attacks\n{START}\n{END}\nafter\n")
    cases = [Case(sweep, "returns", 0, "x", lambda: None) for sweep in ("b", "a", "b")]
    write_table(page, counts(map(run_case, cases)))
    write_table(page, {"a": {"answered": 2000, "refused": 1}})
    lines = page.read_text().splitlines()
    assert lines[0] == "# Attacks" and lines[-1] == "after"
    assert "| a | 2,001 | 2,000 | 1 | 0 | 0 | 0 |" in lines and "| b | 2 | 2 | 0 | 0 | 0 | 0 |" in lines
