"""Show why a model answers what it does, meme by meme.

    python training/explain.py MODEL OUTPUT_FOLDER [--image PICTURE] [--text TEXT]
    python training/explain.py MODEL OUTPUT_FOLDER RECIPE.yaml --rows 0-9,17 [--part validation]

Writes a page for each meme, and `index.html` that lists them. They open without a network and show the
picture with HIMA's attention as heat over it, the words shaded by theirs, probabilities and what each part of
the model does to them, and the neighbours in both graphs. Neighbours have pictures and texts where
`--references` names the recipe whose rows the model's references are (by default RECIPE.yaml); others are
shown by their ids.

Behind `--`, fields of the recipe follow as in training: `-- --data_dir FOLDER --seed 2`.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# A script finds only its own folder; the two packages beside it are the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm.auto import tqdm

from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.explanation import explain
from training.explained_memes import Meme, MemeTable, parse_places, select_places
from training.explanation_page import MemePage, index_entry, render_index, render_meme
from training.labels import task_specs
from training.recipe import parse_recipe
from training.saved_models import load_saved_model
from training.splits import checked_splits
from training.whole_files import write_text

# Rows that are explained at a time.
BATCH_ROWS = 16
PARTS = ("validation", "training", "test")


def explain_memes(arguments: argparse.Namespace) -> str:
    """Write the pages; a summary for a person.

    Args:
        arguments: Of [`parse`].

    Raises:
        ValueError: If the model, a recipe, a picture or a row is unusable.
    """
    model, processor = load_saved_model(arguments.model)
    tables = {} if arguments.recipe is None else _read_parts(arguments.recipe, arguments.fields)
    if arguments.recipe is None:
        name = "text" if arguments.image is None else Path(arguments.image).name
        memes = {"meme.html": (name, Meme(name, arguments.image, arguments.text))}
    else:
        memes = _chosen_rows(tables, arguments)
    recipe = arguments.references or arguments.recipe
    if recipe != arguments.recipe:
        tables = _read_parts(recipe, arguments.fields)
    # Where a recipe names no references, the training rows are.
    references = tables.get("references", tables.get("training"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    files, entries = list(memes), []
    for index, page in enumerate(_pages(model, processor, memes)):
        beside = (files[index - 1] if index else None, files[index + 1] if index + 1 < len(files) else None)
        content = render_meme(page, references, processor.image_processor, *beside)
        write_text(arguments.output / page.file, content)
        entries.append(index_entry(page))
    write_text(
        arguments.output / "index.html", render_index(f"Answers of {Path(arguments.model).name}", entries)
    )
    return f"{len(files)} page(s) and index.html: {arguments.output}"


def _pages(
    model: MMOrientForMultitaskClassification,
    processor: MMOrientProcessor,
    memes: dict[str, tuple[str, Meme]],
) -> Iterator[MemePage]:
    """The memes' explanations, some at a time."""
    specs, entries = model.config.task_specs, list(memes.items())
    with tqdm(desc="explanations", unit="meme", total=len(entries), delay=2) as bar:
        for start in range(0, len(entries), BATCH_ROWS):
            part = entries[start : start + BATCH_ROWS]
            images, texts = [meme.image for _, (_, meme) in part], [meme.text for _, (_, meme) in part]
            found = explain(model, processor, images, texts)
            for (file, (title, meme)), explanation in zip(part, found, strict=True):
                for task, answer in explanation.tasks.items():
                    if not all(map(math.isfinite, answer.probabilities.values())):
                        raise ValueError(
                            f"{title}: the model's answer to task {task!r} is not a number: its weights, or "
                            "the picture, are broken."
                        )
                yield MemePage(file, title, meme, explanation, specs)
                bar.update()


def _read_parts(recipe: str, fields: Sequence[str]) -> dict[str, MemeTable]:
    """The rows of a recipe's parts, as a run would have them."""
    read = parse_recipe([recipe, *fields])
    assert isinstance(read.data.tasks, dict)
    specs = task_specs(read.data.tasks)
    parts = checked_splits(read.data, read.training.seed, cache=read.model.feature_cache).parts
    return {name: MemeTable(memes, specs) for name, memes in parts.items()}


def _chosen_rows(tables: dict[str, MemeTable], arguments: argparse.Namespace) -> dict[str, tuple[str, Meme]]:
    """By file name of the page: title and meme."""
    part = arguments.part
    if part not in tables:
        raise ValueError(
            f"--part is {part!r}, and the recipe's parts are {list(tables)}: choose one of them."
        )
    table = tables[part]
    places = select_places(arguments.rows, len(table), part)
    chosen = {}
    for place in places:
        meme = table[place]
        title = f"{table.memes.table.unit} {meme.name}, place {place} in {part}"
        chosen[f"{part}-{place}.html"] = (title[0].upper() + title[1:], meme)
    return chosen


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command's arguments; `fields` are those of the recipe."""
    parser = argparse.ArgumentParser(
        description="Show why a model answers what it does: a page for each meme. Behind `--`, fields of the "
        "recipe follow as in training, such as `-- --data_dir FOLDER`."
    )
    parser.add_argument("model", help="folder or Hub id of a model with its processor")
    parser.add_argument(
        "output", type=Path, help="folder to write into; pages of the same names are replaced"
    )
    parser.add_argument("recipe", nargs="?", help="YAML file of a training run whose rows to explain")
    parser.add_argument("--rows", help="places in the part, counted from 0, such as 0-9,17")
    parser.add_argument("--part", choices=PARTS, help="the rows' part (validation)")
    parser.add_argument("--image", help="file of a single meme's picture")
    parser.add_argument("--text", help="the text that stands on it")
    parser.add_argument(
        "--references", help="YAML file of the run whose rows the model's references are (the recipe)"
    )
    own, fields = list(argv), []
    if "--" in own:
        fields, own = own[own.index("--") + 1 :], own[: own.index("--")]
    arguments = parser.parse_args(own)
    single = arguments.image is not None or arguments.text is not None
    if single == (arguments.recipe is not None):
        parser.error("give --image, --text or both for a single meme, or else a recipe")
    if (arguments.rows is None) != (arguments.recipe is None):
        parser.error("a recipe needs --rows, and --rows a recipe")
    if arguments.part and single:
        parser.error("--part is for a recipe's rows")
    if fields and not (arguments.recipe or arguments.references):
        parser.error(f"{fields[0]} stands behind `--`, and there is no recipe that it could be a field of")
    try:
        rows = None if arguments.rows is None else parse_places(arguments.rows)
    except ValueError as error:
        parser.error(str(error))
    vars(arguments).update(fields=fields, rows=rows, part=arguments.part or "validation")
    return arguments


def main(argv: Sequence[str]) -> None:
    try:
        summary = explain_memes(parse(argv))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(summary)


if __name__ == "__main__":
    main(sys.argv[1:])
