"""Full disks, missing permissions and their like: said in one line, with the file and what to do."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or choose {place} on another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "get the permission, or choose {place}"),
    errno.EROFS: "choose {place} that can be written to",
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move what is there, or choose {place}"),
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or choose {place} on another disk",
    errno.ENAMETOOLONG: "choose {place} with a shorter name",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENOENT: "look whether it was moved or removed meanwhile",
}
OTHERWISE = "look after the disk, or choose {place}"
# How Python, and libraries in Rust, write an error of the operating system into a message.
SYSTEM_ERROR = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")
TORCH_WRITER = re.compile("PytorchStreamWriter|inline_container|iostream error")
FILE_NAME = re.compile(r"\[Errno \d+\] [^'\n]*: '(.*)'$", re.M)
# What a data loader puts before the message of an error in one of its processes.
OTHER_PROCESS = re.compile(r"Caught \w+ in .*process.*\nOriginal Traceback")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add this path to failures of the disk that do not name a file.

    Raises:
        OSError: Also instead of other errors by which libraries say that a file cannot be written.
    """
    try:
        yield
    except Exception as error:
        number = error_number(error)
        if number is None or file_name(error) is not None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def explained_failures(folders: Mapping[str, str]) -> Iterator[None]:
    """Explain a failure of the disk in one line.

    Args:
        folders: Where a run writes, by the name of the argument to change; the first one is assumed where
            an error names no file.

    Raises:
        ValueError: Says which file it is, what is wrong, and what to do.
    """
    try:
        yield
    except Exception as error:
        number = error_number(error)
        if number is None:
            raise
        file = file_name(error)
        first = next(iter(folders))
        argument = first if file is None else _argument(file, folders)
        place = "a place" if argument is None else f"another `{argument}`"
        remedy = REMEDIES.get(number, OTHERWISE).format(place=place)
        shown = folders[first] if file is None else file
        raise ValueError(f"{shown}: {os.strerror(number)}: {remedy}, and start again.") from error


def error_number(error: BaseException) -> int | None:
    """The operating system's number of a failure, also where a library hides it; None for other errors."""
    if isinstance(error, OSError) and error.errno is not None:
        # Libraries explain network failures better themselves.
        known = error.errno in errno.errorcode and not isinstance(error, ConnectionError | TimeoutError)
        return error.errno if known else None
    found = None if isinstance(error, ValueError) else SYSTEM_ERROR.search(str(error))
    if found is not None:
        return int(found[1] or found[2])
    if isinstance(error, RuntimeError) and TORCH_WRITER.search(str(error)):
        # Where a write fails, torch does not give the reason.
        return next((known for known in errno.errorcode if os.strerror(known) in str(error)), errno.ENOSPC)
    return None


def file_name(error: BaseException) -> str | None:
    """The file that a failure is about, where it says so."""
    if isinstance(error, OSError) and error.filename is not None:
        return str(error.filename2 or error.filename)
    found = FILE_NAME.search(str(error))
    return None if found is None else found[1]


def one_line(error: Exception) -> str:
    """An error's message, without the traceback that a data loader's process puts before it."""
    message = str(error)
    if OTHER_PROCESS.match(message):
        return message.rstrip().splitlines()[-1].partition(": ")[2]
    return message


def _argument(file: str, folders: Mapping[str, str]) -> str | None:
    """The argument that names the folder in which a file is."""
    path = os.path.abspath(file)
    for name, folder in folders.items():
        place = os.path.abspath(os.path.expanduser(folder))
        # Where the folder cannot be made, the error may name a folder above it.
        if os.path.commonpath([path, place]) in (path, place):
            return name
    return None
