"""Pages that show why a model answers what it does, meme by meme."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from mmorient.explanation.job import ExplanationJob, select_places
from mmorient.explanation.memes import Meme, MemeTable
from mmorient.explanation.page import MemePage, index_entry, render_index, render_meme
from mmorient.files.whole_files import write_text
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.recipe import parse_recipe
from mmorient.recipes.tasks import task_specs
from mmorient.tables.splits import checked_splits
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.explanation import explain

# Rows that are explained at a time.
BATCH_ROWS = 16


def explain_memes(job: ExplanationJob) -> str:
    """Write the pages; a summary for a person.

    Args:
        job: What is asked.

    Raises:
        ValueError: If the model, a recipe, a picture or a row is unusable.
    """
    model, processor = load_saved_model(job.model)
    tables = {} if job.recipe is None else _read_parts(job.recipe, job.fields)
    if job.recipe is None:
        name = "text" if job.image is None else Path(job.image).name
        memes = {"meme.html": (name, Meme(name, job.image, job.text))}
    else:
        memes = _chosen_rows(tables, job)
    recipe = job.references or job.recipe
    if recipe is not None and recipe != job.recipe:
        tables = _read_parts(recipe, job.fields)
    # Where a recipe names no references, the training rows are.
    references = tables.get("references", tables.get("training"))
    job.output.mkdir(parents=True, exist_ok=True)
    files, entries = list(memes), []
    for index, page in enumerate(_pages(model, processor, memes)):
        beside = (files[index - 1] if index else None, files[index + 1] if index + 1 < len(files) else None)
        content = render_meme(page, references, processor.image_processor, *beside)
        write_text(job.output / page.file, content)
        entries.append(index_entry(page))
    write_text(job.output / "index.html", render_index(f"Answers of {Path(job.model).name}", entries))
    return f"{len(files)} page(s) and index.html: {job.output}"


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
                    if not all(map(math.isfinite, [*answer.probabilities.values(), answer.value or 0.0])):
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


def _chosen_rows(tables: dict[str, MemeTable], job: ExplanationJob) -> dict[str, tuple[str, Meme]]:
    """By file name of the page: title and meme."""
    part = job.part or "validation"
    assert job.rows is not None
    if part not in tables:
        raise ValueError(
            f"--part is {part!r}, and the recipe's parts are {list(tables)}: choose one of them."
        )
    table = tables[part]
    places = select_places(job.rows, len(table), part)
    chosen = {}
    for place in places:
        meme = table[place]
        title = f"{table.memes.table.unit} {meme.name}, place {place} in {part}"
        chosen[f"{part}-{place}.html"] = (title[0].upper() + title[1:], meme)
    return chosen
