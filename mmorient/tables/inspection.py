"""The schema report: what is in the tables, and what would spoil a result."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations

from mmorient.kinds.cells import is_labelled
from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.arguments import DataArguments
from mmorient.recipes.tasks import task_specs
from mmorient.tables.duplicates import DUPLICATE_KINDS, Pair, group_rows
from mmorient.tables.memes import Memes
from mmorient.tables.splits import Splits
from modeling_mmorient.task_specs import TaskSpec

# Lines of a list; what is beyond them is counted.
SHOWN = 30


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
    for name, memes in splits.parts.items():
        lines.append(f"{name}: {memes.table.name}")
        lines.append(f"  columns: {', '.join(memes.table.columns)}")
    lines += [f"{name} rows: {source}" for name, source in splits.sources.items()]
    if splits.unused:
        lines.append("splits not used: " + ", ".join(f"{name!r} {n}" for name, n in splits.unused.items()))
    return "\n".join(lines)


def _counts(splits: Splits) -> str:
    parts = list(splits.parts.values())
    rows: list[Sequence[object]] = [
        ("rows", *map(len, parts)),
        (
            "  without a picture",
            *(_count(names is None for names in memes.pictures.names) for memes in parts),
        ),
        ("  picture not found", *map(_not_found, parts)),
        ("  picture unreadable", *(len(memes.pictures.unreadable) for memes in parts)),
        ("  without a text", *(_count(text is None for text in memes.texts) for memes in parts)),
        ("  without any label", *map(_unlabelled, parts)),
    ]
    # What is left out of a table is known of the table, not of the parts that it is divided into.
    for reason, counts in (
        ("neither picture nor text", {memes.table.name: memes.left_out for memes in parts}),
        ("malformed", {memes.table.name: _malformed(memes) for memes in parts}),
    ):
        rows.append((f"left out ({reason})", *(counts.pop(memes.table.name, "") for memes in parts)))
    return _table(("", *splits.parts), rows)


def _not_found(memes: Memes) -> int:
    pictures = memes.pictures
    usable = zip(pictures.names, pictures.fingerprints, strict=True)
    return _count(name is not None and print_ is None for name, print_ in usable) - len(pictures.unreadable)


def _malformed(memes: Memes) -> int:
    return sum(len(problem.findings) for problem in memes.table.problems)


def _unlabelled(memes: Memes) -> int:
    rows = zip(*memes.labels.values(), strict=True)
    return _count(not any(map(is_labelled, row)) for row in rows)


def _task(name: str, spec: TaskSpec, splits: Splits) -> str:
    kind = toolkit_kind(spec)
    columns = [kind.inspection(spec, memes.labels[name]) for memes in splits.parts.values()]
    rows: list[tuple[object, ...]] = [
        (f"  {row[0][0]}", *(said for _, said in row)) for row in zip(*columns, strict=True)
    ]
    unknown = [Counter(memes.unknown[name].values()) for memes in splits.parts.values()]
    for value in sorted({value for counts in unknown for value in counts})[:SHOWN]:
        rows.append((f"  unknown: {value!r}", *(counts[value] for counts in unknown)))
    return _table((f"{name} ({spec.kind})", *splits.parts), rows)


def _unreadable(splits: Splits) -> str:
    lines = []
    for memes in splits.parts.values():
        for row, reason in memes.pictures.unreadable.items():
            lines.append(
                f"  {memes.table.name} {memes.table.where([row])}: {memes.pictures.names[row]}: {reason}"
            )
    return _list("pictures that cannot be read", lines)


def _duplicates(splits: Splits) -> str:
    total = sum(map(len, splits.parts.values()))
    borders = list(combinations(splits.parts, 2))
    rows: list[tuple[object, ...]] = []
    lines = []
    for kind in DUPLICATE_KINDS:
        inside = [_groups(splits.between(kind, name, name), total) for name in splits.parts]
        crossing = [(border, pair) for border in borders for pair in splits.between(kind, *border)]
        rows.append((f"  {kind}", *inside, len(crossing)))
        for (first, second), (i, j) in crossing:
            here, there = splits.parts[first].table, splits.parts[second].table
            lines.append(f"  {kind}: {here.name} {here.where([i])} = {there.name} {there.where([j])}")
    table = _table(("duplicates", *splits.parts, "crossing pairs"), rows)
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


def _count(values: Iterable[bool]) -> int:
    return sum(1 for value in values if value)
