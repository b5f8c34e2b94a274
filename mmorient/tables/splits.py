"""Rows to train on, to choose on and to score on: as given, or held out together with their duplicates."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.split_names import SPLITS
from mmorient.recipes.tasks import task_specs
from mmorient.tables.duplicates import DUPLICATE_KINDS, Pair, find_duplicates, group_rows
from mmorient.tables.fingerprint_cache import kept_fingerprints
from mmorient.tables.near_images import NearImages
from mmorient.tables.problems import (
    Problem,
    RowProblem,
    TableError,
    list_problems,
    listed_errors,
    stop_on_problems,
)
from mmorient.tables.records import (
    RecordColumns,
    Records,
    join_records,
    label_columns,
    read_records,
    without_empty_rows,
)
from mmorient.tables.stream import HUB_PREFIX, has_splits
from mmorient.tables.table import Table, read_well_formed, tell_apart
from modeling_mmorient.task_specs import TaskSpec

# Splits between which duplicates spoil nothing: a training row may be a reference.
MAY_SHARE = {"training", "references"}


@dataclass(frozen=True)
class Splits:
    """The rows of every split, with what was found on the way.

    Args:
        records: By name, in the order of `SPLITS`: rows to train on, to choose on, and perhaps to score on,
            and references where they are others than the training rows.
        duplicates: By kind, pairs of row numbers; the rows of one split count on from those before it.
        sources: Where the rows that are not trained on come from, for a person.
        unused: Rows of a table's other splits, by split.
        problems: Everything that would spoil a result.
    """

    records: dict[str, Records]
    duplicates: dict[str, list[Pair]]
    sources: dict[str, str]
    unused: dict[str, int]
    problems: list[Problem]

    def between(self, kind: str, first: str, second: str) -> list[Pair]:
        """The duplicates of a kind that have one row in each of two splits, the first before the second."""
        i_start, i_stop = self._span(first)
        j_start, j_stop = self._span(second)
        return [
            (i - i_start, j - j_start)
            for i, j in self.duplicates[kind]
            if i_start <= i < i_stop and j_start <= j < j_stop
        ]

    def _span(self, name: str) -> tuple[int, int]:
        start = 0
        for split, records in self.records.items():
            if split == name:
                return start, start + len(records)
            start += len(records)
        raise KeyError(name)


def checked_splits(
    data: DataArguments, seed: int, folder: Path | None = None, cache: str | Path | None = None
) -> Splits:
    """The rows of `training`, `validation` and, where the recipe has them, `test` and `references`.

    Args:
        data: The recipe's part about the data.
        seed: Of the rows that are held out.
        folder: Where the complete list of problems is left, see [`list_problems`]; None: nowhere.
        cache: As in [`read_splits`].

    Raises:
        TableError: For everything that would spoil a result and that `allow` does not list.
    """
    with nullcontext() if folder is None else listed_errors(folder):
        splits = read_splits(data, seed, cache)
    listed = "" if folder is None else list_problems(splits.problems, folder)
    stop_on_problems(splits.problems, data.allow, listed)
    return splits


def read_splits(data: DataArguments, seed: int, cache: str | Path | None = None) -> Splits:
    """The rows of every split as the recipe says, whatever their problems.

    Given splits are used: a file or a saved split of its own, or a column that names the split. Otherwise
    `test_share` and then `validation_share` of the rows are held out by `hold_out`.

    Args:
        data: The recipe's part about the data.
        seed: Of the rows that are held out.
        cache: Folder that keeps fingerprints of pictures, so that none is read again by other processes and
            later runs, see `kept_fingerprints`; None: nothing is kept.

    Raises:
        TableError: If a table cannot be read.
    """
    assert isinstance(data.tasks, dict)
    tables, unused = _read_tables(data)
    if data.references_file:
        tables["references"] = [_read(data, data.references_file)]
    columns = RecordColumns.of(data)
    with kept_fingerprints(cache) as known:
        read = {
            name: [without_empty_rows(read_records(table, columns, known)) for table in several]
            for name, several in tables.items()
        }
    given = {name: join_records(several) for name, several in read.items()}
    # Once, for every choice of rows below.
    near = NearImages(record.fingerprint for records in given.values() for record in records.rows)
    # A table that is divided by a column has its malformed rows in every split.
    problems = list(dict.fromkeys(problem for records in given.values() for problem in records.problems))
    sources = {
        name: f"{records.table.name}, as given" for name, records in given.items() if name != "training"
    }
    for name, share in (("test", data.test_share), ("validation", data.validation_share)):
        if name not in given and share:
            whole = given["training"]
            try:
                kept, held = hold_out(whole, task_specs(data.tasks), share, seed, near)
            except TableError as error:  # said with what else is wrong, which may be the reason
                problems.append(Problem("no_split", str(error)))
                continue
            given |= {"training": whole.select(kept), name: whole.select(held)}
            sources[name] = f"{share:.0%} held out, stratified, no duplicate apart, seed {seed}"
    records = {name: given[name] for name in SPLITS if name in given}
    rows = [record for table in records.values() for record in table.rows]
    duplicates = find_duplicates([row.fingerprint for row in rows], [row.text for row in rows], near)
    splits = Splits(records, duplicates, sources, unused, problems)
    return replace(splits, problems=[*problems, *_crossing_problems(splits)])


def hold_out(
    records: Records, specs: dict[str, TaskSpec], share: float, seed: int, near: NearImages
) -> tuple[list[int], list[int]]:
    """Rows to train on and rows to hold out.

    Every class of every task is as frequent on both sides as whole groups of duplicates allow; duplicates,
    exact and near, of pictures and of texts, stay together.

    Args:
        records: All rows.
        specs: The tasks.
        share: Of the rows to hold out, in (0, 1).
        seed: Of the random choice.
        near: Which of the rows' pictures, and perhaps of others, look alike.

    Raises:
        TableError: If all rows are duplicates of each other.
    """
    rows = records.rows
    duplicates = find_duplicates([row.fingerprint for row in rows], [row.text for row in rows], near)
    groups = group_rows(len(records), [pair for pairs in duplicates.values() for pair in pairs])
    labels = label_columns(rows)
    columns = [toolkit_kind(spec).strata(spec, labels[name]) for name, spec in specs.items()]
    held = stratify(groups, np.concatenate(columns, axis=1), share, np.random.default_rng(seed))
    if held.all() or not held.any():
        raise TableError(
            f"{records.table.name}: holding out {share:.0%} of {len(records)} rows, which are "
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


def _read_tables(data: DataArguments) -> tuple[dict[str, list[Table]], dict[str, int]]:
    """The tables of every split that is given, and the sizes of others that are not used."""
    folder = data.path("")
    tables = tell_apart([_read(data, source, data.train_split) for source in data.train_file])
    if data.split_column:
        return _by_column(tables, data)
    splits = {"training": tables}
    for name, file, split in (
        ("validation", data.validation_file, data.validation_split),
        ("test", data.test_file, data.test_split),
    ):
        if file:
            splits[name] = [_read(data, file, split)]
        elif split is not None:
            for source, table in zip(data.train_file, tables, strict=True):
                if not has_splits(source, folder):
                    raise TableError(
                        f"{table.name} is one table, so `{name}_split` {split!r} says nothing: set "
                        "`split_column`, or name a saved `DatasetDict` or a dataset on the Hub "
                        f"({HUB_PREFIX}OWNER/NAME)."
                    )
            splits[name] = tell_apart([_read(data, source, split) for source in data.train_file])
    return splits, {}


def _read(data: DataArguments, source: str, split: str | None = None) -> Table:
    return read_well_formed(source, data.path(""), split, delimiter=data.delimiter, encoding=data.encoding)


def _by_column(tables: list[Table], data: DataArguments) -> tuple[dict[str, list[Table]], dict[str, int]]:
    assert data.split_column is not None
    cells = [
        ["" if cell is None else str(cell).strip() for cell in table.cells(data.split_column)]
        for table in tables
    ]
    counts = Counter(cell for column in cells for cell in column)
    wanted = {"training": data.train_split, "validation": data.validation_split, "test": data.test_split}
    splits = {}
    for split, name in wanted.items():
        if name is None:
            continue
        if name not in counts:
            raise TableError(
                f"{' + '.join(table.name for table in tables)}: column {data.split_column!r} has the values "
                f"{dict(counts)}, not {name!r}: set `train_split`, `validation_split` and `test_split` to "
                "some of them."
            )
        rows = [[row for row, cell in enumerate(column) if cell == name] for column in cells]
        splits[split] = [table.select(found) for table, found in zip(tables, rows, strict=True) if found]
    return splits, {name: count for name, count in counts.items() if name not in wanted.values()}


def _crossing_problems(splits: Splits) -> list[Problem]:
    problems = []
    for kind in DUPLICATE_KINDS:
        for first, second in combinations(splits.records, 2):
            if {first, second} == MAY_SHARE:
                continue
            if pairs := splits.between(kind, first, second):
                here, there = splits.records[first].table, splits.records[second].table
                rows = here.where(sorted({i for i, _ in pairs})), there.where(sorted({j for _, j in pairs}))
                problems.append(
                    Problem(
                        "split_duplicates",
                        f"{len(pairs)} duplicate(s) cross the split ({kind}): {here.name} {rows[0]}; "
                        f"{there.name} {rows[1]}. Remove them from one side.",
                        tuple(
                            RowProblem(
                                "split_duplicates",
                                here.name,
                                here.where([i]),
                                f"{kind} as {there.name} {there.where([j])}",
                            )
                            for i, j in pairs
                        ),
                    )
                )
    return problems
