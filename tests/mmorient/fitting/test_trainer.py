"""The loop: accumulation does not change the update, and graphs that say nothing are reported."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from mmorient.features.batches import FeatureCollator
from mmorient.fitting.trainer import MultitaskTrainer
from mmorient.tables.records import Record

TASKS = {"sentiment": ["a", "b", "c"], "humour": ["no", "yes"]}


def feature_rows(model: Any, count: int) -> list[Record]:
    config, generator = model.config, torch.Generator().manual_seed(0)
    widths = {"image_embeds": config.image_embed_dim, "text_embeds": config.text_embed_dim}
    rows = []
    for index in range(count):
        row = {name: torch.randn(width, generator=generator) for name, width in widths.items()}
        row |= {"image_present": torch.tensor(True), "text_present": torch.tensor(True)}
        row["region_features"] = torch.randn(4, config.region_dim, generator=generator)
        row["token_features"] = torch.randn(3 + index % 3, config.token_dim, generator=generator)
        # Partial on purpose: the known labels are spread unevenly over the batches.
        labels = {"sentiment": index % 3 if index < 5 else -100, "humour": index % 2 if index % 4 else -100}
        rows.append(Record(str(index), labels=labels, features=row))
    return rows


def train(
    trainer_class: type[Trainer],
    model: Any,
    folder: Path,
    batch: int,
    steps: int,
    rows: int = 16,
    **options: Any,
) -> Any:
    """One epoch."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=steps,
        num_train_epochs=1,
        learning_rate=0.1,
        optim="sgd",
        max_grad_norm=0.0,
        report_to="none",
        use_cpu=True,
        remove_unused_columns=False,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **options,
    )
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=feature_rows(model, rows),
        data_collator=FeatureCollator(list(TASKS)),
    )
    trainer.train()
    return trainer


def update(
    make_model: Callable[..., Any],
    trainer_class: type[Trainer],
    folder: Path,
    batch: int,
    **options: Any,
) -> torch.Tensor:
    # No graph and no batch attention: those span the batch at hand by design.
    model = make_model(
        tasks=TASKS, use_in_modal=False, use_cross_modal=False, use_hima_stage2=False, **options
    )
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    train(trainer_class, model, folder, batch, 16 // batch)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before


def test_one_process_with_several_gpus_is_refused(make_model: Callable[..., Any], tmp_path: Path) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    arguments._n_gpu = 2
    with pytest.raises(ValueError, match=r"2 GPUs.*accelerate launch"):
        MultitaskTrainer(model=make_model(tasks=TASKS), args=arguments)


@pytest.mark.parametrize("learned_shares", [False, True])
def test_accumulation_over_unevenly_labeled_batches_gives_the_same_update(
    make_model: Callable[..., Any], tmp_path: Path, learned_shares: bool
) -> None:
    options = {"uncertainty_weighting": learned_shares}
    whole = update(make_model, MultitaskTrainer, tmp_path, 16, **options)
    accumulated = update(make_model, MultitaskTrainer, tmp_path, 4, **options)
    assert whole.abs().max() > 1e-3
    torch.testing.assert_close(accumulated, whole, atol=1e-6, rtol=1e-4)


def test_a_plain_trainer_at_least_does_not_multiply_the_update(
    make_model: Callable[..., Any], tmp_path: Path
) -> None:
    whole = update(make_model, Trainer, tmp_path, 16)
    accumulated = update(make_model, Trainer, tmp_path, 4)
    assert 0.3 < accumulated.norm() / whole.norm() < 2.5


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"image_threshold": 0.9999}, "image graph is empty"),
        ({"text_neighbors": 40}, "text graph is complete"),
    ],
)
def test_graphs_that_say_nothing_are_logged_with_a_warning(
    make_model: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    word: str,
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("mmorient.fitting.trainer"), "propagate", True)
    trainer = train(MultitaskTrainer, make_model(tasks=TASKS, **options), tmp_path, 16, 1)
    logged = trainer.state.log_history[0]
    assert logged["image_graph_mean_degree"] >= 0 and logged["text_graph_mean_degree"] > 0
    assert [record.message for record in caplog.records if word in record.message]


PROCESS_SCRIPT = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[1:3]
import torch
from conftest import make_config
from test_trainer import TASKS, MultitaskTrainer, train
from mmorient.tables.records import Record
from modeling_mmorient import MMOrientForMultitaskClassification

folder, batch, steps, across = Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "across"
options = {"tasks": TASKS, "uncertainty_weighting": True}
options |= dict.fromkeys(["use_in_modal", "use_cross_modal", "use_hima_stage2"], across)
torch.manual_seed(0)
model = MMOrientForMultitaskClassification(make_config.__wrapped__()(**options))
before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
trainer = train(MultitaskTrainer, model, folder, batch, steps, rows=int(sys.argv[7]))
trained = trainer.accelerator.unwrap_model(trainer.model)
after = torch.nn.utils.parameters_to_vector(trained.parameters())
if trainer.is_world_process_zero():
    running = {name: buffer for name, buffer in trained.named_buffers() if "running" in name}
    torch.save({"parameters": after.detach() - before, **running}, folder / f"{sys.argv[6]}-{batch}.pt")
trainer.end_processes()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "count"), [("alone", 48), ("across", 48), ("alone", 43), ("across", 40)])
def test_two_processes_give_the_updates_of_one(tmp_path: Path, rows: str, count: int) -> None:
    """Three steps over shuffled rows: alone with accumulation, or with graphs across the global batch.

    43 and 40 rows do not divide among the processes: some come twice to fill the last step.
    """
    script = tmp_path / "update.py"
    script.write_text(PROCESS_SCRIPT)
    tests = Path(__file__).parents[2]
    paths = [f"{tests.parent}", f"{tests}"]
    # The conftest's and this file's names are found from their folders.
    found = os.pathsep.join([str(tests), str(Path(__file__).parent), *paths])
    environment = {**os.environ, "PYTHONPATH": found}
    small = 4 if rows == "alone" else 8
    for processes, batch in ((1, 16), (2, small)):
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
        ]
        steps = 16 // (processes * batch)
        command = [*launch, str(script), *paths, str(tmp_path), str(batch), str(steps), rows]
        command.append(str(count))
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"{rows}-{batch}.pt", weights_only=True) for batch in (16, small))
    assert one["parameters"].abs().max() > 1e-3
    assert (len(one) > 1) is (rows == "across")
    torch.testing.assert_close(two, one, atol=1e-6, rtol=1e-4)
