"""The handler of an endpoint, from a published model's files alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub_server import LocalHub, run_python

from mmorient.serving.files import serving_files
from mmorient.serving.handler import EndpointHandler
from tests.mmorient.serving.published import IMAGE, ROOT, publish

GOOD = {"inputs": [{"image": IMAGE, "text": "green cat"}, {"text": "votes"}], "parameters": {"top_k": 1}}
BAD: list[tuple[Any, str]] = [
    (None, "the request is None; give an object with `inputs`"),
    ([], r"the request is \[\]"),
    ({}, "`inputs` is missing"),
    ({"inputs": None}, "`inputs` is missing"),
    ({"input": {"text": "a"}}, "the request has an unknown field 'input': did you mean `inputs`"),
    ({"inputs": []}, "`inputs` has 0 rows; give from 1 to 32"),
    ({"inputs": [{"text": "a"}] * 33}, "`inputs` has 33 rows; give from 1 to 32"),
    ({"inputs": 3}, "inputs: `image`: cannot read a picture from int"),
    ({"inputs": [[1]]}, r"inputs\[0\]: `image`: "),
    (
        {"inputs": [{"text": "a"}, {"txt": "a"}]},
        r"inputs\[1\] has an unknown field 'txt': did you mean `text`",
    ),
    ({"inputs": {"text": 3}}, "inputs: `text` is 3; give a string"),
    ({"inputs": {"text": "a" * 100_001}}, r"inputs\[0\]: `text` has 100001 characters; give at most 100000"),
    ({"inputs": {"image": "/etc/passwd"}}, "inputs: `image`: an image is an https:// or data: address"),
    ({"inputs": {"image": "file:///etc/passwd"}}, "inputs: `image`: of addresses only https://"),
    (
        {"inputs": {"image": "https://169.254.169.254/"}},
        "inputs: `image`: the host '169.254.169.254' is not a",
    ),
    ({"inputs": {"image": "A" * 14_000_000}}, "inputs: `image`: .* larger than the limit of 10000000 bytes"),
    ({"inputs": {"text": "a"}, "parameters": [1]}, r"`parameters` is \[1\]; give an object"),
    ({"inputs": {"text": "a"}, "parameters": {"topk": 1}}, "parameters has an unknown field 'topk'"),
    ({"inputs": {"text": "a"}, "parameters": {"top_k": "1"}}, "`top_k` is '1'; give a whole number"),
    ({"inputs": {"text": "a"}, "parameters": {"tasks": ["x"]}}, "`tasks` has 'x'; the model's tasks are"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def handler(folder: Path) -> EndpointHandler:
    return EndpointHandler(str(folder))


def test_a_row_gets_an_answer_and_a_list_gets_a_list(handler: EndpointHandler) -> None:
    answers = handler(GOOD)
    assert json.loads(json.dumps(answers)) == answers and len(answers) == 2
    for row, answer in zip(GOOD["inputs"], answers, strict=True):
        assert handler({"inputs": row, "parameters": {"top_k": 1}}) == answer
    found = answers[0]["answers"]["mood"]
    assert [entry["label"] for entry in found["scores"]] == found["labels"]
    assert handler({"inputs": IMAGE}) == handler(
        {"inputs": {"image": IMAGE, "text": None}, "parameters": None}
    )


@pytest.mark.parametrize("request_, message", BAD)
def test_a_bad_request_names_its_field(handler: EndpointHandler, request_: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        handler(request_)
    # One line, with nothing behind it that a client could be shown.
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_more_pixels_than_the_limit_are_not_decoded(handler: EndpointHandler) -> None:
    import base64
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("1", (6000, 5000)).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    with pytest.raises(ValueError, match="6000 x 5000 pixels, more than the limit of 25000000"):
        handler({"inputs": {"image": image}})


def test_requirements_lie_where_no_endpoint_installs_them() -> None:
    files = serving_files()
    assert all(source.is_file() for source in files.values())
    assert {name for name in files if "/" not in name} == {"handler.py"}
    here = {path.name for path in (ROOT / "mmorient/serving").iterdir() if path.is_file()}
    assert {Path(name).name for name in files} == here - {"files.py"}


def test_requirements_are_the_tested_versions() -> None:
    tested = set((ROOT / "constraints.txt").read_text().splitlines())
    assert set((ROOT / "mmorient/serving/requirements.txt").read_text().splitlines()) < tested


@pytest.mark.slow
def test_the_published_files_do_without_the_toolkit(
    handler: EndpointHandler, folder: Path, tmp_path: Path
) -> None:
    code = """
import json, sys
sys.modules |= {"mmorient": None, "modeling_mmorient": None}
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from handler import EndpointHandler
print(json.dumps(EndpointHandler(sys.argv[1])(json.loads(sys.argv[2]))))
"""
    with LocalHub() as hub:
        found = run_python(code, str(folder), json.dumps(GOOD), env=hub.environment(tmp_path / "home"))
        assert found == handler(GOOD) and not hub.requests
