"""The feature cache: equal to raw rows, filled once, keyed by what counts, whole after any end."""

import copy
import functools
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from filelock import FileLock
from PIL import Image
from transformers import BertModel, MobileNetV2Model, ViTImageProcessorPil

from mmorient.features import cache as feature_cache
from mmorient.features.batches import FeatureCollator, MemeCollator
from mmorient.features.cache import cached_features
from mmorient.features.fingerprints import encoder_fingerprint, row_keys
from mmorient.features.shards import write_shard
from mmorient.fitting.assemble import train_tokenizer
from mmorient.samples.memes import draw_memes
from mmorient.tables.records import Record
from modeling_mmorient import MMOrientProcessor

ROOT = Path(__file__).parents[3]
TASKS = {"sentiment": ["a", "b", "c"]}
TEXTS = ["a short one", None, "a text that is much longer than the others are", "one more", "one more", "end"]
BATCH = 2


@pytest.fixture
def table(tmp_path: Path) -> list[Record]:
    """Six rows: one without text, one without picture, the last two alike in picture but not in text."""
    generator = np.random.default_rng(0)
    paths: list[str | None] = [str(tmp_path / f"{number}.png") for number in range(5)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(str(path))
    return make_table([*paths[:3], None, paths[4], paths[4]], TEXTS)


def make_table(images: list[Any], texts: list[Any], first: int = 2) -> list[Record]:
    rows = enumerate(zip(images, texts, strict=True), first)
    return [Record(str(row), image, text, {"sentiment": row % 3}) for row, (image, text) in rows]


@pytest.fixture
def processor() -> MMOrientProcessor:
    return make_processor()


@functools.cache
def trained_tokenizer() -> Any:
    return train_tokenizer([text for text in TEXTS if text], 50)


def make_processor(**options: Any) -> MMOrientProcessor:
    # Two trainings number the same tokens differently.
    tokenizer = copy.deepcopy(trained_tokenizer())
    pictures = ViTImageProcessorPil(size={"height": 64, "width": 64})
    return MMOrientProcessor(
        image_processor=pictures, tokenizer=tokenizer, **{"text_max_length": 12, **options}
    )


@pytest.fixture
def model(make_model: Callable[..., Any]) -> Any:
    return make_model("vision", tasks=TASKS)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "SHARD_ROWS", BATCH)


def compute(table: list[Record], model: Any, processor: Any, folder: Path, **tables: Any) -> Any:
    found = cached_features({"all": table, **tables}, model, processor, folder, BATCH, torch.device("cpu"))
    return found if tables else found["all"]


