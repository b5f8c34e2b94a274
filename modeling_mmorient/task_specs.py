"""What the model is asked: tasks, their labels and kinds, as they are written in `config.json`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .shown_values import shown
from .task_kinds import TASK_KINDS, TaskKind

# Of weights: products of these with losses stay finite.
LARGEST_FACTOR = 1e9
# More than any data set has: a configuration from anywhere may not ask for any number of heads and rows.
MAX_TASKS, MAX_LABELS = 1_000, 100_000


@dataclass(frozen=True)
class TaskSpec:
    """One question to the model.

    Args:
        name: The key of the task in `labels` and `logits`.
        labels: Its classes; for `ordinal` in order of intensity, for `multilabel` the labels that may
            hold at the same time.
        kind: `multiclass` (one of the classes, softmax), `ordinal` (one of the classes, which have an
            order; proportional odds) or `multilabel` (any number of the labels, a sigmoid each).
        weight: Factor of the task in the total loss; 0 trains the task's head not at all.
        class_weights: Factor of each class (`multilabel`: of each label's positives) in the task's
            loss; None means 1 for all.
        label_smoothing: Share of the training target that is spread evenly over all classes (`multilabel`:
            over yes and no), in [0, 1).
        temperature: What the logits are divided by to become probabilities; fitted after training.
        thresholds: Probability above which a label holds, in (0, 1): one for each label of a `multilabel`
            task, a single one for the second label of a task with two. None: one half.
    """

    name: str
    labels: tuple[str, ...]
    kind: str = "multiclass"
    weight: float = 1.0
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    def to_dict(self) -> dict[str, Any]:
        """The long form, of JSON types only."""
        values = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def to_options(self) -> dict[str, Any]:
        """The same without the name, as a mapping from names to tasks holds it."""
        return {key: value for key, value in self.to_dict().items() if key != "name"}


TaskInput = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def parse_tasks(tasks: TaskInput) -> dict[str, TaskSpec]:
    """Tasks in any accepted form, checked and in their order.

    Args:
        tasks: The short form `{"sentiment": ["negative", "neutral", "positive"]}`; or the long form
            `{"humour": {"labels": [...], "kind": "ordinal", "weight": 0.5, "class_weights": [...]}}`;
            or a list of long forms with a `"name"` each, which is how `config.json` keeps them, since
            JSON objects are written there in alphabetical order.

    Raises:
        ValueError: For anything else, naming the task, the value and the remedy.
    """
    if isinstance(tasks, Mapping | Sequence) and len(tasks) > MAX_TASKS:
        raise ValueError(f"`tasks` names {len(tasks)}: more than {MAX_TASKS:,} are refused.")
    if isinstance(tasks, Mapping):
        named: Iterable[tuple[Any, Any]] = tasks.items()
    elif isinstance(tasks, Sequence) and not isinstance(tasks, str):
        named = [_split_name(entry) for entry in tasks]
    else:
        raise ValueError(
            f"`tasks` is {shown(tasks)}: give a dict from task name to its labels, "
            'for example {"sentiment": ["negative", "neutral", "positive"]}.'
        )
    specs: dict[str, TaskSpec] = {}
    for name, entry in named:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"`tasks` has the name {shown(name)}: a task's name is a non-empty string.")
        if name in specs:
            raise ValueError(f"`tasks` names {shown(name)} twice: give each task a name of its own.")
        specs[name] = _parse_task(name, entry)
    if not specs:
        raise ValueError('`tasks` is empty: name at least one, for example {"humour": ["no", "yes"]}.')
    return specs


def _split_name(entry: Any) -> tuple[Any, Any]:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(f'`tasks` holds {shown(entry)}: in a list every task is a dict with a "name".')
    return entry["name"], {key: value for key, value in entry.items() if key != "name"}


def _parse_task(name: str, entry: Any) -> TaskSpec:
    if isinstance(entry, Mapping):
        allowed = [field.name for field in fields(TaskSpec) if field.name != "name"]
        unknown = sorted(str(key) for key in entry if key not in allowed)
        if unknown or "labels" not in entry:
            raise ValueError(
                f"task {shown(name)} has the keys {shown(sorted(map(str, entry)))}: "
                f'"labels" is needed, and of {allowed} only.'
            )
        options = dict(entry)
        labels = options.pop("labels")
    else:
        labels, options = entry, {}
    kind = options.get("kind", "multiclass")
    if kind not in TASK_KINDS:
        raise ValueError(f"task {shown(name)} has the kind {shown(kind)}: choose one of {list(TASK_KINDS)}.")
    meaning = TASK_KINDS[kind]
    checked = _check_labels(name, labels, meaning)
    weight = _check_factor(name, "weight", options.get("weight", 1.0))
    class_weights = options.get("class_weights")
    if class_weights is not None:
        if not isinstance(class_weights, list | tuple) or len(class_weights) != len(checked):
            raise ValueError(
                f"task {shown(name)} has class_weights {shown(class_weights)}: give one number for each of "
                f"its {len(checked)} labels, or None."
            )
        class_weights = tuple(_check_factor(name, "class_weights", value) for value in class_weights)
    smoothing = _check_factor(name, "label_smoothing", options.get("label_smoothing", 0.0))
    if smoothing >= 1:
        raise ValueError(
            f"task {shown(name)} has label_smoothing {shown(smoothing)}: give a number in [0, 1)."
        )
    temperature = _check_factor(name, "temperature", options.get("temperature", 1.0))
    if temperature == 0:
        raise ValueError(f"task {shown(name)} has temperature {shown(temperature)}: give a number above 0.")
    thresholds = _check_thresholds(name, options.get("thresholds"), meaning, checked)
    return TaskSpec(name, checked, kind, weight, class_weights, smoothing, temperature, thresholds)


def _check_labels(name: str, labels: Any, kind: TaskKind) -> tuple[str, ...]:
    least = kind.least_labels
    if isinstance(labels, str) or not isinstance(labels, Sequence):
        raise ValueError(f"task {shown(name)} has the labels {shown(labels)}: give a list of strings.")
    if len(labels) > MAX_LABELS:
        raise ValueError(
            f"task {shown(name)} has {len(labels)} labels: more than {MAX_LABELS:,} are refused."
        )
    if not all(isinstance(label, str) and label for label in labels):
        raise ValueError(
            f"task {shown(name)} has the labels {shown(list(labels))}: each is a non-empty string. (YAML "
            "reads an unquoted yes or no as true or false.)"
        )
    if len(labels) < least or len(set(labels)) != len(labels):
        raise ValueError(
            f"task {shown(name)} has the labels {shown(list(labels))}: a {kind.name} task needs at least "
            f"{least}, each of them once."
        )
    return tuple(labels)


def _check_thresholds(
    name: str, values: Any, kind: TaskKind, labels: tuple[str, ...]
) -> tuple[float, ...] | None:
    if values is None:
        return None
    number = len(kind.threshold_labels(labels))
    if not number:
        raise ValueError(
            f"task {shown(name)} has thresholds {shown(values)}: of its {len(labels)} classes the most "
            "probable one is the answer. Leave them out; they are for multilabel tasks and tasks with two "
            "labels."
        )
    if not isinstance(values, list | tuple) or len(values) != number:
        raise ValueError(
            f"task {shown(name)} has thresholds {shown(values)}: give a list of {number}, or None."
        )
    checked = tuple(_check_factor(name, "thresholds", value) for value in values)
    if not all(0 < value < 1 for value in checked):
        raise ValueError(f"task {shown(name)} has thresholds {shown(values)}: each is a number in (0, 1).")
    return checked


def _check_factor(name: str, field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST_FACTOR:
        raise ValueError(
            f"task {shown(name)} has {field} {shown(value)}: give a number from 0 to {LARGEST_FACTOR:g}."
        )
    return float(value)
