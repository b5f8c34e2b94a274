"""The schema report: what is in the tables, and what would spoil a result."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from mmorient.kinds.cells import is_labelled
from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.tasks import task_specs
from mmorient.tables.duplicates import DUPLICATE_KINDS, Pair, group_rows
from mmorient.tables.records import Record, has_problem, label_columns
from mmorient.tables.splits import Splits
from mmorient.tables.table import Table
from modeling_mmorient.task_specs import TaskSpec

# Lines of a list; what is beyond them is counted.
SHOWN = 30
# Kinds of problems of rows whose picture's cell is not empty.
PICTURES = ("outside_pictures", "missing_pictures", "unreadable_pictures")


def inspection_report(splits: Splits, data: DataArguments) -> str:
    """What is in the tables, for a person.

    Args:
        splits: The rows, with what was found.
        data: The recipe's part about the data.

    Returns:
        Text of several sections: tables, counts by split, labels by task, unreadable pictures, duplicates,
        and the problems that stop a run.
    """
    assert isinstance(data.tasks, dict)
    sections = [_tables(splits), _counts(splits)]
    for name, spec in task_specs(data.tasks).items():
        sections.append(_task(name, spec, splits))
    sections += [_unreadable(splits), _duplicates(splits), _problems(splits, data.allow)]
    return "\n\n".join(section for section in sections if section)


def _tables(splits: Splits) -> str:
    lines = []
    for name, records in splits.records.items():
        lines.append(f"{name}: {records.table.name}")
        lines.append(f"  columns: {', '.join(records.table.columns)}")
    lines += [f"{name} rows: {source}" for name, source in splits.sources.items()]
    if splits.unused:
        lines.append("splits not used: " + ", ".join(f"{name!r} {n}" for name, n in splits.unused.items()))
    return "\n".join(lines)


def _counts(splits: Splits) -> str:
    tables = list(splits.records.values())

    def counts(is_counted: Callable[[Record], bool]) -> list[int]:
        return [sum(map(is_counted, records.rows)) for records in tables]

    rows: list[Sequence[object]] = [
        ("rows", *map(len, tables)),
        ("  without a picture", *counts(lambda row: row.picture is None and not has_problem(row, *PICTURES))),
        ("  picture not found", *counts(lambda row: has_problem(row, "missing_pictures"))),
        ("  picture unreadable", *counts(lambda row: has_problem(row, "unreadable_pictures"))),
        ("  without a text", *counts(lambda row: row.text is None)),
        ("  without any label", *counts(lambda row: not any(map(is_labelled, row.labels.values())))),
    ]
    # What is left out of a table is known of the table, not of the splits that it is divided into.
    for reason, numbers in (
        ("neither picture nor text", {records.table.name: records.left_out for records in tables}),
        ("malformed", {records.table.name: _malformed(records.table) for records in tables}),
    ):
        rows.append((f"left out ({reason})", *(numbers.pop(records.table.name, "") for records in tables)))
    return _table(("", *splits.records), rows)


def _malformed(table: Table) -> int:
    return sum(len(problem.rows) for problem in table.problems)


def _task(name: str, spec: TaskSpec, splits: Splits) -> str:
    kind, tables = toolkit_kind(spec), splits.records.values()
    columns = [kind.inspection(spec, label_columns(records.rows)[name]) for records in tables]
    rows: list[tuple[object, ...]] = [
        (f"  {row[0][0]}", *(said for _, said in row)) for row in zip(*columns, strict=True)
    ]
    unknown = [
        Counter(record.unknown[name] for record in records.rows if name in record.unknown)
        for records in tables
    ]
    for value in sorted({value for counts in unknown for value in counts})[:SHOWN]:
        rows.append((f"  unknown: {value!r}", *(counts[value] for counts in unknown)))
    return _table((f"{name} ({spec.kind})", *splits.records), rows)


def _unreadable(splits: Splits) -> str:
    problems = [
        problem
        for records in splits.records.values()
        for record in records.rows
        for problem in record.problems
    ]
    lines = [
        f"  {problem.table} {problem.row}: {problem.detail}"
        for problem in problems
        if problem.kind == "unreadable_pictures"
    ]
    return _list("pictures that cannot be read", lines)


def _duplicates(splits: Splits) -> str:
    total = sum(map(len, splits.records.values()))
    borders = list(combinations(splits.records, 2))
    rows: list[tuple[object, ...]] = []
    lines = []
    for kind in DUPLICATE_KINDS:
        inside = [_groups(splits.between(kind, name, name), total) for name in splits.records]
        crossing = [(border, pair) for border in borders for pair in splits.between(kind, *border)]
        rows.append((f"  {kind}", *inside, len(crossing)))
        for (first, second), (i, j) in crossing:
            here, there = splits.records[first].table, splits.records[second].table
            lines.append(f"  {kind}: {here.name} {here.where([i])} = {there.name} {there.where([j])}")
    table = _table(("duplicates", *splits.records, "crossing pairs"), rows)
    return "\n\n".join(filter(None, [table, _list("duplicates that cross the split", lines)]))


def _groups(pairs: Iterable[Pair], total: int) -> str:
    members = Counter(group_rows(total, pairs).tolist()).values()
    groups = [size for size in members if size > 1]
    return f"{sum(groups)} rows in {len(groups)} groups" if groups else "none"


def _problems(splits: Splits, allowed: Sequence[str]) -> str:
    stopping = [str(problem) for problem in splits.problems if problem.kind not in allowed]
    passing = [problem.message for problem in splits.problems if problem.kind in allowed]
    lines = [f"A run stops here, for {len(stopping)} reason(s):" if stopping else "Nothing stops a run."]
    lines += [f"- {line}" for line in stopping]
    if passing:
        lines += ["The recipe allows:", *(f"- {line}" for line in passing)]
    return "\n".join(lines)


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([title, *lines[:SHOWN], *more])


def _table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
