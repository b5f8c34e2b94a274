"""The memes that explanations are of, and the references that they name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mmorient.kinds.cells import is_labelled
from mmorient.tables.memes import Memes
from modeling_mmorient.explanation import NeighborExplanation
from modeling_mmorient.task_kinds import kind_of
from modeling_mmorient.task_specs import TaskSpec


@dataclass(frozen=True)
class Meme:
    """One meme.

    Args:
        name: What a person calls it.
        image: Path or bytes of its picture; None where it has none.
        text: None where it has none.
        labels: By task, what is true of it; tasks that it is not labelled for are left out.
    """

    name: str
    image: str | bytes | None
    text: str | None
    labels: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class MemeTable:
    """A part of a recipe's rows as memes, by place (from 0) and by name.

    Args:
        memes: The rows.
        specs: The recipe's tasks.
    """

    memes: Memes
    specs: Mapping[str, TaskSpec]

    def __len__(self) -> int:
        return len(self.memes)

    def __getitem__(self, place: int) -> Meme:
        labels = {task: column[place] for task, column in self.memes.labels.items()}
        return Meme(
            str(self.memes.table.numbers[place]),
            self.memes.pictures.values[place].as_py(),
            self.memes.texts[place],
            {
                task: kind_of(self.specs[task]).names(self.specs[task], label)
                for task, label in labels.items()
                if is_labelled(label)
            },
        )

    def find(self, name: str) -> Meme | None:
        """The meme of that name (a row's number, or `file:row` where the rows are of several files)."""
        place = self._places.get(name)
        return None if place is None else self[place]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(number): place for place, number in enumerate(self.memes.table.numbers)}


def contradicts(meme: Meme, neighbor: NeighborExplanation) -> bool:
    """Whether a meme has other labels than the reference of its name, and so can hardly be that reference.

    Tasks that only one of them is labelled for say nothing.
    """
    known = {task: neighbor_labels(neighbor, task) for task in neighbor.labels}
    return any(set(known[task]) != set(meme.labels[task]) for task in known.keys() & meme.labels.keys())


def neighbor_labels(neighbor: NeighborExplanation, task: str) -> list[str]:
    """What is known of a neighbour for one task that it is labelled for."""
    labels = neighbor.labels[task]
    return [labels] if isinstance(labels, str) else list(labels)
