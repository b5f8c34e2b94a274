"""Explanations as a model gives them, made up."""

from collections.abc import Sequence

import numpy as np

from modeling_mmorient.explanation import Explanation, NeighborExplanation, TaskExplanation
from modeling_mmorient.task_specs import TaskSpec

BRANCHES = (
    *("HIMA picture", "HIMA text", "in-modal picture", "in-modal text", "cross-modal picture"),
    *("cross-modal text", "votes picture graph", "votes text graph"),
)


def task_explanation(spec: TaskSpec, seed: int = 0, decision: Sequence[str] | None = None) -> TaskExplanation:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=spec.num_labels) * 1.5
    if spec.kind == "multilabel":
        shares = 1 / (1 + np.exp(-logits))
        answer = [label for label, share in zip(spec.labels, shares, strict=True) if share > 0.5]
    else:
        shares = np.exp(logits) / np.exp(logits).sum()
        answer = [spec.labels[int(shares.argmax())]]

    def by_label(scale: float) -> dict[str, float]:
        values = rng.normal(size=spec.num_labels) * scale
        return dict(zip(spec.labels, values.tolist(), strict=True))

    return TaskExplanation(
        spec.name,
        dict(zip(spec.labels, shares.tolist(), strict=True)),
        answer if decision is None else list(decision),
        {branch: by_label(0.6) for branch in BRANCHES},
        {graph: by_label(0.3) for graph in ("image", "text")},
    )


def neighbor(
    name: str, similarity: float = 0.9, count: int = 1, **labels: str | list[str]
) -> NeighborExplanation:
    votes = dict.fromkeys(labels, 1 / count)
    return NeighborExplanation(name, similarity, 1 / (count + 1), votes, dict(labels))


def explanation(
    specs: dict[str, TaskSpec],
    text: str | None = "when the build is green",
    picture: bool = True,
    neighbors: dict[str, list[NeighborExplanation]] | None = None,
    seed: int = 0,
    grid: tuple[int, int] = (7, 7),
    **decisions: Sequence[str],
) -> Explanation:
    """An explanation of made-up numbers; `decisions` by task."""
    rng = np.random.default_rng(seed)
    words = (text or "").lower().split()
    weights = rng.dirichlet(np.full(max(1, len(words)), 3.0))
    attention = rng.dirichlet(np.full(grid[0] * grid[1], 1.5)).reshape(grid)
    return Explanation(
        {
            name: task_explanation(spec, seed + index, decisions.get(name))
            for index, (name, spec) in enumerate(specs.items())
        },
        {"image": [], "text": []} if neighbors is None else neighbors,
        attention.tolist() if picture else None,
        list(zip(words, weights.tolist(), strict=True)) if words else None,
    )
