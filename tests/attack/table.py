"""The table of `docs/attacks.md`: for each class of attack, how many of its cases ended how."""

from collections.abc import Mapping
from pathlib import Path

from harness import OUTCOMES

START, END = "<!-- The table is written by `make attack`. -->", "<!-- End of the table. -->"
HEADINGS = (
    "class",
    "tried",
    "answered rightly",
    "refused with a message",
    "refused by a library's traceback",
    "wrong in silence",
    "hanging or beyond 2 GB",
)


def markdown(endings: Mapping[str, Mapping[str, int]]) -> str:
    """The table of these counts, its classes in alphabetical order."""
    return "\n".join([*_head(), *(_row(sweep, endings[sweep]) for sweep in sorted(endings))])


def write_table(page: Path, endings: Mapping[str, Mapping[str, int]]) -> None:
    """Puts the table into the page. Classes that were not run keep the row they have there."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    old, after = rest.split(END)
    rows = {
        line.split("|")[1].strip(): line
        for line in old.splitlines()
        if line.startswith("|") and line not in _head()
    }
    rows.update({sweep: _row(sweep, outcomes) for sweep, outcomes in endings.items()})
    table = "\n".join([*_head(), *(rows[sweep] for sweep in sorted(rows))])
    page.write_text(f"{before}{START}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def _head() -> list[str]:
    return [f"| {' | '.join(HEADINGS)} |", f"|---{'|---:' * (len(HEADINGS) - 1)}|"]


def _row(sweep: str, outcomes: Mapping[str, int]) -> str:
    numbers = (outcomes.get(outcome, 0) for outcome in OUTCOMES)
    return f"| {sweep} | {sum(outcomes.values()):,} | {' | '.join(f'{number:,}' for number in numbers)} |"
