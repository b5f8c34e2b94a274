"""What is fitted after training on rows that were not trained on: temperatures and decision thresholds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mmorient.kinds.cells import known_rows
from mmorient.kinds.kinds import toolkit_kind
from mmorient.scoring.task_predictions import finite_logits
from modeling_mmorient.task_specs import TaskSpec


class FittedDecisions(NamedTuple):
    """Tasks with what was fitted.

    Args:
        specs: By name, with what their kinds fit.
        notes: By name, what was not fitted and why, for a person; only tasks of which there is something to
            say.
    """

    specs: dict[str, TaskSpec]
    notes: dict[str, list[str]]


def fit_decisions(
    specs: Mapping[str, TaskSpec],
    logits: Mapping[str, ArrayLike],
    labels: Mapping[str, ArrayLike],
    seed: int = 0,
) -> FittedDecisions:
    """The tasks with what is fitted on known labels; what they had of it before is replaced.

    What is fitted the tasks' kinds say: of classes a temperature and, where they decide, thresholds
    (`mmorient.kinds.decisions.fit_task`).

    Args:
        specs: By name.
        logits: By name (rows, C), before any temperature, of rows that were neither trained on nor will be
            scored.
        labels: By name, as the task's kind has them.
        seed: Of the bootstrap; the same input gives the same result.

    Raises:
        ValueError: If a logit is not finite or the arrays do not fit.
    """
    fitted, notes = {}, {}
    for name, spec in specs.items():
        kind, truth = toolkit_kind(spec), np.asarray(labels[name])
        values, known = finite_logits(name, logits[name]), known_rows(truth)
        plain = replace(spec, **kind.unfitted)
        fitted[name], said = kind.fit(plain, values[known], truth[known], seed)
        if said:
            notes[name] = said
    return FittedDecisions(fitted, notes)
