"""Ending a process in the middle of a save."""

import os
import sys

#: What a save does to the disk, by the names of Python's audit events.
STEPS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "fcntl.flock", "os.scandir"}


def end_at(step: int) -> None:
    """End this process, with status 9, as it is about to take the given step (from 1) on the disk."""
    left = [step]

    def count(event: str, _: object) -> None:
        if event in STEPS:
            left[0] -= 1
            if left[0] <= 0:
                os._exit(9)

    sys.addaudithook(count)
