"""Attacks on `forward`: one input at a time is of a wrong type, dtype, shape, place or value.

Where it is answered, the answer of a row must be the one that the row gets alone.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from harness import Case, amount, check
from hostile_values import FLOATS, SHAPES, with_entry, wrong_tensors

from modeling_mmorient import MMOrientForMultitaskClassification

Model = MMOrientForMultitaskClassification
Attack = Callable[[Iterable[Case]], None]
Inputs = dict[str, Any]
MASKS = ("region_mask", "attention_mask", "joint_attention_mask", "image_present", "text_present")
IDS = ("input_ids", "joint_input_ids", "token_type_ids")
ROWS = 4


@pytest.fixture(scope="module")
def models(
    make_model: Callable[..., Model], make_inputs: Callable[..., Inputs], make_labels: Callable[..., Inputs]
) -> dict[str, tuple[Model, Inputs]]:
    """By kind: a model with references and votes, and inputs for it."""
    made = {}
    for kind in ("features", "joint", "vision"):
        options = {"task_feature_dim": 3} if kind == "features" else {}
        model = make_model(kind, graph_scope="references", **options)
        extra = {"task_features": torch.randn(12, 3)} if options else {}
        known = make_inputs(kind, 12, seed=1) | extra
        model.add_references(known, [f"r{place}" for place in range(12)], make_labels(12))
        inputs = make_inputs(kind, ROWS, seed=2)
        inputs |= {name: torch.ones(ROWS, dtype=torch.bool) for name in ("image_present", "text_present")}
        inputs["own_reference"] = torch.tensor([0, -1, 3, -1])
        made[kind] = model, inputs | {name: values[:ROWS] for name, values in extra.items()}
    return made


@torch.no_grad()
def answer(model: Model, inputs: Mapping[str, Any]) -> torch.Tensor:
    """All logits of each row, (B, classes of all tasks)."""
    return torch.cat(list(model(**inputs).logits.values()), -1)


def same(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-4) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, tolerance, tolerance, equal_nan=True)


def ask(
    model: Model,
    inputs: Inputs,
    field: str,
    make: Callable[[], Any],
    expected: torch.Tensor | None = None,
    refusal: bool = False,
) -> None:
    """Asks with one field replaced, and checks the answer.

    Args:
        model: That is asked.
        inputs: Good ones.
        field: That is replaced.
        make: Gives the value in its place.
        expected: The right answer; None: that of each row alone.
        refusal: There is no right answer.
    """
    changed = {**inputs, field: make()}
    found = answer(model, changed)
    check(not refusal, f"answered with {field} = {changed[field]!r:.200}")
    if expected is not None:
        check(same(found, expected, 0.05), f"other logits: {found} instead of {expected}")
        return
    check(len(found) == len(inputs["own_reference"]), f"{len(found)} rows of answers")
    for row in range(len(found)):
        alone = {
            name: values[row : row + 1] if isinstance(values, torch.Tensor) and values.ndim else values
            for name, values in changed.items()
        }
        check(same(found[row : row + 1], answer(model, alone)), f"row {row} is answered otherwise alone")


def is_exact(what: str) -> bool:
    """Whether the tensors of a mutation hold the same values, so that the answer cannot be another."""
    return what in (
        "as torch.float64",
        "not contiguous",
        "a parameter",
        "sparse",
        "a list",
        "an array",
        "nested",
    )


def of_wrong_form(kind: str, model: Model, inputs: Inputs) -> Iterator[Case]:
    expected = answer(model, inputs)
    for field, tensor in inputs.items():
        for what, make in wrong_tensors(tensor):
            right = expected if is_exact(what) else None
            refusal = what.startswith("as torch.complex") or what == "on the meta device"
            if field in (*MASKS, *IDS) and what.startswith("as torch."):
                # 0, 1 and ids are the same in each dtype that can hold them.
                right = expected if not refusal and torch.equal(make().to(tensor.dtype), tensor) else None
            # Of two shapes that do not fit each other, either may be named.
            things = tuple(inputs) if what in SHAPES else field
            name = f"{kind} {field} is {what}"
            yield Case(
                "forward inputs", name, 0, things, partial(ask, model, inputs, field, make, right, refusal)
            )


def of_wrong_values(kind: str, model: Model, inputs: Inputs, seed: int) -> Iterator[Case]:
    rng = random.Random(seed)

    def case(field: str, what: str, value: float, refusal: bool, values: torch.Tensor | None = None) -> Case:
        tensor = inputs[field] if values is None else values
        changed, _ = with_entry(tensor, value, rng)
        attempt = partial(ask, model, inputs, field, lambda: changed, None, refusal)
        return Case("forward inputs", f"{kind} {field} holds {what}", seed, field, attempt)

    for field, tensor in inputs.items():
        if field in MASKS:
            for value in (2, -1, 255):
                yield case(field, str(value), value, True, tensor.long())
            for value in (0.5, float("nan"), -1.0, 1e9):
                yield case(field, str(value), value, True, tensor.float())
        elif field in IDS:
            for value in (-1, -(2**40), 10_000, 2**31, 2**62):
                yield case(field, str(value), value, True)
        elif field == "own_reference":
            for value in (-2, 12, 10**9, -(2**62)):
                yield case(field, str(value), value, True)
        else:
            for what, value in FLOATS.items():
                yield replace(case(field, what, value, False), thing=(field, "picture", "text"))


def of_missing_rows(kind: str, model: Model, inputs: Inputs) -> Iterator[Case]:
    """Masks that leave a row, or all rows, without anything; and fields that are left out."""
    for field in MASKS:
        if field in inputs:
            for what, rows in (("one row", [1]), ("all rows", list(range(ROWS)))):
                changed = inputs[field].clone()
                changed[rows] = 0
                attempt = partial(ask, model, inputs, field, lambda changed=changed: changed)
                yield Case("forward inputs", f"{kind} {field} masks {what}", 0, field, attempt)
    for field in inputs:
        attempt = partial(ask, model, inputs, field, lambda: None)
        # What is missing without the others, or says nothing without them, may be named in its place.
        yield Case("forward inputs", f"{kind} {field} is left out", 0, (field, *MASKS, *IDS), attempt)
    empty = {name: values[:0] for name, values in inputs.items()}
    yield Case("forward inputs", f"{kind} batch is empty", 0, tuple(inputs), partial(ask_empty, model, empty))


def ask_empty(model: Model, inputs: Inputs) -> None:
    found = answer(model, inputs)
    check(len(found) == 0, f"{len(found)} answers to no row")


def pair(kind: str, model: Model, inputs: Inputs, seed: int) -> Case:
    """Two fields at once, each with any of the wrong tensors."""
    rng = random.Random(seed)
    fields = rng.sample(sorted(inputs), 2)
    chosen = [rng.choice(list(wrong_tensors(inputs[field]))) for field in fields]

    def attempt() -> None:
        ask(model, inputs | {fields[0]: chosen[0][1]()}, fields[1], chosen[1][1])

    what = " and ".join(f"{field} is {name}" for field, (name, _) in zip(fields, chosen, strict=True))
    return Case("forward inputs", f"{kind} {what}", seed, tuple(inputs), attempt)


@pytest.mark.parametrize("kind", ["features", "joint", "vision"])
def test_forward_inputs(kind: str, models: dict[str, tuple[Model, Inputs]], attack: Attack) -> None:
    model, inputs = models[kind]
    cases = [*of_wrong_form(kind, model, inputs), *of_missing_rows(kind, model, inputs)]
    if kind != "features":  # encoders take their time
        cases = cases[:: amount(5, 1)]
    for seed in range(amount(1, 20)):
        cases += of_wrong_values(kind, model, inputs, seed)
    cases += [pair(kind, model, inputs, seed) for seed in range(amount(20, 1000))]
    attack(cases)


def ask_for_loss(
    model: Model, inputs: Inputs, labels: Any, expected: float | None, refusal: bool, counts: Any
) -> None:
    with torch.no_grad():
        loss = model(**inputs, labels=labels, num_items_in_batch=counts).loss
    check(not refusal, f"answered with the labels {labels!r:.300} and the numbers {counts!r:.200}")
    check(loss is not None and loss.ndim == 0 and bool(loss.isfinite()), f"the loss is {loss}")
    if expected is not None:
        check(abs(float(loss) - expected) < 1e-4, f"the loss is {float(loss)}, not {expected}")


def ask_for_other_labels(
    model: Model, inputs: Inputs, labels: Inputs, name: str, what: str, make: Callable[[], Any], loss: float
) -> None:
    """With the labels of one task replaced: refused, unless they are the same ones in another dtype."""
    given, tensor = make(), labels[name]
    if what == "as torch.bool":  # classes 0 and 1
        loss = float(model(**inputs, labels=labels | {name: given.long()}).loss)
        tensor = given
    kept = isinstance(given, torch.Tensor) and what.startswith("as ") and not given.is_complex()
    right = loss if is_exact(what) or (kept and torch.equal(given.double(), tensor.double())) else None
    ask_for_loss(model, inputs, labels | {name: given}, right, right is None, None)


def of_labels(model: Model, inputs: Inputs, labels: Inputs) -> Iterator[Case]:
    with torch.no_grad():
        loss = float(model(**inputs, labels=labels).loss)

    def case(what: str, thing: str | tuple[str, ...], given: Any, right: float | None, refusal: bool) -> Case:
        attempt = partial(ask_for_loss, model, inputs, given, right, refusal, None)
        return Case("labels", f"labels {what}", 0, thing, attempt)

    for name, tensor in labels.items():
        for what, make in wrong_tensors(tensor):
            attempt = partial(ask_for_other_labels, model, inputs, labels, name, what, make, loss)
            yield Case("labels", f"labels of {name} are {what}", 0, name, attempt)
        for value in (-1, 4, 100, -99, -101, 2**40):
            changed, _ = with_entry(tensor, value, random.Random(value))
            yield case(f"of {name} hold {value}", name, labels | {name: changed}, None, True)
        for text, value in (*FLOATS.items(), ("0.5", 0.5)):
            changed, _ = with_entry(tensor.float(), value, random.Random(text))
            yield case(f"of {name} hold {text}", name, labels | {name: changed}, None, True)
        yield case(f"of {name} are None", name, labels | {name: None}, None, True)
        unknown = labels | {name: torch.full_like(tensor, -100)}
        yield case(f"of {name} are all unknown", name, unknown, None, False)
    wrong: list[Any] = [
        [],
        [labels],
        "x",
        3,
        torch.zeros(ROWS),
        {"x": labels["humour"]},
        {3: labels["humour"]},
    ]
    wrong += [{None: None}, {"sentiment ": labels["sentiment"]}, [("sentiment", labels["sentiment"])]]
    for number, given in enumerate(wrong):
        yield case(f"number {number} is no mapping of tasks", "labels", given, None, True)
    yield case("are empty", "labels", {}, 0.0, False)
    known = {name: (values != -100).sum() for name, values in labels.items()}
    counts: list[tuple[Any, bool]] = [(known, False), (7, True), ("x", True), ({}, True), ([1, 2, 3], True)]
    for value in (-1, float("nan"), "x", torch.ones(2), 10**400, 1j, float("inf")):
        counts.append((known | {"humour": value}, True))
    for number, (given, refusal) in enumerate(counts):
        attempt = partial(ask_for_loss, model, inputs, labels, None if refusal else loss, refusal, given)
        yield Case("labels", f"num_items_in_batch number {number}", 0, "num_items_in_batch", attempt)


def test_labels(
    models: dict[str, tuple[Model, Inputs]], make_labels: Callable[..., Inputs], attack: Attack
) -> None:
    model, inputs = models["features"]
    attack(of_labels(model, inputs, make_labels(ROWS, seed=3)))
