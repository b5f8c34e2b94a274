"""The server over real HTTP: every request gets its own answer, whatever others send."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from mmorient.serving.batching import Batcher
from tests.mmorient.predicting import WORDS
from tests.mmorient.serving.published import image, publish

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from mmorient.serving import server  # noqa: E402  (needs the extra)

TOKEN = "a-token-of-many-letters"
ALLOWED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Site:
    """A server that runs."""

    address: str
    pipeline: Any
    process: subprocess.Popen[str] | None = None

    def ask(
        self, path: str, data: Any = None, method: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and answer of a request; `data` is sent as JSON, bytes as they are."""
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(self.address + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") or text.startswith("[") else text

    def numbers(self) -> dict[str, float]:
        """What /metrics says."""
        lines = self.ask("/metrics")[1].splitlines()
        return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


def run(folder: Path, token: str | None, **options: Any) -> Iterator[Site]:
    answering = pipeline("mmorient", model=str(folder), device="cpu")
    app = server.create_app(answering, token, **options)
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", answering)
    running.should_exit = True
    thread.join()


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    yield from run(folder, TOKEN)


@pytest.fixture
def untaught(folder: Path) -> Iterator[Site]:
    yield from run(folder, None)


def test_an_answer_is_that_of_the_pipeline(untaught: Site) -> None:
    rows = [{"image": image(1), "text": "green cat"}, {"text": "votes"}, image(2)]
    assert untaught.ask("/predict", {"inputs": rows}) == (200, untaught.pipeline(rows))
    assert untaught.ask("/predict", {"inputs": rows[1]}) == (200, untaught.pipeline(rows[1]))
    asked = {"inputs": rows[0], "parameters": {"top_k": 1, "tasks": ["mood"], "explain": True}}
    expected = untaught.pipeline(rows[0], top_k=1, tasks=["mood"], explain=True)
    assert untaught.ask("/predict", asked) == (200, json.loads(json.dumps(expected)))
    assert untaught.ask("/health") == (200, {"status": "ok"})
    paths = untaught.ask("/openapi.json")[1]["paths"]
    assert {"/predict", "/health", "/metrics", "/references"} == set(paths)
    assert paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]["example"]
    numbers = untaught.numbers()
    assert numbers['mmorient_requests_total{route="/predict",status="200"}'] == 3
    assert numbers["mmorient_rows_total"] == 5
    assert numbers['mmorient_request_seconds_bucket{route="/predict",le="+Inf"}'] == 3


@pytest.mark.parametrize(
    "body, status, message",
    [
        (b"", 400, "the body is no JSON"),
        (b"{", 400, "the body is no JSON"),
        (b"\xff\xfe", 400, "the body is no JSON"),
        (b"[" * 200_000, 400, "the body is no JSON"),
        (b"[]", 400, "the request is []"),
        (b"x" * (server.MOST_BYTES + 1), 413, "the body has more than 32000000 bytes"),
        ({"inputs": [{"text": "a"}, {"text": " "}]}, 400, "inputs[1]: there is neither"),
        ({"inputs": {"image": "/etc/passwd"}}, 400, "inputs: `image`: an image is"),
        ({"inputs": {"text": "a"}, "parameters": {"top_k": 0}}, 400, "`top_k` is 0"),
    ],
)
def test_a_bad_request_is_told_which_field(untaught: Site, body: Any, status: int, message: str) -> None:
    found, answer = untaught.ask("/predict", body)
    assert found == status and list(answer) == ["error"] and answer["error"].startswith(message)
    assert untaught.ask("/predict", {"inputs": {"text": "a"}})[0] == 200


def test_an_error_inside_is_not_shown_and_takes_no_other_request_along(
    untaught: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = untaught.pipeline.forward
    begun, go_on = threading.Event(), threading.Event()

    def failing(batch: Any) -> Any:
        begun.set()
        go_on.wait()
        if any(row.inputs["input_ids"].shape[1] > 9 for row in batch["rows"]):
            raise RuntimeError("secret")
        return forward(batch)

    monkeypatch.setattr(untaught.pipeline, "forward", failing)
    with ThreadPoolExecutor(8) as clients:
        texts = ["first", "cat", "the " * 30, "votes"]
        answers = [clients.submit(untaught.ask, "/predict", {"inputs": {"text": texts[0]}})]
        begun.wait()
        answers += [
            clients.submit(untaught.ask, "/predict", {"inputs": {"text": text}}) for text in texts[1:]
        ]
        time.sleep(0.5)  # until they wait, and are one batch
        go_on.set()
        found = [answer.result() for answer in answers]
    assert [status for status, _ in found] == [200, 200, 500, 200]
    assert found[2][1] == {"error": "the model could not answer; the server's log says why"}
    monkeypatch.undo()
    for text, (status, answer) in zip(texts, found, strict=True):
        assert status == 500 or answer == untaught.pipeline({"text": text})


def test_requests_that_come_together_are_one_batch(folder: Path) -> None:
    answering = pipeline("mmorient", model=str(folder), device="cpu")
    batcher = Batcher(answering, batch_rows=8, wait_seconds=30.0)
    requests = [answering.read_request({"inputs": [{"text": word}, {"text": "a"}]}) for word in WORDS[:4]]
    futures = [batcher.submit(request) for request in requests]
    assert [future.result(60) for future in futures] == [answering.answer_request(one) for one in requests]
    assert (batcher.batches, batcher.rows) == (1, 8)
    batcher.close()


def test_too_many_that_wait_are_told_to_come_again(untaught: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def submit(self, request: Any) -> Any:
            raise server.Busy("256 requests wait already; try again in a few seconds")

    app_service = server.Service(untaught.pipeline, Full(), None)  # type: ignore[arg-type]
    monkeypatch.setattr(server.Service, "predict", lambda self, request: app_service.batcher.submit(request))
    assert untaught.ask("/predict", {"inputs": {"text": "a"}})[0] == 503


def test_references_change_with_the_token_alone(site: Site, untaught: Site) -> None:
    row = {"image": image(3), "text": "green cat"}
    taught = {"references": [{"id": "one", **row, "labels": {"mood": "so-so", "about": ["animals"]}}]}
    assert untaught.ask("/references", taught, headers=ALLOWED)[0] == 404
    assert untaught.ask("/references?id=one", method="DELETE", headers=ALLOWED)[0] == 404
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
        assert site.ask("/references", taught, headers=headers)[0] == 403
        assert site.ask("/references?id=one", method="DELETE", headers=headers)[0] == 403
    before = site.ask("/predict", {"inputs": row})[1]
    assert site.ask("/references", taught, headers=ALLOWED) == (200, {"references": 1})
    assert site.pipeline.model.references.labels["mood"].tolist() == [1]
    after = site.ask("/predict", {"inputs": row})[1]
    assert after != before
    other = {"references": [{**taught["references"][0], "labels": {"mood": "bad"}}], "replace": True}
    assert site.ask("/references", taught, headers=ALLOWED)[0] == 400  # there already
    assert site.ask("/references", other, headers=ALLOWED) == (200, {"references": 1})
    assert site.pipeline.model.references.labels["mood"].tolist() == [0]
    assert site.ask("/references?id=two", method="DELETE", headers=ALLOWED)[0] == 400
    assert site.ask("/references?id=one", method="DELETE", headers=ALLOWED) == (200, {"references": 0})
    assert site.ask("/predict", {"inputs": row})[1] == before


@pytest.mark.parametrize(
    "reference, message",
    [
        ({"text": "a"}, "references[0]: `id` is None"),
        ({"id": "a"}, "references[0]: there is neither"),
        ({"id": "a", "text": "b", "label": {}}, "references[0] has an unknown field 'label'"),
        (
            {"id": "a", "text": "b", "labels": {"mod": "bad"}},
            "references[0]: `labels` has an unknown field 'mod'",
        ),
        (
            {"id": "a", "text": "b", "labels": {"mood": "sad"}},
            "references[0]: `labels.mood` is 'sad'; give a label",
        ),
        (
            {"id": "a", "text": "b", "labels": {"about": "animals"}},
            "references[0]: `labels.about` is 'animals'",
        ),
        ({"id": "a", "image": "/etc/passwd"}, "references[0]: `image`: an image is"),
        (3, "references[0] is 3; give an object"),
    ],
)
def test_a_wrong_reference_names_its_field(site: Site, reference: Any, message: str) -> None:
    status, answer = site.ask("/references", {"references": [reference]}, headers=ALLOWED)
    assert status == 400 and answer["error"].startswith(message)
    assert len(site.pipeline.model.references) == 0


def test_each_answer_is_of_one_state_of_the_references(site: Site) -> None:
    rows = [{"text": " ".join(WORDS[: number + 1])} for number in range(6)]
    taught = {"references": [{"id": "one", "text": "cat votes", "labels": {"mood": "good"}}]}
    states = [site.ask("/predict", {"inputs": rows})[1]]
    site.ask("/references", taught, headers=ALLOWED)
    states.append(site.ask("/predict", {"inputs": rows})[1])
    assert states[0] != states[1]
    stop = threading.Event()

    def edit() -> None:
        while not stop.is_set():
            assert site.ask("/references?id=one", method="DELETE", headers=ALLOWED)[0] == 200
            assert site.ask("/references", taught, headers=ALLOWED)[0] == 200

    with ThreadPoolExecutor(9) as clients:
        editing = clients.submit(edit)
        answers = list(clients.map(lambda _: site.ask("/predict", {"inputs": rows})[1], range(60)))
        stop.set()
        editing.result()
    assert {states.index(answer) for answer in answers} == {0, 1}


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("short\n")
    with pytest.raises(ValueError, match="no token of at least 16"):
        server.read_token(path)
    path.write_text(f"{TOKEN}\n")
    assert server.read_token(path) == TOKEN


@pytest.fixture(scope="module")
def process(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server as a process of its own that lacks the toolkit, by the start line of the Dockerfile."""
    home = tmp_path_factory.mktemp("home")
    block = home / "sitecustomize.py"
    block.write_text("import sys; sys.modules |= {'mmorient': None, 'modeling_mmorient': None}\n")
    environment = {**os.environ, "PYTHONPATH": str(home), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = "1"
    lines = (folder / "serving/Dockerfile").read_text().splitlines()
    command = json.loads(next(line.removeprefix("CMD ") for line in lines if line.startswith("CMD ")))
    assert command[:4] == ["python", "-m", "serving.server", "."]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *command[1:-3], "127.0.0.1", "--port", str(port)]
    started = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    found = Site(f"http://127.0.0.1:{port}", pipeline("mmorient", model=str(folder), device="cpu"), started)
    deadline = time.monotonic() + 180
    while True:
        try:
            found.ask("/health")
            break
        except urllib.error.URLError:
            assert started.poll() is None and time.monotonic() < deadline, started.stderr
            time.sleep(0.2)
    yield found
    started.terminate()
    started.communicate(timeout=60)


def requests_and_answers(site: Site, number: int) -> list[tuple[Any, int, Any]]:
    """Requests with the status and answer that each must get (None: any); a quarter are malformed."""
    rng = random.Random(0)
    malformed: list[Any] = [
        *(b"{", b"\xff", b"[]", {"inputs": []}, {"inputs": {"image": "AAAA"}}, {"inputs": {"text": " "}}),
        *(
            {"inputs": {"text": "a"}, "parameters": {"top_k": -1}},
            {"inputs": {"image": "https://localhost/a"}},
        ),
    ]
    torch.set_num_threads(1)
    good = []
    for seed in range(24):
        row: dict[str, Any] = {"text": " ".join(rng.choices(WORDS, k=rng.randint(1, 20)))}
        if seed % 3:
            row["image"] = image(seed)
        rows: Any = row if seed % 4 else [row, {"text": "hooray"}]
        good.append(({"inputs": rows}, 200, site.pipeline(rows)))
    return [
        (rng.choice(malformed), 400, None) if rng.random() < 0.25 else rng.choice(good) for _ in range(number)
    ]


def memory(process: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
def test_two_thousand_requests_of_32_clients_get_their_answers(process: Site) -> None:
    asked = requests_and_answers(process, 2_000)
    assert process.process is not None
    sizes, wrong = [], Counter[str]()

    def one(entry: tuple[Any, int, Any]) -> None:
        body, status, expected = entry
        found, answer = process.ask("/predict", body)
        if found != status or (expected is not None and answer != expected):
            wrong[f"{status} became {found}"] += 1

    with ThreadPoolExecutor(32) as clients:
        for start in range(0, len(asked), 500):
            list(clients.map(one, asked[start : start + 500]))
            sizes.append(memory(process.process.pid))
    assert not wrong
    numbers = process.numbers()
    counted = sum(numbers[f'mmorient_requests_total{{route="/predict",status="{s}"}}'] for s in (200, 400))
    assert counted == 2_000 and numbers["mmorient_waiting"] == 0
    assert numbers["mmorient_batches_total"] < numbers["mmorient_rows_total"]
    # What the first 500 needed stays; another 1,500 add next to nothing.
    assert sizes[-1] - sizes[0] < 30_000_000, sizes
