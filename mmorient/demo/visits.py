"""A model that several visitors use at once; what a visitor teaches affects only their own answers."""

import base64
import copy
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# References of one visitor; each costs a copy of all references' ids in memory.
MOST_TAUGHT = 32


@dataclass(frozen=True)
class Meme:
    """What a visitor gives.

    Args:
        image: File of the picture; None: there is none.
        text: The text on the picture; None: there is none.
    """

    image: Path | None
    text: str | None

    def row(self) -> dict[str, str]:
        """The meme as in a request; it names no file of this machine.

        Raises:
            ValueError: If there is neither a picture nor a text.
        """
        found = {}
        if self.image is not None:
            found["image"] = base64.b64encode(self.image.read_bytes()).decode("ascii")
        if self.text is not None and self.text.strip():
            found["text"] = self.text
        if not found:
            raise ValueError("There is nothing to answer yet: give a picture, a text, or both.")
        return found


@dataclass(frozen=True)
class Taught:
    """A reference of one visitor.

    Args:
        id: The reference's id.
        key: Equal for equal memes.
        picture: What the model saw, an RGB PIL image; None: there was none.
        text: None: there was none.
        labels: By task, as requests hold them.
    """

    id: str
    key: str
    picture: Any
    text: str | None
    labels: Mapping[str, Any]


@dataclass(frozen=True)
class Visit:
    """What belongs to one visitor.

    Args:
        taught: In the order of teaching.
        references: The model's and the taught ones; None: nothing was taught.
    """

    taught: tuple[Taught, ...] = ()
    references: Any = None

    def find(self, name: str) -> Taught | None:
        """The taught reference of an id."""
        return next((taught for taught in self.taught if taught.id == name), None)


@dataclass(frozen=True)
class Answered:
    """An answer, with the meme that it is about.

    Args:
        picture: What the model saw, an RGB PIL image; None: there was none.
        text: None: there was none.
        answers: By task, as a pipeline answers.
        explanation: An `Explanation`, as a pipeline gives it.
    """

    picture: Any
    text: str | None
    answers: Mapping[str, Any]
    explanation: Mapping[str, Any]


class SharedModel:
    """Answers to visitors, one at a time.

    Args:
        pipeline: An `MMOrientPipeline`. Its model's references stay as they are.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline, self.model = pipeline, pipeline.model
        self.specs = self.model.config.task_specs
        self.references = self.model.references
        self._lock = threading.Lock()

    @property
    def can_learn(self) -> bool:
        """Whether references can be added and influence the answers."""
        config = self.model.config
        used = config.use_in_modal or config.use_cross_modal or config.use_votes
        return bool(used) and hasattr(self.references, "add")

    def answer(self, meme: Meme, visit: Visit) -> Answered:
        """What the model answers with a visitor's references, and why.

        Raises:
            ValueError: If the meme cannot be read, naming the field and the remedy.
        """
        request = self.pipeline.read_request({"inputs": meme.row(), "parameters": {"explain": True}})
        with self._references_of(visit):
            found = self.pipeline.answer_request(request)
        (row,) = request.rows
        return Answered(row.image, row.text, found["answers"], found["explanation"])

    def teach(self, meme: Meme, labels: Mapping[str, Any], visit: Visit) -> Visit:
        """A visitor's references with one more, which replaces one with the same picture and text.

        Args:
            meme: The meme.
            labels: By task, as requests hold them.
            visit: The visit before.

        Raises:
            ValueError: If the meme cannot be read, no label is given, or the visitor has taught enough.
        """
        if not labels:
            raise ValueError("Choose a label of at least one task: that is what the model learns.")
        row = meme.row()
        key = hashlib.sha256(json.dumps(row).encode()).hexdigest()
        known = next((one for one in visit.taught if one.key == key), None)
        if known is None and len(visit.taught) >= MOST_TAUGHT:
            raise ValueError(f"One visit can teach {MOST_TAUGHT} memes: forget what you taught to go on.")
        before = self.references if visit.references is None else visit.references
        name = _free_id(before) if known is None else known.id
        (read,) = self.pipeline.read_request({"inputs": row, "parameters": {"explain": True}}).rows
        inputs, ids, values, _ = self.pipeline.read_references(
            {"references": [{"id": name, **row, "labels": dict(labels)}]}
        )
        with self._lock:
            references, entries = copy.copy(before), self.model.reference_entries(inputs)
            change = references.add if known is None else references.replace
            change(ids, *entries, values)
        # The latest comes last.
        others = tuple(one for one in visit.taught if one is not known)
        return Visit((*others, Taught(name, key, read.image, read.text, labels)), references)

    @contextmanager
    def _references_of(self, visit: Visit) -> Iterator[None]:
        """Give the model a visitor's references while this visitor is answered."""
        with self._lock:
            if visit.references is None:
                yield
                return
            self.model.references = visit.references
            try:
                yield
            finally:
                self.model.references = self.references


def _free_id(references: Any) -> str:
    """An id that no reference has."""
    number = 1
    while references.indices([f"yours {number}"])[0] >= 0:
        number += 1
    return f"yours {number}"
