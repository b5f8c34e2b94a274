"""What a run shows while it trains."""

from collections.abc import Callable

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from mmorient.fitting.epoch_table import EpochTable


def latest() -> Callable[[], tuple[float | None, dict[str, float]]]:
    """A loss for the first row, none for the second."""
    values = iter([(2.5, {"image": 7.25}), (None, {"image": 7.25})])
    return lambda: next(values)


def shown(table: EpochTable, arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of two epochs, the second of them without a loss."""
    state, control = TrainerState(max_steps=4, is_world_process_zero=True), TrainerControl()
    table.on_train_begin(arguments, state, control)
    for epoch in (1, 2):
        state.epoch = epoch
        table.on_epoch_end(arguments, state, control)
        if arguments.eval_strategy != "no":
            metrics = {
                "eval_loss": 1.5,
                "eval_macro_f1_mood": 0.25,
                "eval_macro_f1": 0.5,
                "eval_runtime": 9.0,
            }
            table.on_evaluate(arguments, state, control, metrics=metrics)
    table.on_train_end(arguments, state, control)
    return capsys.readouterr().out.splitlines()


def arguments(folder: object, strategy: str) -> TrainingArguments:
    return TrainingArguments(str(folder), eval_strategy=strategy, disable_tqdm=True, report_to="none")


def test_a_row_for_each_evaluation_has_losses_scores_and_degrees(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    header, first, second = shown(EpochTable(latest()), arguments(tmp_path, "epoch"), capsys)
    names = ["epoch", "loss", "evaluation loss", "mood", "mean macro-F1", "image degree"]
    assert [name.strip() for name in header.split("  ") if name.strip()] == [*names, "text degree"]
    assert first.split() == ["1", "2.500", "1.500", "0.250", "0.500", "7.2", "-"]
    assert second.split() == ["2", "-", "1.500", "0.250", "0.500", "7.2", "-"]
    assert len(header) == len(first) == len(second)


def test_without_evaluations_there_is_a_row_for_each_epoch(
    tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    header, first, second = shown(EpochTable(latest()), arguments(tmp_path, "no"), capsys)
    assert header.split()[:2] == ["epoch", "loss"] and first.split()[:3] == ["1", "2.500", "-"]
    assert second.split()[0] == "2"


def test_other_processes_show_nothing(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    table, state = EpochTable(latest()), TrainerState(max_steps=4, is_world_process_zero=False)
    given = arguments(tmp_path, "epoch")
    table.on_train_begin(given, state, TrainerControl())
    table.on_evaluate(given, state, TrainerControl(), metrics={"eval_loss": 1.0})
    table.on_train_end(given, state, TrainerControl())
    assert not capsys.readouterr().out
