"""Attacks on the project: what a hostile or broken input may end in, and the count of what it did end in.

A `Case` is one attack. Its attempt, a callable without arguments, does what a user would do with the input.
It returns where there is an answer, after it has checked the answer itself with `check`. Of the outcomes,
only the first two are allowed:

    answered   the attempt returned, and its own checks of the answer held
    refused    the project's own error, which names the thing that is wrong and says more than that
    traceback  any other exception: a library's, the system's, or a message that does not name the thing
    wrong      an answer that the attempt's `check` found to be wrong
    hanging    more time than the case has, or 2 GB of memory more than before it

Everything is drawn by `random.Random(seed)` of the case's own seed, so that a case can be repeated alone.
"""

import contextlib
import io
import linecache
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, get_args

ROOT = Path(__file__).parents[2]
OWN_CODE = tuple(str(ROOT / room) + os.sep for room in ("modeling_mmorient", "mmorient", "training"))
# Code that a model folder brings along runs from the cache of transformers, under the package's module names.
REMOTE_CODE = "transformers_modules"
MEMORY = 2 << 30
SHORTEST_MESSAGE = 5  # words: a thing, its value and a remedy do not fit into fewer
OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "memoryerror",
    "bad_alloc",
)

Outcome = Literal["answered", "refused", "traceback", "wrong", "hanging"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
LARGE = os.environ.get("ATTACK") == "large"
ONLY = os.environ.get("ATTACK_ONLY", "")


@dataclass(frozen=True)
class Case:
    """One attack.

    Args:
        sweep: Class of the attack, a row of the table in `docs/attacks.md`.
        name: Says what is attacked and how. With the seed it names the case alone.
        seed: Of everything that the case draws.
        thing: What a refusal must name, in small or capital letters; of several, one of them.
        attempt: Does it; returns where there is an answer.
        seconds: How long it may take.
    """

    sweep: str
    name: str
    seed: int
    thing: str | tuple[str, ...]
    attempt: Callable[[], object]
    seconds: float = 20.0

    @property
    def title(self) -> str:
        return f"{self.name}#{self.seed}"


@dataclass(frozen=True)
class Ending:
    """How a case ended: `message` is the refusal's text, or what went wrong."""

    case: Case
    outcome: Outcome
    message: str = ""

    def __str__(self) -> str:
        return f"{self.outcome}: {self.case.title} [{self.case.sweep}]\n    {self.message.strip()[-600:]}"


class WrongAnswer(Exception):
    """An attempt's check of its answer failed."""


class OverTime(BaseException):
    """The time of a case is over. No `except Exception` of the code under attack may swallow it."""


def check(right: object, message: str) -> None:
    """Ends the attempt as `wrong` unless `right`."""
    if not right:
        raise WrongAnswer(message)


def amount(small: int, large: int) -> int:
    """How many cases to draw: `small` under `make test`, `large` under `make attack`."""
    return large if LARGE else small


def command(*arguments: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """The standard output of `python ARGUMENTS`, run as a process of its own with the harness's limits.

    Raises:
        SystemExit: It ended with a status other than 0 and without a traceback; with its standard error.
        RuntimeError: It ended with a traceback, or was killed.
    """
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode == 0:
        return output
    if process.returncode < 0 or "Traceback (most recent call last)" in errors:
        raise RuntimeError(f"status {process.returncode}: {errors[-2000:]}")
    raise SystemExit(errors)


def run_case(case: Case) -> Ending:
    """Runs a case within its limits of time and memory, with its output kept off the terminal."""
    errors = io.StringIO()
    try:
        with (
            _limits(case.seconds),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(errors),
        ):
            case.attempt()
    except OverTime:
        return Ending(case, "hanging", f"took more than {case.seconds} s")
    except WrongAnswer as error:
        return Ending(case, "wrong", str(error))
    except SystemExit as exit:
        return _exit_ending(case, exit, errors.getvalue())
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if any(sign in text.lower() for sign in OUT_OF_MEMORY):
            return Ending(case, "hanging", f"asked for more than 2 GB: {text}")
        if isinstance(error, ValueError | OSError) and _raised_by_us(error):
            return _refusal(case, str(error))
        where = "".join(traceback.format_tb(error.__traceback__)[-1:])
        return Ending(case, "traceback", f"{text[:400]}\n{where}")
    return Ending(case, "answered")


def run_cases(cases: Iterable[Case]) -> list[Ending]:
    """Runs the cases one after the other; with ATTACK_ONLY set, those whose title contains it."""
    return [run_case(case) for case in cases if ONLY in case.title]


def counts(endings: Iterable[Ending]) -> dict[str, dict[str, int]]:
    """Of each class of attack, how many cases ended in which outcome."""
    tally: dict[str, Counter[str]] = {}
    for ending in endings:
        tally.setdefault(ending.case.sweep, Counter())[ending.outcome] += 1
    return {sweep: dict(outcomes) for sweep, outcomes in tally.items()}


def _exit_ending(case: Case, exit: SystemExit, errors: str) -> Ending:
    if exit.code is None or exit.code == 0:
        return Ending(case, "answered")
    text = exit.code if isinstance(exit.code, str) else errors
    lines = [line for line in text.splitlines() if line.startswith("error: ") or ": error: " in line]
    if any(sign in text.lower() for sign in OUT_OF_MEMORY):
        return Ending(case, "hanging", f"asked for more than 2 GB: {text}")
    if len(lines) != 1:
        return Ending(case, "traceback", f"{len(lines)} lines with `error: ` instead of one: {text}")
    return _refusal(case, text[text.index(lines[0]) :])


def _refusal(case: Case, message: str) -> Ending:
    things = (case.thing,) if isinstance(case.thing, str) else case.thing
    if not any(thing.lower() in message.lower() for thing in things):
        return Ending(case, "traceback", f"the message does not name {' or '.join(things)}: {message}")
    if len(message.split()) < SHORTEST_MESSAGE:
        return Ending(case, "traceback", f"the message says too little: {message}")
    return Ending(case, "refused", message)


def _raised_by_us(error: BaseException) -> bool:
    """Whether a `raise` of the project's own code raised the error, not a function that it called."""
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    file = frame.f_code.co_filename
    if not (file.startswith(OWN_CODE) or REMOTE_CODE in file):
        return False
    return linecache.getline(file, line).lstrip().startswith("raise")


@contextlib.contextmanager
def _limits(seconds: float) -> Iterator[None]:
    """An alarm after so many seconds, and no more than 2 GB of private memory beyond what the process has."""

    def over(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise OverTime

    before: Any = signal.signal(signal.SIGALRM, over)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_private_memory() + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:")) << 10
