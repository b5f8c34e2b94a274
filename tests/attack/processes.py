"""Commands in processes of their own, which can be killed at a moment that a seed chooses."""

import os
import resource
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from harness import ROOT

# Of `sys.addaudithook`: what a command does to files.
STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.listdir", "os.scandir", "fcntl.flock"}
TRAIN, PREDICT, EXPLAIN = (f"mmorient/commands/{name}.py" for name in ("train", "predict", "explain"))


class Command:
    """`python SCRIPT ARGUMENTS`, forked from this process, so that nothing is imported again.

    Args:
        script: Of the project.
        arguments: Of the script.
        log: File for what it prints.
        kill_at: Number of its steps on files (`STEPS`) before which it is killed; None: it is not.
        largest_file: Limit of the files that it may write, in bytes.
    """

    def __init__(
        self,
        script: str,
        arguments: Sequence[str],
        log: Path,
        kill_at: int | None = None,
        largest_file: int | None = None,
    ) -> None:
        self.log = log
        sys.stdout.flush()
        self.process = os.fork()
        if not self.process:
            try:
                _run(script, arguments, log, kill_at, largest_file)
            finally:
                os._exit(70)

    def end(self, seconds: float = 100.0) -> int:
        """Waits for its exit status, negative for a signal. It is killed when the time is over."""
        limit = time.monotonic() + seconds
        try:
            while time.monotonic() < limit:
                process, status = os.waitpid(self.process, os.WNOHANG)
                if process:
                    self.process = 0
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.01)
            raise TimeoutError(f"no end after {seconds} s: {self.printed[-2000:]}")
        finally:
            self.kill()

    def kill(self) -> None:
        """Kills it, if it has not ended."""
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
            self.process = 0

    @property
    def printed(self) -> str:
        """What it has printed so far, each state of a progress bar in a line of its own."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return text.replace("\r", "\n").replace("\x1b[A", "\n")

    @property
    def steps(self) -> int:
        """How many steps on files it took; once it has ended, and was not killed."""
        return int(self.printed.rpartition("steps on files: ")[2])


def finished(script: str, arguments: Sequence[str], log: Path) -> Command:
    """A command that must end well.

    Raises:
        RuntimeError: It did not; with what it printed.
    """
    command = Command(script, arguments, log)
    if status := command.end():
        raise RuntimeError(f"status {status}: {command.printed[-1800:]}")
    return command


def refusal(command: Command) -> str:
    """What a command that must end badly says, which is one line that begins with `error: `.

    Raises:
        RuntimeError: It ended otherwise.
    """
    status, printed = command.end(), command.printed
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    if status != 1 or len(lines) != 1 or "Traceback (most recent call last)" in printed:
        raise RuntimeError(f"status {status}, {len(lines)} lines with `error: `: {printed[-1800:]}")
    return lines[0]


def _run(
    script: str, arguments: Sequence[str], log: Path, kill_at: int | None, largest_file: int | None
) -> None:
    steps = 0

    def count(event: str, _arguments: object) -> None:
        nonlocal steps
        if event in STEPS:
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    status = 0
    with log.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        sys.argv = [script, *arguments]
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        sys.addaudithook(count)
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as exit:
            if exit.code:
                status = 1
                print(exit.code, file=file)
        except BaseException:
            status = 1
            traceback.print_exc(file=file)
        print(f"steps on files: {steps}", file=file)
        file.flush()
    os._exit(status)
