"""Throughput of feature extraction compared with the bare encoders, and the time of a raw and a cached epoch.

    python benchmarks/feature_cache.py [--vision FOLDER --text FOLDER] [--rows 384] [--json FILE]

Everything runs on the same drawn memes in one process, in turns. The fastest repetition counts, since other
work on the machine only slows things down. The processor time of a row, all threads together, hardly
depends on other work:

- encoders alone: the two encoders' forward passes, on prepared tensors, in the extraction's batches;
- model.encode alone: the same tensors through the model, which runs convolutions on CPU picture by picture
  and with channels last;
- extraction: what training does, from tables to files on the disk; on CPU each thread encodes its
  own rows.

Without folders the encoders are MobileNetV2 and a BERT of MiniLM's size (6 layers, 384 wide) with
random weights, which cost the same time as trained ones.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, MobileNetV2Config, TrainingArguments, ViTImageProcessorPil

from mmorient.features.batches import FeatureCollator, MemeCollator, raw_inputs
from mmorient.features.cache import cached_features
from mmorient.fitting.assemble import train_tokenizer
from mmorient.fitting.trainer import MultitaskTrainer
from mmorient.recipes.arguments import DataArguments
from mmorient.samples.memes import TASKS, draw_memes
from mmorient.tables.records import RecordColumns, read_records
from mmorient.tables.table import read_table
from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientProcessor

HEAD = {"hima_hidden_size": 128, "graph_hidden_size": 128, "learner_hidden_sizes": [256]}


def build(vision: str | None, text: str | None, texts: list[str]) -> tuple[Any, MMOrientProcessor]:
    """Model and processor around the given encoders, or around ones with random weights."""
    if vision and text:
        model = MMOrientForMultitaskClassification.from_backbones(
            vision=vision, text=text, tasks=TASKS, **HEAD
        )
        return model, MMOrientProcessor.from_backbones(vision=vision, text=text)
    tokenizer = train_tokenizer(texts, 1024)
    bert = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
    )
    config = MMOrientConfig(
        joint_config=None, vision_config=MobileNetV2Config(), text_config=bert, tasks=TASKS, **HEAD
    )
    pictures = ViTImageProcessorPil(size={"height": 224, "width": 224})
    return MMOrientForMultitaskClassification(config), MMOrientProcessor(pictures, tokenizer=tokenizer)


def seconds(action: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds on the clock, and of processor time."""
    start = time.perf_counter(), time.process_time()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start[0], time.process_time() - start[1]


@torch.no_grad()
def run_encoders(model: Any, batch: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """The two forward passes, with their outputs copied to the CPU, as in every extraction."""
    encoders = model.encoders
    regions = encoders.vision(batch["pixel_values"].to(device), return_dict=True).last_hidden_state
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    tokens = encoders.text(ids, attention_mask=mask, return_dict=True).last_hidden_state
    regions.cpu(), tokens.cpu()


@torch.no_grad()
def run_model(model: Any, batch: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """The features of a batch, copied to the CPU as above."""
    features = model.encode(**{name: values.to(device) for name, values in batch.items()})
    features.region_features.cpu(), features.token_features.cpu()


def throughput(
    model: Any, processor: Any, table: Any, device: torch.device, options: argparse.Namespace, folder: Path
) -> dict[str, dict[str, float]]:
    """Of each way: rows per second, and milliseconds of processor time per row."""
    rows = sorted(table, key=lambda record: -len(record.text or ""))
    batches = [rows[start : start + options.batch_size] for start in range(0, len(rows), options.batch_size)]
    ready = [raw_inputs(processor, batch) for batch in batches]
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for repetition in range(options.repetitions + 1):
        cache = folder / f"features_{repetition}"
        actions: dict[str, Callable[[], Any]] = {
            WAYS[0]: lambda: [run_encoders(model, batch, device) for batch in ready],
            WAYS[1]: lambda: [run_model(model, batch, device) for batch in ready],
            WAYS[2]: lambda cache=cache: cached_features(  # type: ignore[misc]
                {"all": table}, model, processor, cache, options.batch_size, device, options.workers
            ),
        }
        for name, action in actions.items():
            measured[name].append(seconds(action, device))
    return {
        name: {
            "rows_per_second": len(rows) / min(clock for clock, _ in values[1:]),
            "cpu_ms_per_row": 1e3 * min(cpu for _, cpu in values[1:]) / len(rows),
        }
        for name, values in measured.items()
    }


WAYS = ("encoders alone", "model.encode alone", "extraction")


def epoch(model: Any, rows: Any, collator: Any, options: argparse.Namespace, folder: Path) -> float:
    """Seconds of one epoch of training."""
    arguments = TrainingArguments(
        output_dir=str(folder / "run"),
        num_train_epochs=1,
        per_device_train_batch_size=options.batch_size,
        dataloader_num_workers=options.workers,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = MultitaskTrainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)
    return float(trainer.train().metrics["train_runtime"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vision", help="folder of a vision encoder")
    parser.add_argument("--text", help="folder of a text encoder")
    parser.add_argument("--rows", type=int, default=384)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="processes that prepare pictures")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()
    if bool(options.vision) != bool(options.text):
        parser.error("give both --vision and --text, or none of them")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_memes(folder / "memes", rows=options.rows * 4 // 3)  # a quarter is for validation
        tasks = {task: {"labels": labels} for task, labels in TASKS.items()}
        data = DataArguments(data_dir=str(folder / "memes"), image_dir=".", tasks=tasks)
        table = read_records(read_table("train.csv", data.path("")), RecordColumns.of(data)).rows
        model, processor = build(options.vision, options.text, [record.text for record in table])
        model.to(device).eval()
        rates = throughput(model, processor, table, device, options, folder)
        cached = cached_features(
            {"all": table}, model, processor, folder / "features_0", options.batch_size, device
        )["all"]
        epochs = {
            "raw": epoch(model, table, MemeCollator(processor, list(TASKS)), options, folder),
            "cached": epoch(model, cached, FeatureCollator(list(TASKS)), options, folder),
        }
    print(
        f"\ntorch {torch.__version__}, {device}, {torch.get_num_threads()} threads of {os.cpu_count()} "
        f"processors; {len(table)} rows in batches of {options.batch_size}"
    )
    print(f"{'':<26}{'rows/s':>8}{'extraction beside it':>22}{'CPU ms/row':>12}")
    for way, figures in rates.items():
        rate = figures["rows_per_second"]
        share = rates[WAYS[2]]["rows_per_second"] / rate
        print(f"{way:<26}{rate:>8.1f}{share:>22.3f}{figures['cpu_ms_per_row']:>12.1f}")
    for kind, value in epochs.items():
        print(f"epoch, {kind:<19}{value:>8.2f} s")
    if options.json:
        result = {"rows": len(table), "throughput": rates, "epoch_seconds": epochs}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
