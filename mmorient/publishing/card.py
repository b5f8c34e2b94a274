"""The card of a model, which is a repository's `README.md`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from mmorient.kinds.kinds import TOOLKIT_KINDS, toolkit_kind
from mmorient.kinds.shown import number, span
from mmorient.publishing.evaluation import WITHOUT
from mmorient.publishing.examples import WidgetExample
from mmorient.report.environment import page_environment, showable
from mmorient.scoring.scores import score_rows
from modeling_mmorient.task_specs import TaskSpec, parse_tasks

TEMPLATE = Path(__file__).resolve().parent / "template"
CARD = "model_card.md.j2"
# The one task of the pipeline; a name that the Hub knows.
PIPELINE = "image-classification"
TAGS = ["mmorient", "multimodal", "multitask", "memes", "custom_code"]
KINDS = {
    "multiclass": "one of",
    "ordinal": "one of, in this order",
    "multilabel": "any of",
    "regression": "a number",
}
# By score of `scores`, what the Hub calls it, and the card's name for it.
METRICS = {
    "macro_f1": ("f1", "macro-F1"),
    "accuracy": ("accuracy", "accuracy"),
    "mae": ("mae", "mean absolute error"),
    "spearman": ("spearmanr", "Spearman's correlation"),
}


@dataclass(frozen=True)
class CardContent:
    """What a card is made of, of JSON types.

    Args:
        repo_id: Of the repository.
        license, language, datasets: As the person who publishes names them.
        tasks: As in the model's configuration.
        results: What is published as `results.json`; empty where nothing was scored.
        references: How many the repository holds.
        published_references: `all`, `embeddings` or `none`.
        examples: For the widget.
        plots: By task, paths in the repository.
        notes: What was not measured, and why.
        space: The Space that shows the model; None: nobody made one.
    """

    repo_id: str
    license: str
    language: Sequence[str]
    datasets: Sequence[str]
    tasks: Mapping[str, Any]
    results: Mapping[str, Any]
    references: int
    published_references: str
    examples: Sequence[WidgetExample]
    plots: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    space: str | None = None

    @property
    def split(self) -> str | None:
        """The split that the card's results are of."""
        return next((name for name in ("test", "validation") if name in self.results), None)


def render_card(content: CardContent) -> str:
    """The card, with its metadata in front."""
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINE,
        license=content.license,
        language=list(content.language),
        datasets=list(content.datasets) or None,
        base_model=_base_models(content.results.get("arguments", {})) or None,
        tags=TAGS,
        metrics=sorted({result.metric_type for result in _eval_results(content)}) or None,
        model_name=content.repo_id.rpartition("/")[2],
        eval_results=_eval_results(content) or None,
        widget=[
            {"src": example.image, "example_title": example.title, "output": example.output}
            for example in content.examples
        ]
        or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n{_text(content)}"))


def _text(content: CardContent) -> str:
    environment = page_environment([TEMPLATE], {"number": number, "span": span, "table": _table})
    # Markdown: its own signs are escaped, see `_shown`, and not those of HTML alone.
    environment.autoescape = False
    environment.finalize = _shown
    specs, split = parse_tasks(content.tasks), content.split
    run, about = content.results.get("arguments", {}), content.results.get("training", {})
    measured = content.results.get("published", {})
    return environment.get_template(CARD).render(
        card=content,
        repo=_Plain(content.repo_id),
        space=_Plain(content.space or ""),
        tasks=[(name, KINDS[spec.kind], _answers(spec)) for name, spec in specs.items()],
        split=split,
        rescored=split in measured,
        scored=_tables({**content.results[split], **measured.get(split, {})}) if split else [],
        run=run,
        encoders="; ".join(f"{role} {run[role]}" for role in ("joint", "vision", "text") if run.get(role)),
        about=about,
        versions=", ".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items()),
        without=_without(content, specs),
        linear=_linear(content, specs),
        temperatures=", ".join(
            f"{spec.name} {spec.temperature:.3f}" for spec in specs.values() if spec.labels
        ),
        minutes=_minutes(about.get("duration_seconds")),
    )


class _Plain(str):
    """Text of the card's own that holds Markdown."""


def _shown(value: Any) -> Any:
    """A value in Markdown, where a name from data must neither end a table's cell nor begin a tag."""
    if not isinstance(value, str) or isinstance(value, _Plain):
        return value
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(showable(value).split()))


def _answers(spec: TaskSpec) -> str:
    if spec.labels:
        return ", ".join(spec.labels)
    return "any" if spec.range is None else f"{spec.range[0]:g} to {spec.range[1]:g}"


def _table(rows: Sequence[Sequence[str]]) -> _Plain:
    """Rows as a table in Markdown, the first one its head."""
    lines = [f"| {' | '.join(str(_shown(cell)) for cell in row)} |" for row in rows]
    return _Plain("\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]))


def _tables(results: Mapping[str, Any]) -> list[tuple[list[tuple[str, ...]], list[str]]]:
    names = {kind.baseline_name for kind in TOOLKIT_KINDS.values()}
    return score_rows(results, {name: results[name] for name in sorted(names & results.keys())})


def _without(content: CardContent, specs: Mapping[str, TaskSpec]) -> list[tuple[str, ...]]:
    """What a modality is worth: scores of the published model with both, and without one of them."""
    measured = content.results.get("published", {})
    if content.split is None or not measured:
        return []
    whole = measured.get(content.split, content.results[content.split])
    asked = {"both": whole, **{name.replace("_", " "): measured.get(name) for name in WITHOUT.values()}}
    rows = [("task", "score", *asked)]
    for task, spec in specs.items():
        score = toolkit_kind(spec).resampled_scores[0]
        values = [None if found is None else found["tasks"][task][score] for found in asked.values()]
        rows.append((task, METRICS[score][1], *map(number, values)))
    return rows


def _linear(content: CardContent, specs: Mapping[str, TaskSpec]) -> list[tuple[str, ...]]:
    """Scores of the published model beside those of a linear one."""
    measured = content.results.get("published", {})
    found = measured.get("linear") or {}
    if content.split is None or not found:
        return []
    whole = measured.get(content.split, content.results[content.split])
    rows: list[tuple[str, ...]] = [("task", "score", "this model", "95% interval", "linear model")]
    for task in found:
        score = toolkit_kind(specs[task]).resampled_scores[0]
        values = whole["tasks"][task]
        rows.append(
            (
                task,
                METRICS[score][1],
                number(values[score]),
                span(values[f"{score}_interval"]),
                number(found[task]),
            )
        )
    return rows


def _eval_results(content: CardContent) -> list[EvalResult]:
    """Every task's scores, for the metadata."""
    if content.split is None:
        return []
    dataset = next(iter(content.datasets), "the table of the run")
    scored = content.results.get("published", {}).get(content.split) or content.results[content.split]
    return [
        EvalResult(
            task_type=PIPELINE,
            task_name=task,
            dataset_type=dataset,
            dataset_name=dataset,
            # Results of one data set that say the same here are read as one.
            dataset_config=task,
            dataset_split=content.split,
            metric_type=METRICS[score][0],
            metric_name=f"{METRICS[score][1]} of {task}",
            metric_value=round(values[score], 4),
        )
        for task, values in scored["tasks"].items()
        for score in METRICS
        if values.get(score) is not None
    ]


def _base_models(arguments: Mapping[str, Any]) -> list[str]:
    """The encoders that came from the Hub."""
    names = [arguments.get(role) for role in ("joint", "text", "vision")]
    return [name for name in names if isinstance(name, str) and "/" in name and _is_hub_id(name)]


def _is_hub_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _minutes(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 60:.1f} minutes"
