"""What a training run shows: one bar, and a row of a table for each evaluation."""

from collections.abc import Callable, Mapping
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from modeling_mmorient.features import MODALITIES

# Metrics of an evaluation that are not scores.
_NO_SCORES = ("epoch", "eval_loss", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
_LEAST_WIDTH = 6
# Of all tasks together.
_MEANS = {"macro_f1": "mean macro-F1", "mean_score": "mean score"}


class EpochTable(TrainerCallback):
    """Prints a row for each evaluation, in place of `Trainer`'s dicts and second bar.

    A row holds the epoch, the mean training loss since the row before, the loss on the evaluation rows, their
    scores, and the mean degrees of the latest batch's graphs; `-` where there is none. Without evaluations
    there is a row for each epoch. Only the first process shows anything.

    Args:
        latest: Returns the mean training loss since its last call, and by modality the mean degree.
    """

    def __init__(self, latest: Callable[[], tuple[float | None, Mapping[str, float]]]) -> None:
        self._latest = latest
        self._bar: tqdm | None = None
        self._header: str | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            self._bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                unit="step",
                leave=False,
                dynamic_ncols=True,
                disable=args.disable_tqdm,
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._bar is not None:
            self._write(state, metrics or {})

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._bar is not None and args.eval_strategy == "no":
            self._write(state, {})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the bar; otherwise an error would be printed on the same line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, state: TrainerState, metrics: Mapping[str, float]) -> None:
        loss, degrees = self._latest()
        cells = {
            "epoch": f"{state.epoch or 0:.4g}",
            "loss": _cell(loss),
            "evaluation loss": _cell(metrics.get("eval_loss")),
            **{_title(name): _cell(value) for name, value in metrics.items() if name not in _NO_SCORES},
            **{f"{modality} degree": _cell(degrees.get(modality), 1) for modality in MODALITIES},
        }
        header = "  ".join(f"{name:>{_LEAST_WIDTH}}" for name in cells)
        if header != self._header:
            self._header = header
            tqdm.write(header)
        tqdm.write("  ".join(f"{value:>{max(len(name), _LEAST_WIDTH)}}" for name, value in cells.items()))


def _title(name: str) -> str:
    score = name.removeprefix("eval_")
    if score in _MEANS:
        return _MEANS[score]
    if score.startswith("macro_f1_"):
        return score.removeprefix("macro_f1_")
    return score.replace("_", " ", 1)  # `mae_age` and others of regression


def _cell(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
