"""The rows that explanations are of, and the references that they name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from mmorient.explanation.views import label_list
from mmorient.kinds.cells import is_labelled
from mmorient.tables.records import Record, Records
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class SplitRows:
    """The rows of a recipe's split, by name and with the names of their labels.

    Args:
        records: The rows.
        specs: The recipe's tasks.
    """

    records: Records
    specs: Mapping[str, TaskSpec]

    def truth(self, record: Record) -> dict[str, list[str]]:
        """By task, the labels of a row; tasks that it is not labelled for are left out."""
        return {
            task: kind_of(self.specs[task]).names(self.specs[task], label)
            for task, label in record.labels.items()
            if is_labelled(label)
        }

    def find(self, name: str) -> Record | None:
        """The row of that name (its number, or `file:row` where the rows are of several files)."""
        return self._by_name.get(name)

    def is_other(self, record: Record, labels: Mapping[str, str | Sequence[str]]) -> bool:
        """Whether a row's labels differ from those of the reference with its name: probably another meme.

        Args:
            record: The row.
            labels: Of the reference, by task. Tasks that only one of them is labelled for say nothing.
        """
        truth = self.truth(record)
        known = {task: label_list(values) for task, values in labels.items()}
        return any(set(known[task]) != set(truth[task]) for task in known.keys() & truth.keys())

    @cached_property
    def _by_name(self) -> dict[str, Record]:
        return {record.row: record for record in self.records.rows}
