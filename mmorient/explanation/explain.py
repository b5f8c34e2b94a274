"""Pages that show why a model answers what it does, meme by meme."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from mmorient.explanation.job import ExplanationJob, select_indices
from mmorient.explanation.page import MemePage, index_entry, render_index, render_meme
from mmorient.explanation.rows import SplitRows
from mmorient.files.whole_files import write_text
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.recipe import parse_recipe
from mmorient.recipes.tasks import task_specs
from mmorient.tables.records import Record
from mmorient.tables.splits import checked_splits
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.explanation import explain

# Rows that are explained at a time.
BATCH_ROWS = 16


class Chosen(NamedTuple):
    """A meme to explain, and what its page is called.

    Args:
        file: File name of the page.
        title: Title of the page.
        record: The meme.
        truth: As in [`MemePage`].
    """

    file: str
    title: str
    record: Record
    truth: Mapping[str, Sequence[str]]


def explain_memes(job: ExplanationJob) -> str:
    """Write the pages; returns a summary for a person.

    Args:
        job: What is asked.

    Raises:
        ValueError: If the model, a recipe, a picture or a row is unusable.
    """
    model, processor = load_saved_model(job.model)
    tables = {} if job.recipe is None else _read_splits(job.recipe, job.fields)
    if job.recipe is None:
        name = "text" if job.image is None else Path(job.image).name
        chosen = [Chosen("meme.html", name, Record(name, job.image, job.text), {})]
    else:
        chosen = _chosen_rows(tables, job)
    recipe = job.references or job.recipe
    if recipe is not None and recipe != job.recipe:
        tables = _read_splits(recipe, job.fields)
    # Where a recipe names no references, the training rows are the references.
    references = tables.get("references", tables.get("training"))
    job.output.mkdir(parents=True, exist_ok=True)
    files, entries = [meme.file for meme in chosen], []
    for index, page in enumerate(_pages(model, processor, chosen)):
        beside = (files[index - 1] if index else None, files[index + 1] if index + 1 < len(files) else None)
        content = render_meme(page, references, processor.image_processor, *beside)
        write_text(job.output / page.file, content)
        entries.append(index_entry(page))
    write_text(job.output / "index.html", render_index(f"Answers of {Path(job.model).name}", entries))
    return f"{len(files)} page(s) and index.html: {job.output}"


def _pages(
    model: MMOrientForMultitaskClassification, processor: MMOrientProcessor, chosen: Sequence[Chosen]
) -> Iterator[MemePage]:
    """The memes' explanations, some at a time."""
    specs = model.config.task_specs
    with tqdm(desc="explanations", unit="meme", total=len(chosen), delay=2) as bar:
        for start in range(0, len(chosen), BATCH_ROWS):
            memes = chosen[start : start + BATCH_ROWS]
            images, texts = [meme.record.image for meme in memes], [meme.record.text for meme in memes]
            found = explain(model, processor, images, texts)
            for meme, explanation in zip(memes, found, strict=True):
                for task, answer in explanation.tasks.items():
                    if not all(map(math.isfinite, [*answer.probabilities.values(), answer.value or 0.0])):
                        raise ValueError(
                            f"{meme.title}: the model's answer to task {task!r} is not a number: its "
                            "weights, or the picture, are broken."
                        )
                yield MemePage(*meme, explanation, specs)
                bar.update()


def _read_splits(recipe: str, fields: Sequence[str]) -> dict[str, SplitRows]:
    """The rows of a recipe's splits, as a run would have them."""
    read = parse_recipe([recipe, *fields])
    assert isinstance(read.data.tasks, dict)
    specs = task_specs(read.data.tasks)
    splits = checked_splits(read.data, read.training.seed, cache=read.model.feature_cache).records
    return {name: SplitRows(records, specs) for name, records in splits.items()}


def _chosen_rows(tables: Mapping[str, SplitRows], job: ExplanationJob) -> list[Chosen]:
    split = job.split or "validation"
    assert job.rows is not None
    if split not in tables:
        raise ValueError(
            f"--split is {split!r}, and the recipe's splits are {list(tables)}: choose one of them."
        )
    rows = tables[split]
    chosen = []
    for index in select_indices(job.rows, len(rows.records), split):
        record = rows.records.rows[index]
        title = f"{rows.records.table.unit} {record.row}, index {index} in {split}"
        title = title[0].upper() + title[1:]
        chosen.append(Chosen(f"{split}-{index}.html", title, record, rows.truth(record)))
    return chosen
