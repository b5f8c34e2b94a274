"""The help of commands that take a recipe: a screen of the toolkit's own arguments, or all of them."""

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_origin, get_type_hints

from mmorient.commands.running import WIDTH
from mmorient.recipes.arguments import DataArguments, ModelArguments, RunArguments
from mmorient.recipes.field_docs import field_docs, summary

TITLES = {DataArguments: "data", ModelArguments: "model", RunArguments: "run"}
# The column in which descriptions begin.
COLUMN = 31
KINDS = {int: "N", float: "N", bool: "true|false", list: "X ...", dict: "JSON", str: "X"}


def print_recipe_help(command: str, purpose: str, argv: Sequence[str]) -> bool:
    """Print the help of a command if it is asked for, and return whether it was.

    Args:
        command: The command's name.
        purpose: What it does, in a sentence.
        argv: Its arguments.
    """
    if not {"-h", "--help", "--help_all"} & set(argv):
        return False
    print(f"usage: mmorient {command} RECIPE [--field value ...]\n\n{textwrap.fill(purpose, WIDTH)}\n")
    print("RECIPE is a YAML file, or the name of a recipe that comes with the package. Its fields, which the")
    print("command line may set too, with their defaults in brackets:")
    for described, title in TITLES.items():
        print(f"{title}:\n{_section(described)}")
    if "--help_all" in argv:
        from transformers import HfArgumentParser, TrainingArguments  # which the short help need not wait for

        HfArgumentParser(TrainingArguments, prog=f"mmorient {command}", usage="").print_help(sys.stdout)
    else:
        print("training: transformers' TrainingArguments, such as --output_dir, --num_train_epochs,")
        print("  --learning_rate, --per_device_train_batch_size, --seed; --help_all lists them.")
    return True


def _section(described: Any) -> str:
    """A line or two for each of a dataclass's fields, as its docstring says."""
    given, hints = {field.name: field for field in fields(described)}, get_type_hints(described)
    lines = []
    for names, text in field_docs(described).items():
        defaults = list(dict.fromkeys(_default(given[name]) for name in names))
        options = f"  {', '.join(f'--{name}' for name in names)} {_kind(hints[names[0]])}"
        about = textwrap.wrap(f"{summary(text)} [{', '.join(defaults)}]", WIDTH - COLUMN)
        if len(options) >= COLUMN:
            lines.append(options)
            options = ""
        lines += [
            f"{left:<{COLUMN}}{right}"
            for left, right in zip([options, *[""] * len(about)], about, strict=False)
        ]
    return "\n".join(lines)


def _kind(hint: Any) -> str:
    """The type shown after an option, by the annotation of its field."""
    kinds = get_args(hint) if get_origin(hint) not in (list, None) else (hint,)
    first = kinds[0]
    return KINDS[get_origin(first) or first]


def _default(field: Field[Any]) -> str:
    value = field.default if field.default_factory is MISSING else field.default_factory()
    if isinstance(value, list):
        return " ".join(value) or "none"
    return str(value).lower() if isinstance(value, bool | None) else str(value)
