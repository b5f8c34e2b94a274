"""A recipe's file: YAML in which every key stands once, of a size that a person writes."""

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmorient.files.data_folders import data_folder
from mmorient.files.kept_at_home import keep_at_home
from mmorient.files.whole_files import write_text
from mmorient.recipes.messages import nearest

# What a run did, in its folder.
RUN_RECIPE = "recipe.yaml"
# What a file may come to once its anchors are written out: far more than any recipe has.
MOST_NODES, MOST_LEVELS = 100_000, 50
MOST_BYTES = 10_000_000
# Of a number; Python refuses to show much longer ones.
MOST_DIGITS = 100


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    return {path.stem: path for path in sorted(data_folder("recipes").glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe: a file of that name, or else the shipped recipe of that name.

    Raises:
        ValueError: If there is neither.
    """
    path, shipped = Path(name), shipped_recipes()
    if path.is_file() or (path.is_dir() and name not in shipped):
        return path
    if name in shipped:
        return shipped[name]
    raise ValueError(
        f"{name!r} is no file: the first argument is the recipe, a YAML file, or the name of one that comes "
        f"with the package, {list(shipped)}.{nearest(name, shipped)}"
    )


def save_recipe(given: Mapping[str, Any], folder: Path) -> None:
    """Leave `recipe.yaml` in a run's folder, and out of its uploads: it names folders of this machine.

    Args:
        given: The arguments that are not the defaults.
        folder: The run's.
    """
    keep_at_home(folder, RUN_RECIPE)
    whole = {**given, "data_dir": str(Path(given.get("data_dir", ".")).expanduser().resolve())}
    write_text(folder / RUN_RECIPE, yaml.safe_dump(whole, allow_unicode=True, sort_keys=False, width=110))


def read_recipe(path: Path) -> dict[str, Any]:
    """The arguments in a recipe, by name.

    Raises:
        ValueError: If it is no file, cannot be read, is not in UTF-8, is no YAML mapping, gives a key twice,
            or is larger than a recipe can be. The message says where.
    """
    try:
        loader = yaml.SafeLoader(_read_text(path))
        node = loader.get_single_node()
        if node is not None:
            _check(node, path)
        recipe = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise ValueError(f"the recipe {path} is not YAML{place}: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the recipe {path} is not YAML: {reason}.") from None
    except RecursionError:
        raise ValueError(f"the recipe {path} is nested too deep: at most {MOST_LEVELS} levels.") from None
    if recipe is None:
        raise ValueError(f"the recipe {path} is empty: give arguments such as `train_file` and `tasks`.")
    if not isinstance(recipe, dict):
        raise ValueError(
            f"the recipe {path} holds a {type(recipe).__name__}: it is a mapping from argument to value."
        )
    return recipe


def _read_text(path: Path) -> str:
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder: the first argument is the recipe, a YAML file.")
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is no file: the first argument is the recipe, a YAML file.")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"the recipe {path} cannot be read: {error.strerror}.") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes: the first argument is a recipe.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ValueError(f"the recipe {path} is in UTF-16, or no text at all: save it as UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"the recipe {path} is not in UTF-8 (line {line}, byte {content[error.start]:#04x}): save it so."
        ) from None


def _check(root: yaml.Node, path: Path) -> None:
    """Walk a file as it is with its anchors written out, which are otherwise one object in many places."""
    waiting = [(root, 1)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        node, level = waiting.pop()
        line = node.start_mark.line + 1
        if level > MOST_LEVELS:
            raise ValueError(
                f"the recipe {path} is nested too deep at line {line}: at most {MOST_LEVELS} levels."
            )
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, path)
        elif isinstance(node, yaml.ScalarNode):
            _check_value(node, path)
        waiting += [(inner, level + 1) for inner in _inner(node)]
    raise ValueError(
        f"the recipe {path} comes to more than {MOST_NODES:,} values with its anchors (`&`) written out "
        "wherever they are used (`*`): write it without them."
    )


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise ValueError(
                    f"the recipe {path} gives {key.value!r} twice, in lines {lines[name]} and {line}: leave "
                    "one of them out."
                )
            lines[name] = line


def _check_value(node: yaml.ScalarNode, path: Path) -> None:
    kind = node.tag.rpartition(":")[2]
    if kind in ("int", "float") and len(node.value) > MOST_DIGITS:
        raise ValueError(
            f"the recipe {path} has a number of {len(node.value):,} characters at line "
            f"{node.start_mark.line + 1}: no argument takes it."
        )
    if kind not in ("int", "float", "bool", "timestamp"):
        return
    try:
        # It may look like one, as the date 2020-13-45 does, or be said to be one, as in `!!int x`.
        yaml.constructor.SafeConstructor().construct_object(node)
    except (ValueError, ArithmeticError, AttributeError, LookupError):
        raise ValueError(
            f"the recipe {path} has the {kind} {node.value!r} at line {node.start_mark.line + 1}, which is "
            "none: put it in quotes if it is text."
        ) from None


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
