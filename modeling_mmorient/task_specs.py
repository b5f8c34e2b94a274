"""What the model is asked: tasks, their labels and kinds, as they are written in `config.json`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from .shown_values import shown
from .task_kind import MAX_VALUE, TaskKind
from .task_kinds import TASK_KINDS

# Of weights: products of these with losses stay finite.
LARGEST_FACTOR = 1e9
# More than any data set has: a configuration from an unknown source must not ask for unlimited memory.
MAX_TASKS, MAX_LABELS = 1_000, 100_000


@dataclass(frozen=True)
class TaskSpec:
    """One question to the model.

    Args:
        name: The key of the task in `labels` and `logits`.
        labels: Its classes; for `ordinal` in order of intensity, for `multilabel` the labels that may
            hold at the same time. A `regression` task has none.
        kind: `multiclass` (one of the classes, softmax), `ordinal` (one of the classes, which have an
            order; proportional odds), `multilabel` (any number of the labels, a sigmoid each) or
            `regression` (a number).
        weight: Factor of the task in the total loss; 0 leaves its head untrained.
        class_weights: Factor of each class (`multilabel`: of each label's positives) in the task's
            loss; None means 1 for all.
        label_smoothing: Share of the training target that is spread evenly over all classes (`multilabel`:
            over yes and no), in [0, 1).
        temperature: What the logits are divided by to become probabilities; fitted after training.
        thresholds: Probability above which a label holds, in (0, 1): one for each label of a `multilabel`
            task, a single one for the second label of a task with two. None: one half.
        range: Of a `regression` task: the lowest and the highest value that there is; None: any.
        mean, deviation: Of a `regression` task: mean and standard deviation of the training rows' values, in
            whose units the model computes.
        interval: Of a `regression` task: half the width of the interval around a value in which nine of ten
            true values lie; fitted after training. None: there is none.
    """

    name: str
    labels: tuple[str, ...] = ()
    kind: str = "multiclass"
    weight: float = 1.0
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    range: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    interval: float | None = None

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    @property
    def several(self) -> bool:
        """Whether any number of the labels may hold for a row."""
        return bool(TASK_KINDS[self.kind].label_shape(self))

    def to_dict(self) -> dict[str, Any]:
        """The long form, of JSON types only, with the fields that the task's kind has."""
        values = {"name": self.name, **{key: getattr(self, key) for key in _keys(TASK_KINDS[self.kind])}}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def to_options(self) -> dict[str, Any]:
        """The long form without the name, as in a mapping from names to tasks."""
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


def _keys(kind: TaskKind) -> list[str]:
    """What the long form of a task of this kind holds beside its name, in order."""
    known = ("kind", "weight", *kind.options)
    return [field.name for field in fields(TaskSpec) if field.name in known]


def _parse_task(name: str, entry: Any) -> TaskSpec:
    options = dict(entry) if isinstance(entry, Mapping) else {"labels": entry}
    named = options.pop("kind", "multiclass")
    if not isinstance(named, str) or named not in TASK_KINDS:
        raise ValueError(f"task {shown(name)} has the kind {shown(named)}: choose one of {list(TASK_KINDS)}.")
    kind = TASK_KINDS[named]
    needs_labels = "labels" in kind.options
    if not set(options) <= set(_keys(kind)) or (needs_labels and "labels" not in options):
        needed = '"labels" is needed, and of' if needs_labels else f"a {named} task has some of"
        raise ValueError(
            f"task {shown(name)} has the keys {shown(sorted(map(str, entry)))}: {needed} {_keys(kind)} only."
        )
    weight = _check_factor(name, "weight", options.get("weight", 1.0))
    check = _class_options if needs_labels else _value_options
    return TaskSpec(name, kind=named, weight=weight, **check(name, options, kind))


def _class_options(name: str, options: Mapping[str, Any], kind: TaskKind) -> dict[str, Any]:
    """The checked fields of a task with labels."""
    labels = _check_labels(name, options["labels"], kind)
    class_weights = options.get("class_weights")
    if class_weights is not None:
        if not isinstance(class_weights, list | tuple) or len(class_weights) != len(labels):
            raise ValueError(
                f"task {shown(name)} has class_weights {shown(class_weights)}: give one number for each of "
                f"its {len(labels)} labels, or None."
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
    return {
        "labels": labels,
        "class_weights": class_weights,
        "label_smoothing": smoothing,
        "temperature": temperature,
        "thresholds": _check_thresholds(name, options.get("thresholds"), kind, labels),
    }


def _value_options(name: str, options: Mapping[str, Any], kind: TaskKind) -> dict[str, Any]:
    """The checked fields of a task whose answer is a number."""
    limits = options.get("range")
    if limits is not None:
        if not isinstance(limits, list | tuple) or len(limits) != 2:
            raise ValueError(
                f"task {shown(name)} has the range {shown(limits)}: give the lowest and the highest value, "
                "such as [0, 1], or None."
            )
        limits = tuple(_check_value(name, "range", value) for value in limits)
        if limits[0] >= limits[1]:
            raise ValueError(
                f"task {shown(name)} has the range {shown(list(limits))}: the first value is the lower one."
            )
    deviation = _check_factor(name, "deviation", options.get("deviation", 1.0))
    if deviation < 1 / MAX_VALUE:
        raise ValueError(
            f"task {shown(name)} has deviation {shown(deviation)}: give a number from {1 / MAX_VALUE:g}."
        )
    interval = options.get("interval")
    return {
        "range": limits,
        "mean": _check_value(name, "mean", options.get("mean", 0.0)),
        "deviation": deviation,
        "interval": None if interval is None else _check_factor(name, "interval", interval),
    }


def _check_value(name: str, field: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -MAX_VALUE <= value <= MAX_VALUE:
        raise ValueError(
            f"task {shown(name)} has {field} {shown(value)}: give a number from {-MAX_VALUE:g} to "
            f"{MAX_VALUE:g}."
        )
    return float(value)


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
