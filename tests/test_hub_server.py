"""The local Hub behaves as the real one does towards `huggingface_hub` and transformers."""

import base64
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hub_server import LFS_THRESHOLD, LocalHub, run_python
from huggingface_hub import CommitOperationAdd, HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

BUILD_MODEL = """
import json, sys
import torch
from transformers import AutoModel, BertConfig, BertModel

torch.manual_seed(0)
sizes = dict(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
model = BertModel(BertConfig(intermediate_size=16, max_position_embeddings=16, **sizes)).eval()

def output(model):
    with torch.no_grad():
        return model(torch.arange(6)[None]).last_hidden_state.flatten().tolist()
"""
PUBLISH = """
commits, outputs = [], []
for _ in range(2):
    commits.append(model.push_to_hub("tester/bert").oid)
    outputs.append(output(model))
    model.embeddings.word_embeddings.weight.data.neg_()
print(json.dumps([commits, outputs]))
"""
LOAD = """
revisions = json.loads(sys.argv[1])
loaded = [AutoModel.from_pretrained("tester/bert", revision=name).eval() for name in revisions]
print(json.dumps([output(model) for model in loaded]))
"""


@dataclass
class Exchange:
    """What was published by one process and loaded by others."""

    hub: LocalHub
    commits: list[str]
    published: list[list[float]]
    loaded: list[list[float]]
    loaded_offline: list[list[float]]
    requests_when_closed: int


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    publisher, reader = tmp_path_factory.mktemp("publisher"), tmp_path_factory.mktemp("reader")
    with LocalHub() as hub:
        commits, published = run_python(BUILD_MODEL + PUBLISH, env=hub.environment(publisher))
        revisions = json.dumps([*commits, "main"])
        env = hub.environment(reader)
        loaded = run_python(BUILD_MODEL + LOAD, revisions, env=env)
    requests = len(hub.requests)
    offline = run_python(BUILD_MODEL + LOAD, revisions, env={**env, "HF_HUB_OFFLINE": "1"})
    return Exchange(hub, commits, published, loaded, offline, requests)


@pytest.mark.slow
def test_a_model_comes_back_as_it_was_pushed(exchange: Exchange) -> None:
    first, second = exchange.published
    assert first != second
    assert exchange.loaded == [first, second, second]


@pytest.mark.slow
def test_every_commit_has_its_own_hash_and_stays_readable(exchange: Exchange) -> None:
    first, second = exchange.commits
    assert first != second and len(first) == len(second) == 40
    old, new = exchange.hub.files("tester/bert", first), exchange.hub.files("tester/bert")
    assert old.keys() == new.keys() == {"README.md", "config.json", "model.safetensors"}
    assert {name for name in new if old[name] != new[name]} == {"model.safetensors"}
    assert exchange.hub.files("tester/bert", second) == new


@pytest.mark.slow
def test_the_cache_serves_offline_while_the_server_is_down(exchange: Exchange) -> None:
    assert exchange.loaded_offline == exchange.loaded
    assert len(exchange.hub.requests) == exchange.requests_when_closed


@pytest.mark.slow
def test_nothing_was_sought_elsewhere(exchange: Exchange) -> None:
    assert all(request.split(" ", 1)[1].startswith("/") for request in exchange.hub.requests)


