"""The pipeline: every form of input, the same answer in any batch, and errors that name the row."""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hub_server import LocalHub, run_python
from PIL import Image
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_mmorient import (
    MMOrientForMultitaskClassification,
    MMOrientPipeline,
    MMOrientProcessor,
    row_passes,
)
from modeling_mmorient.configuration_fields import CUSTOM_PIPELINES
from tests.mmorient.predicting import TASKS, WORDS, save_model

ALL_TASKS = {**TASKS, "warmth": {"kind": "regression", "range": [-5, 5], "interval": 0.5}}


def picture(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((48, 40), Image.Resampling.NEAREST)


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every kind of task and with references, whose votes count."""
    saved = save_model(tmp_path_factory.mktemp("model"), ALL_TASKS)
    model = MMOrientForMultitaskClassification.from_pretrained(saved)
    processor = MMOrientProcessor.from_pretrained(saved)
    inputs = processor(images=[picture(seed) for seed in range(20, 26)], text=WORDS[:6], return_tensors="pt")
    labels = {"mood": torch.tensor([0, 1, 2, 0, 1, 2]), "warmth": torch.linspace(-3, 3, 6)}
    model.add_references(inputs, list("abcdef"), labels)
    model.save_pretrained(saved)
    return saved


@pytest.fixture(scope="module")
def answer(folder: Path) -> MMOrientPipeline:
    found = pipeline("mmorient", model=str(folder), device="cpu")
    assert type(found) is MMOrientPipeline
    return found


@pytest.fixture
def rows() -> list[Any]:
    """Rows of all lengths, of both modalities and of one."""
    both = [{"image": picture(seed), "text": " ".join(WORDS[: seed + 1])} for seed in range(8)]
    return [
        *both,
        picture(8),
        {"text": "green"},
        {"image": picture(9), "text": None},
        {"text": "the cat " * 60},
    ]


def test_every_form_of_an_image_gets_the_same_answer(answer: MMOrientPipeline, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    text = base64.b64encode(png(1)).decode()
    expected = answer(picture(1))
    for form in (path, str(path), png(1), text, f"data:image/png;base64,{text}", np.asarray(picture(1))):
        assert answer(form) == answer({"image": form}) == expected
    assert answer({"image": picture(1), "text": "green cat"}) != expected


def test_every_form_of_many_rows_gets_the_same_answers(answer: MMOrientPipeline, rows: list[Any]) -> None:
    expected = [answer(row) for row in rows]
    assert answer(rows) == answer(tuple(rows)) == list(answer(row for row in rows)) == expected
    assert answer([]) == list(answer(row for row in [])) == []
    images = Dataset.from_dict({"image": [png(seed) for seed in range(5)]})
    expected = [answer(picture(seed)) for seed in range(5)]
    assert list(answer(KeyDataset(images, "image"), batch_size=2)) == answer(images["image"]) == expected
    memes = Dataset.from_list([{"meme": {"image": png(seed), "text": WORDS[seed]}} for seed in range(5)])
    expected = [answer({"image": picture(seed), "text": WORDS[seed]}) for seed in range(5)]
    assert list(answer(KeyDataset(memes, "meme"))) == expected


@pytest.mark.parametrize("batch_size", [2, 3, 8, 64])
def test_an_answer_is_the_same_bit_for_bit_in_any_batch(
    answer: MMOrientPipeline, rows: list[Any], batch_size: int
) -> None:
    alone = answer(rows, batch_size=1)
    assert answer(rows, batch_size=batch_size) == alone
    assert answer(rows[::-1], batch_size=batch_size) == alone[::-1]
    assert list(answer((row for row in rows), batch_size=batch_size)) == alone


@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_passes_of_one_shape_give_the_same_bits_in_any_batch(
    answer: MMOrientPipeline, rows: list[Any], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_itself = answer(rows)
    monkeypatch.setattr(row_passes, "rows_of_a_pass", lambda device: 8)  # as on an accelerator
    alone = [answer(row) for row in rows]
    assert answer(rows, batch_size=batch_size) == alone
    assert answer(rows[::-1], batch_size=batch_size) == alone[::-1]
    for one, other in zip(alone, by_itself, strict=True):
        for task, found in one["answers"].items():
            assert found["labels"] == other["answers"][task]["labels"] or task == "warmth"
            scores = [entry["score"] for entry in other["answers"][task]["scores"]]
            assert [entry["score"] for entry in found["scores"]] == pytest.approx(scores, abs=1e-5)


def test_answers_are_those_of_label_as_json_holds_them(answer: MMOrientPipeline) -> None:
    row = {"image": picture(3), "text": "votes again"}
    found, (labelled,) = (
        answer(row)["answers"],
        answer.model.label(answer.processor, row["image"], row["text"]),
    )
    assert json.loads(json.dumps(found)) == found and list(found) == list(labelled) == list(ALL_TASKS)
    for task, expected in labelled.items():
        scores = [entry["score"] for entry in found[task]["scores"]]
        assert scores == sorted(scores, reverse=True)
        assert {entry["label"]: entry["score"] for entry in found[task]["scores"]} == expected.probabilities
        assert found[task]["labels"] == expected.labels and found[task]["value"] == expected.value
        assert found[task]["thresholds"] == expected.thresholds
    assert found["warmth"]["scores"] == [] and len(found["warmth"]["interval"]) == 2
    assert found["mood"]["interval"] is None and found["about"]["thresholds"]["politics"] == 0.49


def test_options_choose_what_is_shown(answer: MMOrientPipeline, folder: Path) -> None:
    row = {"image": picture(3), "text": "votes again"}
    whole = answer(row)["answers"]
    few = answer(row, top_k=1, tasks=["funny", "mood"])["answers"]
    assert list(few) == ["funny", "mood"]
    assert all(few[task] == {**whole[task], "scores": whole[task]["scores"][:1]} for task in few)
    raw = answer(row, function_to_apply="none")["answers"]
    for function, applied in (("sigmoid", lambda z: 1 / (1 + math.exp(-z))), ("softmax", None)):
        shown = answer(row, function_to_apply=function)["answers"]
        for task in TASKS:
            logits = {entry["label"]: entry["score"] for entry in raw[task]["scores"]}
            total = sum(map(math.exp, logits.values()))
            for entry in shown[task]["scores"]:
                logit = logits[entry["label"]]
                expected = applied(logit) if applied else math.exp(logit) / total
                assert entry["score"] == pytest.approx(expected, abs=1e-6)
            assert shown[task]["labels"] == whole[task]["labels"]
    chosen = pipeline("mmorient", model=str(folder), device="cpu", top_k=1, tasks=["mood"])
    assert chosen(row) == answer(row, top_k=1, tasks=["mood"])
    assert chosen(row, top_k=2) == answer(row, top_k=2, tasks=["mood"])


def test_explanations_are_the_same_in_any_batch(answer: MMOrientPipeline, rows: list[Any]) -> None:
    alone = [answer(row, explain=True, tasks=["mood"]) for row in rows]
    assert answer(rows, explain=True, tasks=["mood"], batch_size=5) == alone
    explained = alone[1]["explanation"]
    assert json.loads(json.dumps(explained)) and list(explained["tasks"]) == ["mood"]
    assert explained["neighbors"]["image"] and [word for word, _ in explained["words"]] == WORDS[:2]
    assert "explanation" not in answer(rows[0])
    assert [{"answers": one["answers"]} for one in alone] == answer(rows, tasks=["mood"])


@pytest.mark.parametrize(
    "row, message",
    [
        ({"image": picture(0), "txt": "a"}, "row 1 has an unknown field 'txt': did you mean `text`?"),
        ({"text": 3}, "row 1: `text` is 3; give a string"),
        ({}, "row 1: there is neither an image nor a text"),
        ({"text": " \n"}, "row 1: there is neither a picture nor a text"),
        ({"image": "nowhere.png"}, "row 1: `image`: there is no file 'nowhere.png'"),
        ({"image": "http://memes.test/a.png"}, "row 1: `image`: of addresses only https://"),
        ({"image": "https://localhost/a.png"}, "row 1: `image`: the host 'localhost' is not a public one"),
        ({"image": 3}, "row 1: `image`: cannot read a picture from int"),
        (3, "row 1: `image`: cannot read a picture from int"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_wrong_row_is_named(answer: MMOrientPipeline, row: Any, message: str, batch_size: int) -> None:
    for many in ([picture(0), row], (one for one in [picture(0), row])):
        with pytest.raises(ValueError) as caught:
            list(answer(many, batch_size=batch_size))
        assert str(caught.value).startswith(message)
    with pytest.raises(ValueError, match=r"^the row"):
        answer(row)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_k": 0}, "`top_k` is 0; give a whole number"),
        ({"top_k": True}, "`top_k` is True"),
        ({"tasks": []}, r"`tasks` is \[\]; give a list"),
        ({"tasks": "mood"}, "`tasks` is 'mood'; give a list"),
        ({"tasks": ["mod"]}, "`tasks` has 'mod'; the model's tasks are"),
        ({"function_to_apply": "tanh"}, "`function_to_apply` is 'tanh'; give one of"),
        ({"explain": "yes"}, "`explain` is 'yes'; give true or false"),
        ({"topk": 1}, "unknown field 'topk': did you mean `top_k`"),
    ],
)
def test_a_wrong_option_is_named(answer: MMOrientPipeline, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        answer(picture(0), **options)


def test_an_answer_that_is_no_number_names_its_row(folder: Path, rows: list[Any]) -> None:
    model = MMOrientForMultitaskClassification.from_pretrained(folder)
    with torch.no_grad():
        next(model.heads.parameters()).fill_(torch.nan)
    answer = MMOrientPipeline(model, processor=MMOrientProcessor.from_pretrained(folder), device="cpu")
    with pytest.raises(ValueError, match=r"^row 0: the model's logits of task 'mood' are not finite"):
        answer(rows)


def test_a_request_names_no_file_of_this_machine(answer: MMOrientPipeline, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    with pytest.raises(ValueError, match=r"^inputs\[1\]: `image`: an image is an https:// or data:"):
        answer.read_request({"inputs": [{"text": "a"}, {"image": str(path)}]})
    request = answer.read_request({"inputs": base64.b64encode(png(1)).decode(), "parameters": {"top_k": 1}})
    assert answer.answer_request(request) == answer(picture(1), top_k=1)


def test_the_configuration_is_not_asked_which_code_to_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["custom_pipelines"] == CUSTOM_PIPELINES
    config["custom_pipelines"] = {"image-classification": {"impl": "evil.Evil", "pt": ["AutoModel"]}}
    (folder / "config.json").write_text(json.dumps(config))
    try:
        model = MMOrientForMultitaskClassification.from_pretrained(folder)
    finally:
        config["custom_pipelines"] = CUSTOM_PIPELINES
        (folder / "config.json").write_text(json.dumps(config))
    assert model.config.custom_pipelines == CUSTOM_PIPELINES
    model.config.custom_pipelines["image-classification"]["impl"] = "evil.Evil"  # of a copy
    assert model.config.to_dict()["custom_pipelines"] == CUSTOM_PIPELINES


def test_other_models_keep_their_pipeline(answer: MMOrientPipeline) -> None:
    from transformers.pipelines import PIPELINE_REGISTRY

    assert PIPELINE_REGISTRY.supported_tasks["image-classification"]["impl"] is not MMOrientPipeline


def test_a_saved_pipeline_is_the_model_with_its_processor(answer: MMOrientPipeline, tmp_path: Path) -> None:
    answer.save_pretrained(tmp_path)
    again = pipeline("mmorient", model=str(tmp_path), device="cpu")
    row = {"image": picture(4), "text": "hooray"}
    assert again(row) == answer(row)


LOAD = """
import json, sys
sys.modules["modeling_mmorient"] = None  # not to be had, even where the package is installed
import torch
from transformers import pipeline

torch.set_num_threads(1)
rows = [{"image": sys.argv[2], "text": "green cat"}, sys.argv[2], {"text": "votes " * 9}]
found = []
for name in ({}, {"task": "image-classification"}):
    answer = pipeline(model=sys.argv[1], trust_remote_code=True, device="cpu", **name)
    found += [answer(rows, batch_size=8), [answer(row) for row in rows]]
half = pipeline(model=sys.argv[1], trust_remote_code=True, device="cpu", dtype="bfloat16")
print(json.dumps([type(answer).__module__, found, str(half.dtype), len(half(rows))]))
"""


@pytest.mark.slow
def test_a_process_without_the_package_gets_the_same_answers(
    answer: MMOrientPipeline, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(1))
    rows = [{"image": str(path), "text": "green cat"}, str(path), {"text": "votes " * 9}]
    expected = json.loads(json.dumps(answer(rows)))
    with LocalHub() as hub:
        publisher = {**hub.environment(tmp_path / "publisher"), "PYTHONPATH": str(Path(__file__).parents[2])}
        push = (
            "import sys, modeling_mmorient as m; f = sys.argv[1]\n"
            "m.MMOrientForMultitaskClassification.from_pretrained(f).push_to_hub('tester/memes')\n"
            "m.MMOrientProcessor.from_pretrained(f).push_to_hub('tester/memes'); print(1)"
        )
        run_python(push, str(folder), env=publisher)
        reader = hub.environment(tmp_path / "reader")
        for repository in ("tester/memes", str(folder)):
            module, found, dtype, number = run_python(LOAD, repository, str(path), env=reader)
            assert module.startswith("transformers_modules.") and module.endswith(".pipeline_mmorient")
            assert found == [expected] * 4 and dtype == "torch.bfloat16" and number == 3
