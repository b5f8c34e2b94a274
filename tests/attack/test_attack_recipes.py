"""Recipes and command lines: every argument with values of every kind, and files that are damaged."""

import dataclasses
import functools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from damage import damaged
from harness import LARGE, ROOT, Case, amount, check

from mmorient.recipes.recipe import ARGUMENTS, parse_recipe

TASKS = {"humour": {"labels": ["no", "yes"]}}
NAMES = [given.name for made in ARGUMENTS for given in dataclasses.fields(made) if given.init]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, -2, 3.5, 1e300, -1e300, float("nan"), float("inf"), 10**30, 2**63),
    *("", "x", "none", "no", "1e400", "nan", "-inf", "../..", "a\x00b", "é" * 300, "steps", "auto"),
    *([], [1], ["x"], [[["x"]]], {}, {"a": 1}, {"x": {"y": [1, None]}}, {1: 2}, "{}", "[1]", '{"a": NaN}'),
]
# Whose refusal of a value need not name the argument.
OTHERS = ("`TrainingArguments`", "task '")


def parsed(arguments: list[str]) -> None:
    """Recipes that are taken can be told from others, and hold no number that is none."""
    identity = parse_recipe(arguments).identity
    try:
        json.dumps(identity, allow_nan=False)
    except ValueError as error:
        check(False, f"the arguments {identity}: {error}")
    check(parse_recipe(arguments).identity == identity, "the same recipe is another one")


def in_a_file(path: Path, name: str, value: Any) -> None:
    path.write_text(yaml.safe_dump({"tasks": TASKS, "output_dir": "out", name: value}), encoding="utf-8")
    parsed([str(path)])


def on_the_command_line(path: Path, name: str, value: Any) -> None:
    path.write_text(yaml.safe_dump({"tasks": TASKS, "output_dir": "out"}))
    text = value if isinstance(value, str) else json.dumps(value)
    parsed([str(path), f"--{name}={text}"])


def of_an_option(path: Path, name: str, option: str, value: Any) -> None:
    in_a_file(path, name, {option: value})


def damaged_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    parsed([str(path)])


def drawn_names(rng: random.Random) -> Iterator[str]:
    """Every argument in a large run, some in a small one."""
    yield from NAMES if LARGE else rng.sample(NAMES, 20)


def value_cases(path: Path) -> Iterator[Case]:
    rng = random.Random(0)
    for name in drawn_names(rng):
        for value in rng.sample(VALUES, amount(3, 10)):
            attempt = functools.partial(in_a_file, path, name, value)
            yield Case("recipes", f"{name}: {value!r:.40}", 0, (name, *OTHERS), attempt)
        value = rng.choice(VALUES)
        attempt = functools.partial(on_the_command_line, path, name, value)
        yield Case("command lines", f"--{name}={value!r:.40}", 0, (name, *OTHERS), attempt)


def test_values(attack: Callable[[Iterable[Case]], None], tmp_path: Path) -> None:
    attack(value_cases(tmp_path / "recipe.yaml"))


def option_cases(path: Path) -> Iterator[Case]:
    rng = random.Random(1)
    options = {
        "model_options": [
            "graph_hidden_size",
            "learner_dropout",
            "image_threshold",
            "reference_dtype",
            "text_config",
        ],
        "processor_options": ["clean_text", "joint_padding"],
    }
    for name, known in options.items():
        for option in [*known, "freeze", "zzz", "tasks", "architectures", "name_or_path", "__class__", ""]:
            for value in VALUES if LARGE else rng.sample(VALUES, 2):
                attempt = functools.partial(of_an_option, path, name, option, value)
                yield Case("recipes", f"{name}.{option}: {value!r:.40}", 0, (name, option or "key"), attempt)


def test_options(attack: Callable[[Iterable[Case]], None], tmp_path: Path) -> None:
    attack(option_cases(tmp_path / "recipe.yaml"))


def file_cases(path: Path) -> Iterator[Case]:
    recipes = sorted((ROOT / "training" / "recipes").glob("*.yaml"))
    for seed in range(amount(40, 1000)):
        rng = random.Random(seed)
        recipe = rng.choice(recipes)
        content = damaged(recipe.read_bytes(), rng)
        # What is refused may as well be an argument that the damage made.
        attempt = functools.partial(damaged_file, path, content)
        yield Case("damaged recipes", recipe.name, seed, (path.name, "`", "task", "recipe"), attempt)


def test_files(attack: Callable[[Iterable[Case]], None], tmp_path: Path) -> None:
    attack(file_cases(tmp_path / "recipe.yaml"))