def test_as_many_rows_as_asked_for_are_encoded_at_a_time(
    table: list[Record], model: Any, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads share the rows of a batch, and none computes with more than one thread."""
    lengths, threads = [], set()
    encode = model.encode

    def remember(**inputs: torch.Tensor) -> Any:
        lengths.append(len(inputs["pixel_values"]))
        threads.add(torch.get_num_threads())
        return encode(**inputs)

    def write(*arguments: Any) -> None:
        threads.add(torch.get_num_threads())
        write_shard(*arguments)

    monkeypatch.setattr(model, "encode", remember)
    monkeypatch.setattr(feature_cache, "write_shard", write)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compute(table, model, processor, tmp_path / "cache")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert sum(lengths) == len(table) and max(lengths) == BATCH // 2 and threads == {1}


@contextmanager
def counting(model: Any) -> Iterator[list[int]]:
    """The numbers of rows that went through the text encoder."""
    seen: list[int] = []
    hook = model.encoders.text.register_forward_hook(
        lambda module, arguments, output: seen.append(len(output.last_hidden_state))
    )
    yield seen
    hook.remove()


def rows_computed(table: list[Record], model: Any, processor: Any, folder: Path) -> int:
    with counting(model) as seen:
        compute(table, model, processor, folder)
    return sum(seen)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.arrow")}


@pytest.mark.parametrize("kind", ["vision", "joint"])
def test_features_from_the_cache_give_the_logits_of_the_raw_rows_in_their_order(
    make_model: Callable[..., Any], table: list[Record], processor: Any, tmp_path: Path, kind: str
) -> None:
    if kind == "joint":
        processor = make_processor(joint_tokenizer=trained_tokenizer(), joint_max_length=12)
    model = make_model(kind, tasks=TASKS)
    rows = compute(table, model, processor, tmp_path / "cache")
    assert len(rows) == len(table)
    raw = MemeCollator(processor, list(TASKS))(table)
    cached = FeatureCollator(list(TASKS))([rows[index] for index in range(len(table))])
    assert torch.equal(raw["labels"]["sentiment"], cached["labels"]["sentiment"])
    assert cached["image_present"].tolist() == [True, True, True, False, True, True]
    with torch.no_grad():
        expected, found = model(**raw), model(**cached)
    torch.testing.assert_close(found.logits["sentiment"], expected.logits["sentiment"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-5, rtol=0)
    lengths = [len(rows[index].features["token_features"]) for index in range(len(table))]
    assert lengths[0] < lengths[2]


@pytest.mark.parametrize(
    "options", [{"use_hima_stage1": False}, {"use_in_modal": False, "use_cross_modal": False}]
)
def test_a_branch_that_is_switched_off_does_without_its_features(
    make_model: Callable[..., Any],
    table: list[Record],
    processor: Any,
    tmp_path: Path,
    options: dict[str, bool],
) -> None:
    if options.get("use_hima_stage1") is False:
        options = {**options, "use_hima_stage2": False}
    model = make_model("vision", tasks=TASKS, **options)
    rows = compute(table, model, processor, tmp_path / "cache")
    raw = MemeCollator(processor, list(TASKS))(table)
    cached = FeatureCollator(list(TASKS))([rows[index] for index in range(len(table))])
    with torch.no_grad():
        expected, found = model(**raw).logits["sentiment"], model(**cached).logits["sentiment"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_second_run_computes_nothing_whatever_the_labels_names_and_order_are(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    assert rows_computed(table, model, processor, tmp_path / "cache") == 6
    before = files(tmp_path / "cache")
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(Path(table[0].image).read_bytes())
    order = [5, 4, 3, 2, 1, 0]
    images = [table[row].image for row in order[:-1]] + [str(moved)]
    other = make_table(images, [table[row].text for row in order], first=70)
    with counting(model) as seen:
        rows = compute(other, model, processor, tmp_path / "cache")
    assert not seen and files(tmp_path / "cache") == before
    again = compute(table, model, processor, tmp_path / "cache")
    for place, row in enumerate(order):
        for name, values in again[row].features.items():
            assert torch.equal(values, rows[place].features[name])
    assert [rows[row].labels for row in range(6)] == [record.labels for record in other]


def test_rows_that_tables_share_are_computed_once(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    with counting(model) as seen:
        found = compute(table, model, processor, tmp_path / "cache", other=[table[4], table[1]])
    assert sum(seen) == 6 and len(found["other"]) == 2
    assert torch.equal(
        found["other"][0].features["region_features"], found["all"][4].features["region_features"]
    )


def test_only_rows_whose_picture_or_text_changed_are_computed_again(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    compute(table, model, processor, tmp_path / "cache")
    Image.new("RGB", (8, 8), "green").save(str(table[0].image))
    assert rows_computed(table, model, processor, tmp_path / "cache") == 1
    texts = [*TEXTS[:-1], "another end"]
    assert (
        rows_computed(
            make_table([record.image for record in table], texts), model, processor, tmp_path / "cache"
        )
        == 1
    )
    rows = compute(table, model, processor, tmp_path / "cache")
    raw = MemeCollator(processor, list(TASKS))([table[0]])
    with torch.no_grad():
        expected = model.encode(**{name: raw[name] for name in raw if name != "labels"})
    torch.testing.assert_close(rows[0].features["image_embeds"], expected.image_embeds[0])


def test_other_encoders_and_processors_have_other_fingerprints(
    make_model: Callable[..., Any], model: Any, processor: Any, tmp_path: Path
) -> None:
    start = encoder_fingerprint(model, processor)
    processor(images=[None], text=["one"], padding="max_length", max_length=7)
    assert (
        encoder_fingerprint(copy.deepcopy(model), processor)
        == start
        == encoder_fingerprint(model, make_processor())
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    saved = type(model).from_pretrained(tmp_path), MMOrientProcessor.from_pretrained(tmp_path)
    assert encoder_fingerprint(*saved) == start
    # Tasks, head and names do not count.
    other = make_model("vision", tasks={"other": ["x", "y"]}, graph_hidden_size=5)
    other.encoders.load_state_dict(model.encoders.state_dict())
    other.config.text_config._name_or_path = "somewhere/else"
    assert encoder_fingerprint(other, processor) == start
    changed = [start]
    for part in ("text", "vision"):
        weights = copy.deepcopy(model)
        next(getattr(weights.encoders, part).parameters()).data.view(-1)[0] += 1e-3
        changed.append(encoder_fingerprint(weights, processor))
    settings = copy.deepcopy(model)
    settings.config.text_config.layer_norm_eps = 1e-6
    changed.append(encoder_fingerprint(settings, processor))
    reads = make_model("vision", tasks=TASKS, use_hima_stage1=False, use_hima_stage2=False)
    reads.encoders.load_state_dict(model.encoders.state_dict())
    changed.append(encoder_fingerprint(reads, processor))
    for options in ({"clean_text": False}, {"text_max_length": 11}):
        changed.append(encoder_fingerprint(model, make_processor(**options)))
    pictures = make_processor()
    pictures.image_processor.do_normalize = False
    changed.append(encoder_fingerprint(model, pictures))
    vocabulary = make_processor()
    vocabulary.tokenizer.add_tokens(["more"])
    changed.append(encoder_fingerprint(model, vocabulary))
    assert len(set(changed)) == len(changed) == 9


def test_a_missing_text_is_not_an_empty_one_and_bytes_are_as_good_as_a_path(table: list[Record]) -> None:
    path = table[0].image
    content = Path(path).read_bytes()
    rows = [(path, ""), (path, None), (None, ""), (content, None)]
    keys = row_keys([Record("1", image, text) for image, text in rows], "test")
    assert len(set(keys)) == 3 and keys[1] == keys[3]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_a_file_cut_short_is_recognized_and_its_rows_are_computed_again(
    table: list[Record],
    model: Any,
    processor: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    kept: float,
) -> None:
    monkeypatch.setattr(logging.getLogger("mmorient.features.shards"), "propagate", True)
    compute(table, model, processor, tmp_path / "cache")
    before = files(tmp_path / "cache")
    path = next((tmp_path / "cache").rglob("*.arrow"))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert rows_computed(table, model, processor, tmp_path / "cache") == BATCH
    assert files(tmp_path / "cache") == before
    assert f"{path} is damaged" in caplog.text and "computed again" in caplog.text


def same(rows: Any, others: Any) -> bool:
    return all(
        torch.equal(values, others[row].features[name])
        for row in range(len(others))
        for name, values in rows[row].features.items()
    )


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_bit_is_recognized_and_the_rows_are_computed_again(
    table: list[Record],
    model: Any,
    processor: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    monkeypatch.setattr(logging.getLogger("mmorient.features.shards"), "propagate", True)
    expected = compute(table, model, processor, tmp_path / "cache")
    expected = [expected[row] for row in range(len(table))]
    path = sorted((tmp_path / "cache").rglob("*.arrow"))[0]
    size = path.stat().st_size
    for place in range(size * part // 4 + part, size * (part + 1) // 4, size // 20):
        caplog.clear()
        before = path.read_bytes()
        flip(path, place)
        computed = rows_computed(table, model, processor, tmp_path / "cache")
        assert computed in (0, BATCH)
        assert (f"{path} is damaged" in caplog.text) is (computed > 0)
        # What is between the columns says nothing.
        assert same(compute(table, model, processor, tmp_path / "cache"), expected)
        path.write_bytes(before)


def test_damage_in_the_middle_of_a_run_stops_it_and_the_next_one_computes_the_rows(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    rows = compute(table, model, processor, tmp_path / "cache")
    path, _ = rows.stored[0]
    expected = rows[0].features["region_features"]
    with path.open("r+b") as file:  # the very file that the rows have mapped
        content = path.read_bytes()
        file.seek(content.index(expected.numpy().tobytes()[:16]) + 5)
        file.write(b"\xff")
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*start the run again"):
        rows[0]
    assert rows_computed(table, model, processor, tmp_path / "cache") == BATCH
    again = compute(table, model, processor, tmp_path / "cache")
    assert torch.equal(again[0].features["region_features"], expected)


def test_files_under_each_others_names_lose_no_rows(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    """A file that is written later must not take the place of another one's rows."""
    expected = compute(table, model, processor, tmp_path / "cache")
    before = files(tmp_path / "cache")
    one, other, _ = sorted((tmp_path / "cache").rglob("*.arrow"))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.unlink()
    assert rows_computed(table, model, processor, tmp_path / "cache") == 2 * BATCH
    assert content in files(tmp_path / "cache").values() and files(tmp_path / "cache") == before
    assert same(compute(table, model, processor, tmp_path / "cache"), expected)


def test_files_without_checksums_are_computed_again(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    compute(table, model, processor, tmp_path / "cache")
    before = files(tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*.arrow"):
        with pa.ipc.open_file(path.read_bytes()) as reader:
            plain = reader.read_all().drop_columns("checksum")
        with pa.ipc.new_file(str(path), plain.schema) as writer:
            writer.write_table(plain)
    assert rows_computed(table, model, processor, tmp_path / "cache") == 6
    assert files(tmp_path / "cache") == before


def test_what_is_no_file_is_refused_and_a_link_to_nothing_removed(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    compute(table, model, processor, tmp_path / "cache")
    store = next((tmp_path / "cache").iterdir())
    (store / "link.arrow").symlink_to(store / "nothing")
    compute(table, model, processor, tmp_path / "cache")
    assert not (store / "link.arrow").is_symlink()
    for make in ((store / "other.arrow").mkdir, lambda: os.mkfifo(store / "pipe.arrow")):
        make()
        with pytest.raises(ValueError, match=r"(other|pipe)\.arrow is no file: move it away"):
            compute(table, model, processor, tmp_path / "cache")
        for path in store.glob("*r.arrow"):
            path.rmdir()


def test_an_interrupted_run_is_resumed_with_the_rest_alone(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    compute(table, model, processor, tmp_path / "whole")

    def fail(*_: Any) -> None:
        if len(seen) == 3:
            raise RuntimeError("interrupted")

    with counting(model) as seen:
        hook = model.encoders.text.register_forward_hook(fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            compute(table, model, processor, tmp_path / "cache")
        hook.remove()
    store = next(path for path in (tmp_path / "cache").iterdir())
    (store / "half.tmp").write_bytes(b"ARROW1")
    assert rows_computed(table, model, processor, tmp_path / "cache") == BATCH
    assert not list(store.glob("*.tmp"))
    # Bit for bit what an uninterrupted run leaves.
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


KILLED = """
import pickle, sys, time
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import torch
from modeling_mmorient import MMOrientForMultitaskClassification, MMOrientProcessor
from mmorient.features import cache as feature_cache
feature_cache.SHARD_ROWS = 2
model = MMOrientForMultitaskClassification.from_pretrained({model!r})
model.encoders.text.register_forward_hook(lambda *_: time.sleep(0.7))
feature_cache.cached_features(
    {{"all": pickle.loads(Path({table!r}).read_bytes())}}, model,
    MMOrientProcessor.from_pretrained({model!r}), {cache!r}, 2, torch.device("cpu"))
"""


@pytest.mark.slow
def test_after_kill_9_whole_files_are_left_and_the_next_run_goes_on(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "table").write_bytes(pickle.dumps(table))
    names = {name: str(tmp_path / name) for name in ("model", "table", "cache")}
    script = KILLED.format(root=str(ROOT), tests=str(ROOT / "tests"), **names)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not files(tmp_path / "cache") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()[-2000:]
    done = len(files(tmp_path / "cache")) * BATCH
    assert 0 < done < 6
    # The very same encoders, read back, so that their fingerprint is the killed run's.
    loaded = type(model).from_pretrained(tmp_path / "model")
    assert rows_computed(table, loaded, processor, tmp_path / "cache") == 6 - done
    compute(table, model, processor, tmp_path / "whole")
    assert files(tmp_path / "cache") == files(tmp_path / "whole")


def test_a_bad_row_is_named_as_its_table_does(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    bad = make_table([table[0].image, str(broken)], ["fine", "bad"], first=40)
    with pytest.raises(ValueError, match=r"row 41 of the other rows: cannot read a picture .*broken\.png"):
        compute(table, model, processor, tmp_path / "cache", other=bad)
    broken.unlink()
    with pytest.raises(ValueError, match=r"row 41 of the other rows: cannot read its picture.*broken\.png"):
        compute(table, model, processor, tmp_path / "cache", other=bad)
    with pytest.raises(ValueError, match=r"row 41: .*picture"):
        MemeCollator(processor, list(TASKS))([bad[0], bad[1]])


def test_nothing_random_is_drawn(table: list[Record], model: Any, processor: Any, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    compute(table, model, processor, tmp_path / "cache")
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_can_be_sent_to_a_data_loaders_processes(
    table: list[Record], model: Any, processor: Any, tmp_path: Path
) -> None:
    rows = compute(table, model, processor, tmp_path / "cache")
    expected = rows[2].features
    sent = pickle.dumps(rows)
    assert len(sent) < 5_000
    for name, values in pickle.loads(sent)[2].features.items():
        assert torch.equal(values, expected[name])
    loaded = cached_features(
        {"all": table}, model, processor, tmp_path / "other", BATCH, torch.device("cpu"), workers=1
    )["all"]
    for name, values in loaded[2].features.items():
        assert torch.equal(values, expected[name])


def test_a_second_run_waits_for_the_one_that_fills_the_cache(
    table: list[Record], model: Any, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "cache" / encoder_fingerprint(model, processor)
    store.mkdir(parents=True)
    other = FileLock(store / ".lock")
    other.acquire()

    def finish(message: str) -> None:
        assert "waiting for another run" in message
        compute_elsewhere = compute(table, model, processor, tmp_path / "done")
        assert len(compute_elsewhere) == 6
        for name, content in files(tmp_path / "done").items():
            (store / name).write_bytes(content)
        other.release()

    monkeypatch.setattr(feature_cache.logger, "warning", finish)
    with counting(model) as seen:
        compute(table, model, processor, tmp_path / "cache")
    assert sum(seen) == 6  # by the other run alone


def test_rows_that_another_process_wrote_elsewhere_are_an_error(
    table: list[Record], model: Any, processor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TwoProcesses:
        process_index, num_processes, is_main_process, is_local_main_process = 0, 2, True, True

        def wait_for_everyone(self) -> None:
            pass

    monkeypatch.setattr(feature_cache, "PartialState", TwoProcesses)
    with pytest.raises(ValueError, match=r"lacks 2 rows .*set `feature_cache`"):
        compute(table, model, processor, tmp_path / "cache")


@pytest.fixture
def recipe(tmp_path: Path, model: Any) -> list[str]:
    """A recipe around the model's encoders that trains nothing: the scores are those of the features."""
    draw_memes(tmp_path / "memes", rows=288)
    processor = make_processor()
    for role, encoder, kind in (
        ("text", model.encoders.text, BertModel),
        ("vision", model.encoders.vision, MobileNetV2Model),
    ):
        assert isinstance(encoder, kind)
        encoder.save_pretrained(tmp_path / role)
    processor.tokenizer.save_pretrained(tmp_path / "text")
    processor.image_processor.save_pretrained(tmp_path / "vision")
    options = {
        "hima_hidden_size": 8,
        "graph_hidden_size": 8,
        "learner_hidden_sizes": [8],
        "learner_dropout": 0.0,
        "use_hima_stage2": False,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"data_dir: {tmp_path / 'memes'}\nimage_dir: .\ntrain_file: train.csv\n"
        "validation_file: validation.csv\n"
        "tasks: {sentiment: {labels: [negative, neutral, positive]}}\n"
        f"joint: none\ntext: {tmp_path / 'text'}\nvision: {tmp_path / 'vision'}\n"
        f"model_options: {json.dumps(options)}\nprocessor_options: {{text_max_length: 12}}\n"
        "num_train_epochs: 1\nlearning_rate: 0.0\noptim: sgd\nmax_grad_norm: 0.0\nreport_to: none\n"
        "eval_strategy: 'no'\nsave_strategy: 'no'\nuse_cpu: true\ndataloader_pin_memory: false\n"
        "per_device_eval_batch_size: 16\n"
    )
    return [str(path)]


@pytest.mark.slow
def test_two_processes_leave_the_cache_and_the_scores_of_one(recipe: list[str], tmp_path: Path) -> None:
    scores = {}
    for processes in (1, 2):
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
        launch += ["--num_processes", str(processes), "training/train.py", *recipe]
        launch += ["--feature_cache", str(tmp_path / f"cache_{processes}")]
        launch += ["--output_dir", str(tmp_path / f"run_{processes}")]
        launch += ["--per_device_train_batch_size", str(8 // processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        result = subprocess.run(
            launch, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr[-3000:]
        results = json.loads((tmp_path / f"run_{processes}" / "results.json").read_text())
        scores[processes] = results["validation"]
    assert len(files(tmp_path / "cache_1")) == 2  # one for each process
    assert files(tmp_path / "cache_1") == files(tmp_path / "cache_2")
    for name in ("loss", "macro_f1"):
        assert scores[2][name] == pytest.approx(scores[1][name], abs=1e-5)
