"""From a run's folder to a repository: its files, and their upload."""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from mmorient.demo.space import write_space
from mmorient.files.loading_bars import without_loading_bars
from mmorient.prediction.saved_models import load_saved_model
from mmorient.publishing.card import CardContent, render_card
from mmorient.publishing.evaluation import RowsMissing, linear_scores, published_scores, read_scored_rows
from mmorient.publishing.examples import write_examples
from mmorient.publishing.job import PublishingJob
from mmorient.publishing.manifest import MANIFEST, read_manifest, repository_files, write_manifest
from mmorient.publishing.private_contents import check_contents, without_folders
from mmorient.publishing.upload import upload
from mmorient.report.plots import task_plots
from mmorient.serving.files import serving_files
from mmorient.tables.settings import TableSettings
from modeling_mmorient import MMOrientForMultitaskClassification, __version__
from modeling_mmorient.reference_bank import ReferenceBank

RESULTS, REPORT, PLOTS, SPACE = "results.json", "report", "plots", "space"


def publish(job: PublishingJob) -> str:
    """Write a run's repository, and upload it unless it is a dry run; a sentence that says where it is.

    Raises:
        ValueError: If the run cannot be published as asked, or the Hub refuses.
    """
    for name, repo_id in (("repo_id", job.repo_id), ("space", job.space)):
        try:
            validate_repo_id(repo_id or "unnamed")
        except HFValidationError as error:
            raise ValueError(f"--{name} is {repo_id!r}: {error}") from error
    if not job.run.is_dir():
        raise ValueError(f"there is no folder {job.run}: name the `output_dir` of a training run.")
    with TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        folder.mkdir()
        notes = write_repository(folder, job)
        if job.dry_run is not None:
            _leave(folder, job.dry_run)
            said = (
                f"{len(repository_files(job.dry_run)) + 1} files are in {job.dry_run}; nothing was uploaded"
            )
        else:
            assert job.repo_id is not None
            put = partial(upload, private=job.private, replace=job.replace, message=job.message)
            said = f"published: {put(folder, job.repo_id)}"
            if job.space is not None:
                said += f"\nSpace: {put(folder / SPACE, job.space, repo_type='space')}"
    return "\n".join([*notes, said])


def write_repository(folder: Path, job: PublishingJob) -> list[str]:
    """Write all files of a repository into an empty folder; what a reader of its card must know.

    Raises:
        ValueError: If the run cannot be published as asked, or a file holds what must not be published.
    """
    model, processor = load_saved_model(str(job.run))
    references = model.references
    kept = _choose_references(model, job.references)
    results, notes = _results(model, processor, references, job, changed=kept != "all")
    with without_loading_bars():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    tables = TableSettings.load(str(job.run))
    # What tells which rows the model knows stays at home.
    TableSettings(**{**vars(tables), "references": None, "splits": None}).save(folder)
    for name, source in serving_files().items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / name)
    if results:
        (folder / RESULTS).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    (folder / SPACE).mkdir()
    write_space(folder / SPACE, job.name, job.license)
    write_manifest(folder / SPACE, __version__)
    plots = _write_plots(folder, job.run, results)
    if job.examples_from_training and (job.run / REPORT).is_dir():
        shutil.copytree(job.run / REPORT, folder / REPORT)
    content = CardContent(
        repo_id=job.name,
        space=job.space,
        license=job.license,
        language=job.language,
        datasets=job.datasets,
        tasks=model.config.tasks,
        results=results,
        references=len(model.references),
        published_references=kept,
        examples=write_examples(folder, model, processor),
        plots=plots,
        notes=notes,
    )
    (folder / "README.md").write_text(render_card(content), encoding="utf-8")
    check_contents(folder)
    write_manifest(folder, __version__)
    return notes


def _choose_references(model: MMOrientForMultitaskClassification, chosen: str) -> str:
    """Leave a model the references that are published; what that is where it has none to begin with."""
    if not len(model.references) or chosen == "none":
        model.references = model.new_references()
        return "none"
    if chosen == "embeddings":
        # Labels are known for a task's own references alone: without tasks there are none.
        model.references = model.references.with_tasks({})
    return chosen


def _results(
    model: MMOrientForMultitaskClassification,
    processor: Any,
    references: ReferenceBank,
    job: PublishingJob,
    changed: bool,
) -> tuple[dict[str, Any], list[str]]:
    """What the run scored, and what the published model scores; and what of that is missing.

    Args:
        model: As it is published.
        processor: The model's.
        references: Of the run.
        job: What is asked.
        changed: Whether the model has other references than the run scored.

    Raises:
        ValueError: If the model has other references than the run scored and its rows cannot be read again.
    """
    path = job.run / RESULTS
    if not path.is_file():
        return {}, [f"{job.run} has no {RESULTS}: the card says nothing of scores."]
    results = without_folders(json.loads(path.read_text(encoding="utf-8")))
    report = job.run / REPORT / "report.json"
    if report.is_file():
        said = json.loads(report.read_text(encoding="utf-8"))
        results["training"] = {key: said.get(key) for key in ("duration_seconds", "device", "versions")}
    try:
        rows = read_scored_rows(job.run)
    except RowsMissing as error:
        if changed:
            raise ValueError(
                f"with --references {job.references} the scores are to be measured again, and {error} Or "
                "publish all references."
            ) from error
        return results, [
            "What a picture, a text or a linear model is worth was not measured: the rows are not at hand."
        ]
    measured = published_scores(model, processor, rows, again=changed)
    linear = linear_scores(model, processor, references, rows) if len(references) else {}
    return {**results, "published": {"references": job.references, "linear": linear, **measured}}, []


def _write_plots(folder: Path, run: Path, results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Draw the plots of the split that the card shows; their paths by task."""
    path = run / REPORT / "report.json"
    if not path.is_file() or not results:
        return {}
    drawn = task_plots(
        json.loads(path.read_text(encoding="utf-8")), "test" if "test" in results else "validation"
    )
    (folder / PLOTS).mkdir()
    found: dict[str, list[str]] = {}
    for number, (task, drawings) in enumerate(drawn.items()):
        # Tasks may be called what no file can.
        for index, drawing in enumerate(drawings):
            name = f"{PLOTS}/task-{number}-{index}.svg"
            (folder / name).write_text(drawing, encoding="utf-8")
            found.setdefault(task, []).append(name)
    return found


def _leave(folder: Path, target: Path) -> None:
    """Put the repository's files into a folder that is empty, or holds those of an earlier dry run.

    Raises:
        ValueError: If it holds anything else.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        if not (target / MANIFEST).is_file():
            raise ValueError(f"{target} is not empty, and no dry run wrote it: name another folder.")
        known = read_manifest(target / MANIFEST, str(target))
        if foreign := [name for name in repository_files(target) if name not in known]:
            raise ValueError(f"{target} holds files that no dry run wrote, {foreign}: name another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        shutil.copytree(folder, beside / "new")
        # A kill leaves the folder as it was, as it is to be, or not there: never a part of it.
        if target.exists():
            target.rename(beside / "old")
        (beside / "new").rename(target)
    finally:
        shutil.rmtree(beside)