def test_a_request_to_another_host_is_refused_and_logged(tmp_path: Path) -> None:
    code = """
import json, urllib.request
try:
    urllib.request.urlopen("https://example.org/")
except OSError as error:
    print(json.dumps(str(error)))
"""
    with LocalHub() as hub:
        error = run_python(code, env=hub.environment(tmp_path))
    assert "404" in error
    assert hub.requests == ["CONNECT example.org:443"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LocalHub() as running:
        yield running


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    client = HfApi(endpoint=hub.endpoint, token="hf_local")
    client.create_repo("tester/files")
    return client


def upload(api: HfApi, path: str, content: bytes, **options: Any) -> str:
    addition = CommitOperationAdd(path, content)
    return str(api.create_commit("tester/files", [addition], commit_message="+", **options).oid)


def post(hub: LocalHub, path: str, body: bytes, method: str = "POST") -> int:
    """The status of a request made without the client and its own checks."""
    headers = {"Authorization": "Bearer hf_local"}
    request = urllib.request.Request(hub.endpoint + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_unknown_things_raise_the_hubs_errors(api: HfApi, tmp_path: Path) -> None:
    upload(api, "a.txt", b"a")
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("tester/none", "a.txt", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("tester/none")
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download("tester/files", "a.txt", revision="0" * 40, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        upload(api, "b.txt", b"b", revision="branch")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download("tester/files", "none.txt", cache_dir=tmp_path)
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree("tester/files", "none"))


def test_a_large_file_travels_as_a_verified_lfs_object(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    content = bytes(range(256)) * (LFS_THRESHOLD // 256) + b"!"
    digest = hashlib.sha256(content).hexdigest()
    upload(api, "large.dat", content)
    assert f"PUT /lfs/{digest}" in hub.requests
    path = api.hf_hub_download("tester/files", "large.dat", cache_dir=tmp_path)
    assert Path(path).read_bytes() == content
    url = hf_hub_url("tester/files", "large.dat", endpoint=hub.endpoint)
    metadata = get_hf_file_metadata(url)
    assert (metadata.etag, metadata.size) == (digest, len(content))
    assert post(hub, f"/lfs/{'0' * 64}", content, method="PUT") == 400


def test_a_small_file_needs_no_lfs_object(hub: LocalHub, api: HfApi) -> None:
    upload(api, "small.dat", b"!")
    assert not [request for request in hub.requests if "lfs" in request]
    entry = next(iter(api.list_repo_tree("tester/files")))
    assert vars(entry)["blob_id"] == hashlib.sha1(b"blob 1\0!").hexdigest()


def test_listings(api: HfApi) -> None:
    first = upload(api, "folder/a.txt", b"a")
    second = upload(api, "b.safetensors", b"b")
    assert api.list_repo_files("tester/files") == ["b.safetensors", "folder/a.txt"]
    assert api.list_repo_files("tester/files", revision=first) == ["folder/a.txt"]
    assert [e.path for e in api.list_repo_tree("tester/files", "folder")] == ["folder/a.txt"]
    info = api.model_info("tester/files")
    assert info.sha == second
    assert [file.rfilename for file in info.siblings or []] == ["b.safetensors", "folder/a.txt"]
    assert api.model_info("tester/files", revision=first).sha == first


def test_a_commit_deletes_overwrites_and_skips_what_is_there(hub: LocalHub, api: HfApi) -> None:
    upload(api, "folder/a.txt", b"a")
    head = upload(api, "b.safetensors", b"b")
    assert upload(api, "b.safetensors", b"b") == head
    upload(api, "b.safetensors", b"c")
    api.delete_folder("folder", "tester/files")
    assert hub.files("tester/files") == {"b.safetensors": b"c"}
    assert hub.files("tester/files", head) == {"folder/a.txt": b"a", "b.safetensors": b"b"}


def test_a_commit_on_anything_but_the_head_conflicts(api: HfApi) -> None:
    old = upload(api, "a.txt", b"a")
    upload(api, "a.txt", b"b")
    with pytest.raises(HfHubHTTPError, match="412"):
        upload(api, "c.txt", b"c", parent_commit=old)


def test_part_of_a_file(hub: LocalHub, api: HfApi) -> None:
    upload(api, "a.txt", b"0123456789")
    url = hf_hub_url("tester/files", "a.txt", endpoint=hub.endpoint)
    for wanted, expected in (("bytes=3-5", b"345"), ("bytes=7-", b"789"), ("bytes=8-99", b"89")):
        request = urllib.request.Request(url, headers={"Range": wanted})
        with urllib.request.urlopen(request) as answer:
            assert (answer.status, answer.read()) == (206, expected)
    with pytest.raises(urllib.error.HTTPError, match="416"):
        urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=10-"}))


@pytest.mark.parametrize("path", ["../a", "/a", "a/../../b", "a//b", ".git/config", "a\\b", ""])
def test_a_path_outside_the_repository_is_refused(hub: LocalHub, api: HfApi, path: str) -> None:
    content = base64.b64encode(b"a").decode()
    lines: list[dict[str, Any]] = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": path, "content": content}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    assert post(hub, "/api/models/tester/files/commit/main", body) == 400
    assert hub.files("tester/files") == {}
    upload(api, "a", b"a")
    escaped = quote(path, safe="")
    assert post(hub, f"/tester/files/resolve/main/{escaped}", b"", method="GET") == 404


def test_repositories_of_a_kind_of_their_own(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    url = api.create_repo("tester/files", repo_type="dataset")
    assert (url.repo_id, url.repo_type) == ("tester/files", "dataset")
    upload(api, "a.csv", b"1,2", repo_type="dataset")
    path = api.hf_hub_download("tester/files", "a.csv", repo_type="dataset", cache_dir=tmp_path)
    assert Path(path).read_bytes() == b"1,2"
    assert hub.files("tester/files") == {}


def test_a_repository_is_created_once(api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("tester/files")
    assert api.create_repo("files", exist_ok=True).repo_id == "tester/files"


def test_writing_needs_a_token(hub: LocalHub, api: HfApi) -> None:
    assert api.whoami()["name"] == "tester"
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.endpoint, token=False).create_repo("tester/other")
