"""The command `mmorient`: its first argument names the command that takes the others."""

import difflib
import sys
from collections.abc import Sequence
from importlib import import_module

from mmorient.commands.running import run

# In the order of their use; each is a module of this package with a `main`.
COMMANDS = {
    "samples": "draw sample memes to try everything on",
    "init": "write a recipe for a table, guessing what its columns are",
    "inspect": "show what a recipe finds in its tables",
    "train": "train a model as a recipe says",
    "label": "label one meme",
    "predict": "predict every row of a table",
    "score": "score predictions",
    "explain": "show why a model answers what it does",
    "publish": "put a model on the Hub, with its card",
    "export": "write a model as an ONNX graph",
    "serve": "answer over HTTP",
    "demo": "show a model in the browser",
}
HELP = "\n".join(
    [
        "usage: mmorient COMMAND ...",
        "",
        "Train models that answer several questions about pictures with texts, and use them.",
        "",
        *(f"  {name:<10}{purpose}" for name, purpose in COMMANDS.items()),
        "",
        "mmorient COMMAND --help says more.",
    ]
)


def main(argv: Sequence[str] | None = None) -> None:
    """Carry out a command line, by default the process's own."""
    given = sys.argv[1:] if argv is None else list(argv)
    if not given or given[0] in ("-h", "--help"):
        print(HELP)
        return
    name = given[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        sys.exit(f"error: {name!r} is no command: choose one of {list(COMMANDS)}.{hint}")
    # Imported only now: a command's module loads what it needs, and `--help` need not wait for that.
    run(import_module(f"mmorient.commands.{name}").main, given[1:])


if __name__ == "__main__":
    main()
