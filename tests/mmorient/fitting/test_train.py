"""The quick start, small: draw memes, train by `accelerate launch`, load back, label one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import f1_score
from transformers import BertConfig, BertModel, ViTConfig, ViTImageProcessorPil, ViTModel

from mmorient.commands.train import main
from mmorient.fitting.assemble import train_tokenizer
from mmorient.fitting.train import build_run
from mmorient.recipes.recipe import parse_recipe
from mmorient.samples.memes import draw_memes
from mmorient.scoring.scores import baseline_scores
from mmorient.tables.records import label_columns

ROOT = Path(__file__).parents[3]
RECIPE = "training/recipes/quickstart.yaml"


def run(*command: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_quickstart_trains_scores_saves_and_labels(tmp_path: Path) -> None:
    draw_memes(tmp_path / "memes", rows=288, seed=3, missing=0.05)
    output = tmp_path / "model"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "training/train.py"]
    options = ["--data_dir", str(tmp_path / "memes"), "--output_dir", str(output), "--num_train_epochs", "6"]
    table = run(*launch, RECIPE, *options)
    results = json.loads((output / "results.json").read_text())
    assert "majority class" in table
    # Far above what always giving one answer gets, where text or picture alone decides.
    for task in ("sentiment", "setting"):
        scored = results["validation"]
        assert scored["tasks"][task]["macro_f1"] > scored["majority"][task] + 0.3
    assert not list(output.glob("**/*.bin")) and (output / "model.safetensors").is_file()
    picture = next((tmp_path / "memes" / "images").iterdir())
    answer = run(
        sys.executable,
        "-m",
        "mmorient.commands.label",
        str(output),
        "--image",
        str(picture),
        "--text",
        "lovely",
    )
    assert [line.split(":")[0] for line in answer.splitlines()] == ["sentiment", "setting", "sarcasm"]


def test_a_hub_id_that_cannot_be_reached_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="--text FOLDER"):
        main(frozen_recipe(tmp_path, text="nobody/no-such-encoder"))


def test_a_recipe_without_encoders_is_refused(tmp_path: Path) -> None:
    draw_memes(tmp_path / "memes", rows=36)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"data_dir: {tmp_path / 'memes'}\nimage_dir: .\noutput_dir: {tmp_path}\n"
        "tasks: {sentiment: {labels: [negative, neutral, positive]}}\n"
    )
    with pytest.raises(ValueError, match="names no encoder"):
        main([str(recipe)])


@pytest.mark.slow
def test_tasks_of_every_kind_train_together_on_rows_held_out_of_a_json_lines_table(tmp_path: Path) -> None:
    draw_memes(tmp_path, rows=60, seed=1)
    with (tmp_path / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        row["about"] = None if index % 9 == 0 else [row["sentiment"], row["setting"]]
    (tmp_path / "memes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = yaml.safe_load((ROOT / RECIPE).read_text()) | {
        "data_dir": str(tmp_path),
        "train_file": "memes.jsonl",
        "validation_file": None,
        "validation_share": 0.25,
        "num_train_epochs": 1,
        "output_dir": str(tmp_path / "out"),
        "tasks": {
            "sentiment": {"labels": ["negative", "neutral", "positive"], "kind": "ordinal"},
            "sarcasm": {"labels": ["no", "yes"]},
            "about": {
                "labels": ["negative", "neutral", "positive", "gloomy", "plain", "cheerful"],
                "kind": "multilabel",
            },
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    main([str(tmp_path / "recipe.yaml")])
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["validation"]["majority"]) == {"sentiment", "sarcasm", "about"}
    for task in results["validation"]["majority"]:
        assert 0 <= results["validation"]["tasks"][task]["macro_f1"] <= 1


def test_a_problem_stops_the_run_before_anything_is_loaded(tmp_path: Path) -> None:
    draw_memes(tmp_path, rows=36)
    (tmp_path / "images" / "00001.png").write_bytes(b"broken")
    options = ("--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"00001\.png.*unreadable_pictures"):
        main([str(ROOT / RECIPE), *options])


def frozen_recipe(folder: Path, rows: int = 72, **recipe: object) -> list[str]:
    """A recipe around small saved encoders, which stay frozen, on drawn memes."""
    draw_memes(folder / "memes", rows=rows, seed=1)
    texts = [row["text"] for row in csv.DictReader((folder / "memes" / "train.csv").open())]
    tokenizer = train_tokenizer(texts, 200)
    tokenizer.save_pretrained(folder / "text")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder / "text")
    ViTModel(ViTConfig(image_size=32, patch_size=16, **sizes)).save_pretrained(folder / "vision")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder / "vision")
    values = {
        **yaml.safe_load((ROOT / RECIPE).read_text()),
        "data_dir": str(folder / "memes"),
        "output_dir": str(folder / "out"),
        "text": str(folder / "text"),
        "vision": str(folder / "vision"),
        "model_options": {"learner_hidden_sizes": [8], "hima_hidden_size": 4, "graph_hidden_size": 4},
        "max_steps": 4,
        "eval_strategy": "no",
        "save_strategy": "no",
        "per_device_train_batch_size": 8,
        **recipe,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return [str(folder / "recipe.yaml")]


def test_frozen_features_weights_and_baseline_are_those_of_the_right_rows(tmp_path: Path) -> None:
    run = build_run(parse_recipe(frozen_recipe(tmp_path)))
    trainer, processor = run.trainer, run.trainer.processing_class
    labels = (label_columns(run.tables[name]) for name in ("training", "validation"))
    majority = baseline_scores(trainer.model.config.task_specs, *labels)["majority"]
    tables = {
        name: list(csv.DictReader((tmp_path / "memes" / f"{name}.csv").open()))
        for name in ("train", "validation")
    }
    for rows, table in (
        (trainer.train_dataset, tables["train"]),
        (trainer.eval_dataset, tables["validation"]),
    ):
        assert len(rows) == len(table)
        for index in (0, len(table) - 1):
            picture = tmp_path / "memes" / table[index]["image"]
            inputs = processor(images=[picture], text=[table[index]["text"]], return_tensors="pt")
            expected = trainer.model.encode(**inputs)
            found = rows[index].features
            torch.testing.assert_close(found["image_embeds"], expected.image_embeds[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found["text_embeds"], expected.text_embeds[0], atol=1e-4, rtol=1e-4)
            assert rows[index].labels["sarcasm"] == int(table[index]["sarcasm"] == "yes")
    share = sum(row["sarcasm"] == "yes" for row in tables["train"]) / len(tables["train"])
    weights = trainer.model.config.tasks["sarcasm"]["class_weights"]
    assert weights == pytest.approx([0.5 / (1 - share), 0.5 / share])
    truth = [int(row["sarcasm"] == "yes") for row in tables["validation"]]
    answer = [int(share > 0.5)] * len(truth)
    assert majority["sarcasm"] == pytest.approx(f1_score(truth, answer, average="macro"))


def test_encoders_given_twice_are_refused(tmp_path: Path) -> None:
    options = {"text_config": {"model_type": "bert"}}
    with pytest.raises(ValueError, match="text_config"):
        main(frozen_recipe(tmp_path, model_options=options))


def test_a_task_that_no_training_row_is_labelled_for_is_refused(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path)
    table = tmp_path / "memes" / "train.csv"
    rows = list(csv.DictReader(table.open()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "sarcasm": ""} for row in rows)
    with pytest.raises(ValueError, match=r"no training row is labelled for the tasks \['sarcasm'\]"):
        main(recipe)


@pytest.mark.slow
def test_every_process_learns_the_same_vocabulary() -> None:
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "from mmorient.fitting.assemble import train_tokenizer\n"
        "texts = [f'{a}{b} the {b}{a}ing of {a}' for a in ('rain', 'sun') for b in ('day', 'set', 'fall')]\n"
        "print(sorted(train_tokenizer(texts, 80).get_vocab().items()))"
    )
    assert len({run(sys.executable, "-c", code) for _ in range(3)}) == 1


def test_given_class_weights_are_kept_and_what_is_fitted_cannot_be_given(tmp_path: Path) -> None:
    labels = ["no", "yes"]
    tasks = {
        "sarcasm": {"labels": labels, "class_weights": [1, 9]},
        "setting": {"labels": ["gloomy", "plain", "cheerful"]},
    }
    recipe = parse_recipe(frozen_recipe(tmp_path, tasks=tasks))
    trained = build_run(recipe).trainer.model.config.tasks
    assert trained["sarcasm"]["class_weights"] == [1, 9] and trained["setting"]["class_weights"] is not None
    for fitted in ({"temperature": 2.0}, {"thresholds": [0.3]}):
        recipe.data.tasks = {"sarcasm": {"labels": labels, **fitted}}
        with pytest.raises(ValueError, match="fitted; leave them out"):
            build_run(recipe)


@pytest.mark.slow
def test_test_rows_change_nothing_but_their_scores(tmp_path: Path) -> None:
    """Weights, vocabulary, class weights and what is fitted do not depend on them."""
    draw_memes(tmp_path / "memes", rows=400, seed=1)
    with (tmp_path / "memes" / "validation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = {"no": "yes", "yes": "no"}
    others = [
        {**row, "text": f"zebra {n} xylophone", "sarcasm": answers[row["sarcasm"]]}
        for n, row in enumerate(rows)
    ]
    for name, part in (("test", rows), ("other", others)):
        with (tmp_path / "memes" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(part)
    recipe = yaml.safe_load((ROOT / RECIPE).read_text()) | {
        "data_dir": str(tmp_path / "memes"),
        "validation_file": None,
        "validation_share": 0.3,
        "tasks": {"sarcasm": {"labels": ["no", "yes"]}},
        "num_train_epochs": 1,
    }
    left = {}
    for name in ("test", "other"):
        out = tmp_path / name
        values = {**recipe, "test_file": f"{name}.csv", "output_dir": str(out)}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
        main([str(tmp_path / "recipe.yaml")])
        results = json.loads((out / "results.json").read_text())
        vocabulary = json.loads((out / "tokenizer.json").read_text())["model"]["vocab"]
        tasks = json.loads((out / "config.json").read_text())["tasks"]
        left[name] = (
            vocabulary,
            tasks,
            results["fitted"],
            results["validation"],
            load_file(out / "model.safetensors"),
        )
        left[name + " scores"] = results["test"]["tasks"]
    for first, second in zip(left["test"][:4], left["other"][:4], strict=True):
        assert first == second
    assert all(torch.equal(weight, left["other"][4][name]) for name, weight in left["test"][4].items())
    assert left["test scores"] != left["other scores"]
