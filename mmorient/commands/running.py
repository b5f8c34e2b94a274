"""How a command is carried out, and how it ends."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mmorient.files.disk_failures import one_line

# By extra of the distribution, the modules that it installs; pip knows some of them by other names.
EXTRAS = {
    "train": (
        *("accelerate", "datasets", "evaluate", "filelock", "huggingface_hub", "jinja2", "matplotlib"),
        *("numpy", "pyarrow", "sklearn", "scipy", "xxhash", "yaml"),
        "tqdm",  # which `datasets` and others bring
    ),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "serve": ("fastapi", "uvicorn"),
    "demo": ("gradio",),
}
WIDTH = 110


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> None:
    """Carry out a command: what it refuses ends as one line `error: ...` and status 1.

    Args:
        main: The function of a command's module. It imports what takes long to load after parsing the
            arguments, so that `--help` need not wait for it.
        argv: The arguments after the command's name.
    """
    try:
        main(argv)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = next((extra for extra, modules in EXTRAS.items() if missing in modules), None)
        if extra is None:
            raise
        # If the command's module was run itself, its name is `__main__`.
        name = sys.modules[main.__module__].__spec__.name.rpartition(".")[2]  # type: ignore[union-attr]
        sys.exit(
            f"error: `mmorient {name}` needs {missing}, which is not installed: "
            f"pip install 'mmorient[{extra}]'"
        )


def command_parser(name: str, description: str, **options: Any) -> argparse.ArgumentParser:
    """The parser of a command, whose help fits a screen and shows defaults in brackets.

    Args:
        name: Of the command.
        description: What it does, for its help.
        options: Further ones of `ArgumentParser`.
    """
    return argparse.ArgumentParser(
        prog=f"mmorient {name}", description=description, formatter_class=_Formatter, **options
    )


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=WIDTH)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, argparse.SUPPRESS) and not isinstance(action.default, bool)
        return f"{action.help} [%(default)s]" if shown else action.help
