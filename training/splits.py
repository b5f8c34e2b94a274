"""Training and validation rows: as given, or held out so that no meme has its like on the other side."""

from collections import Counter
from dataclasses import dataclass

import datasets
import numpy as np

from modeling_mmorient.task_specs import TaskSpec
from training.duplicates import DUPLICATE_KINDS, Pair, find_duplicates, group_rows
from training.labels import Label, is_labelled, task_specs
from training.memes import Memes, read_memes
from training.problems import Problem, TableError, stop_on_problems
from training.recipe import DataArguments
from training.tables import HUB_PREFIX, Table, has_splits, read_table


@dataclass(frozen=True)
class Splits:
    """Training and validation rows, with what was found on the way.

    Args:
        train: The rows to train on.
        validation: The rows to score on.
        duplicates: By kind, pairs of row numbers; validation rows count on from the training rows.
        source: Where the validation rows come from, for a person.
        unused: Rows of a table's other splits, by split.
        problems: Everything that would spoil a result.
    """

    train: Memes
    validation: Memes
    duplicates: dict[str, list[Pair]]
    source: str
    unused: dict[str, int]
    problems: list[Problem]

    def crossing(self, kind: str) -> list[Pair]:
        """The duplicates of a kind that have one row in each split: (training row, validation row)."""
        border = len(self.train)
        return [(i, j - border) for i, j in self.duplicates[kind] if i < border <= j]

    def within(self, kind: str) -> tuple[list[Pair], list[Pair]]:
        """The duplicates of a kind inside the training rows, and inside the validation rows."""
        border, pairs = len(self.train), self.duplicates[kind]
        inside = [(i - border, j - border) for i, j in pairs if i >= border]
        return [(i, j) for i, j in pairs if j < border], inside


def load_splits(data: DataArguments, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Training and validation rows as the recipe says.

    Raises:
        TableError: For everything that would spoil a result and that `allow` does not list.
    """
    splits = read_splits(data, seed)
    stop_on_problems(splits.problems, data.allow)
    return splits.train.to_dataset(), splits.validation.to_dataset()


def read_splits(data: DataArguments, seed: int) -> Splits:
    """Training and validation rows as the recipe says, whatever their problems.

    Given splits are used: a file or a saved split of its own, or a column that names the split. Otherwise
    `validation_share` of the rows are held out by `hold_out`.

    Raises:
        TableError: If a table cannot be read.
    """
    tables, unused = _read_tables(data)
    parts = [read_memes(table, data) for table in tables]
    if len(parts) == 2:
        train, validation = parts
        source = f"{validation.table.name}, as given"
        duplicates = find_duplicates(
            train.pictures.fingerprints + validation.pictures.fingerprints, train.texts + validation.texts
        )
        problems = [*train.problems, *validation.problems]
    else:
        assert isinstance(data.tasks, dict)
        (whole,) = parts
        found = find_duplicates(whole.pictures.fingerprints, whole.texts)
        kept, held = hold_out(whole, found, task_specs(data.tasks), data.validation_share, seed)
        train, validation = whole.select(kept), whole.select(held)
        source = f"{data.validation_share:.0%} held out, stratified, no duplicate apart, seed {seed}"
        new = {row: index for index, row in enumerate([*kept, *held])}
        duplicates = {kind: [(new[i], new[j]) for i, j in pairs] for kind, pairs in found.items()}
        problems = whole.problems
    splits = Splits(train, validation, duplicates, source, unused, problems)
    return Splits(train, validation, duplicates, source, unused, [*problems, *_crossing_problems(splits)])


def hold_out(
    memes: Memes, duplicates: dict[str, list[Pair]], specs: dict[str, TaskSpec], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to hold out.

    Every class of every task is as frequent on both sides as whole groups of duplicates allow; duplicates,
    exact and near, of pictures and of texts, stay together.

    Args:
        memes: All rows.
        duplicates: From `find_duplicates`.
        specs: The tasks.
        share: Of the rows to hold out, in (0, 1).
        seed: Of the random choice.

    Raises:
        TableError: If all rows are duplicates of each other.
    """
    groups = group_rows(len(memes), [pair for pairs in duplicates.values() for pair in pairs])
    columns = [_indicators(memes.labels[name], spec) for name, spec in specs.items()]
    held = stratify(groups, np.concatenate(columns, axis=1), share, np.random.default_rng(seed))
    if held.all() or not held.any():
        raise TableError(
            f"{memes.table.name}: holding out {share:.0%} of {len(memes)} rows, which are "
            f"{len(np.unique(groups))} group(s) of duplicates, leaves nothing to train on: give more rows or "
            "a `validation_file`."
        )
    return np.nonzero(~held)[0].tolist(), np.nonzero(held)[0].tolist()


def stratify(groups: np.ndarray, classes: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Choose whole groups that have about `share` of the rows and of each class.

    Iterative stratification (Sechidis et al., 2011) of groups instead of rows: the rarest class first, its
    largest groups first, each to the side that lacks most of that class.

    Args:
        groups: (rows,) a number for each group.
        classes: (rows, classes) booleans; a row may be of several classes, or of none.
        share: Of the rows to choose.
        rng: Decides among equals.

    Returns:
        (rows,) booleans: whether a row is chosen. Where there are two groups, neither side is empty.
    """
    names, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), classes.shape[1] + 1))
    np.add.at(counts, group, np.column_stack([classes, np.ones(len(groups))]))  # the last one: all rows
    lacking = np.outer([1 - share, share], counts.sum(0))
    chosen = np.zeros(len(names), dtype=bool)
    waiting = rng.permutation(len(names))
    while len(waiting):
        left = counts[waiting].sum(0)
        rarest = int(np.where(left > 0, left, np.inf).argmin())
        concerned = counts[waiting, rarest] > 0
        members = waiting[concerned]
        for index in members[np.argsort(-counts[members, rarest], kind="stable")]:
            side = max((1, 0), key=lambda side: (lacking[side, rarest], lacking[side, -1]))
            chosen[index] = bool(side)
            lacking[side] -= counts[index]
        waiting = waiting[~concerned]
    if len(names) > 1 and chosen.all() == chosen.any():  # one side has everything
        smallest = np.bincount(group).argmin()
        chosen[smallest] = not chosen[smallest]
    return chosen[group]


def _indicators(labels: list[Label], spec: TaskSpec) -> np.ndarray:
    """(rows, classes) booleans; rows that are not labelled are of no class."""
    indicators = np.zeros((len(labels), spec.num_labels), dtype=bool)
    for row, label in enumerate(labels):
        if is_labelled(label):
            indicators[row] = label if isinstance(label, list) else np.arange(spec.num_labels) == label
    return indicators


def _read_tables(data: DataArguments) -> tuple[list[Table], dict[str, int]]:
    """One table, or a training and a validation table; and the sizes of splits that are not used."""
    folder = data.path("")
    train = read_table(data.train_file, folder, data.train_split)
    if data.split_column:
        return _by_column(train, data)
    if data.validation_file:
        return [train, read_table(data.validation_file, folder, data.validation_split)], {}
    if data.validation_split is None:
        return [train], {}
    if not has_splits(data.train_file, folder):
        raise TableError(
            f"{train.name} is one table, so `validation_split` {data.validation_split!r} says nothing: set "
            f"`split_column`, or name a saved `DatasetDict` or a dataset on the Hub ({HUB_PREFIX}OWNER/NAME)."
        )
    return [train, read_table(data.train_file, folder, data.validation_split)], {}


def _by_column(table: Table, data: DataArguments) -> tuple[list[Table], dict[str, int]]:
    assert data.split_column is not None
    cells = ["" if cell is None else str(cell).strip() for cell in table.cells(data.split_column)]
    counts = Counter(cells)
    wanted = [str(data.train_split), str(data.validation_split)]
    for name in wanted:
        if name not in counts:
            raise TableError(
                f"{table.name}: column {data.split_column!r} has the values {dict(counts)}, not {name!r}: "
                "set `train_split` and `validation_split` to two of them."
            )
    parts = [table.select([row for row, cell in enumerate(cells) if cell == name]) for name in wanted]
    return parts, {name: count for name, count in counts.items() if name not in wanted}


def _crossing_problems(splits: Splits) -> list[Problem]:
    problems = []
    for kind in DUPLICATE_KINDS:
        pairs = splits.crossing(kind)
        if pairs:
            training = splits.train.table.where(sorted({i for i, _ in pairs}))
            scored = splits.validation.table.where(sorted({j for _, j in pairs}))
            problems.append(
                Problem(
                    "split_duplicates",
                    f"{len(pairs)} duplicate(s) cross the split ({kind}): {splits.train.table.name} "
                    f"{training}; {splits.validation.table.name} {scored}. Remove them from one side.",
                )
            )
    return problems
