"""A Hugging Face Hub on the loopback interface, for tests of publishing and loading.

`LocalHub` answers what `huggingface_hub` 1.x and 2.x ask, without Xet, in order to create a repository,
commit to it and load from it. It keeps everything in memory and in the Hub's own terms: a commit
maps paths to blobs, which are git files or LFS objects. No path from a client reaches the disk.
Left out: all branches but `main`, tags, folders and pages in listings, checks of model cards.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

USER = "tester"
LFS_THRESHOLD = 10 * 1024 * 1024  # bytes; larger files become LFS objects, and so do weights
VALIDATION = "/api/validate-yaml"  # of a model card, which anybody may ask for
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pkl", ".npz", ".onnx", ".zip")

Answer = tuple[int, Any, dict[str, str]]  # status, JSON or bytes, headers


class HubError(Exception):
    """An answer other than success: HTTP status, message, the Hub's error code if it has one."""

    def __init__(self, status: int, message: str, code: str = "", commit: str = "") -> None:
        super().__init__(message)
        self.answer = status, {"error": message}, {"X-Error-Code": code, "X-Repo-Commit": commit}


@dataclass(frozen=True)
class Blob:
    """The content of a file and whether it is an LFS object."""

    data: bytes
    is_lfs: bool = False

    @property
    def etag(self) -> str:
        """The hash of an LFS object's content, or git's hash of a regular file."""
        if self.is_lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Repo:
    """A repository's address and its commits by hash, the last one being `main`."""

    url: str
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)

    def resolve(self, revision: str) -> str:
        """Returns the commit hash that `main` or a commit hash stands for."""
        commit = list(self.commits)[-1] if revision == "main" else revision
        if commit not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    def add_commit(self, summary: str, files: dict[str, Blob]) -> str:
        """Appends a commit that holds exactly these files and returns its hash."""
        tree = sorted((path, blob.etag) for path, blob in files.items())
        identity = json.dumps([self.url, len(self.commits), summary, tree])
        commit = hashlib.sha1(identity.encode()).hexdigest()
        self.commits[commit] = files
        return commit


class LocalHub:
    """The server; it runs while the context is entered, and its content can be read afterwards.

    Attributes:
        endpoint: Address for `HF_ENDPOINT`.
        requests: `"METHOD /path"` of every request received, in order. A client that runs in
            `environment()` also sends here what it meant for other hosts: that is refused, and
            logged as `"CONNECT host:port"` or with the full address.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs_objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        """Returns a repository or raises the Hub's 404."""
        if (repo_type, repo_id) not in self.repos:
            raise HubError(404, f"Repository not found: {repo_id}", "RepoNotFound")
        return self.repos[repo_type, repo_id]

    def files(self, repo_id: str, revision: str | None = None) -> dict[str, bytes]:
        """Returns the content of every file of a model's revision (default `main`) by its path."""
        repo = self.repo(repo_id)
        commit = repo.resolve(revision or "main")
        return {path: blob.data for path, blob in repo.commits[commit].items()}

    def environment(self, home: Path) -> dict[str, str]:
        """Variables of a process that reaches only this Hub and inherits no Hub or Python settings.

        Its caches lie in `home`; what it sends to other hosts arrives here and is refused.
        """
        foreign = re.compile(r"PYTHON|HF_|HUGGING|TRANSFORMERS_|.*_PROXY$", re.IGNORECASE)
        return {
            **{name: value for name, value in os.environ.items() if not foreign.match(name)},
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_local",
            "HTTP_PROXY": self.endpoint,
            "HTTPS_PROXY": self.endpoint,
            "NO_PROXY": "127.0.0.1",
        }


def run_python(code: str, *arguments: str, env: dict[str, str]) -> Any:
    """Runs code in a fresh interpreter outside the checkout and returns the JSON it prints last."""
    command, home = [sys.executable, "-P", "-c", code, *arguments], Path(env["HF_HOME"])
    home.mkdir(exist_ok=True)
    done = subprocess.run(command, env=env, cwd=home, input="", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class _Handler(BaseHTTPRequestHandler):
    """Finds the route of a request in `ROUTES`, calls it and writes its answer."""

    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        path, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        # Read even where it is not needed: the next request follows on the same connection.
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        try:
            with self.hub.lock:
                status, answer, headers = self.call_route(path)
        except HubError as error:
            status, answer, headers = error.answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = handle_any

    def call_route(self, path: str) -> Answer:
        """Calls the first route that fits, with the repository and the commit looked up."""
        for methods, pattern, route in ROUTES:
            match = re.fullmatch(pattern, path)
            if self.command not in methods or match is None:
                continue
            if methods == "POST" and path != VALIDATION and "Authorization" not in self.headers:
                raise HubError(401, "Invalid username or password.")
            values = {name: unquote(value or "") for name, value in match.groupdict().items()}
            if "repo" not in values:
                return route(self, **values)
            repo = self.hub.repo(values.pop("repo"), values.pop("kind").rstrip("s") or "model")
            if "revision" in values:
                values["commit"] = repo.resolve(values.pop("revision") or "main")
            return route(self, repo, **values)
        raise HubError(404, f"This Hub does not serve {self.command} {path}")

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test output quiet; `LocalHub.requests` is the log."""

    def create_repo(self) -> Answer:
        request = json.loads(self.body)
        repo_type = request.get("type") or "model"
        repo_id = f"{request.get('organization') or USER}/{request['name']}"
        prefix = "" if repo_type == "model" else f"{repo_type}s/"
        url = f"{self.hub.endpoint}/{prefix}{repo_id}"
        if (repo_type, repo_id) in self.hub.repos:
            return 409, {"url": url, "error": "You already created this repo"}, {}
        repo = self.hub.repos[repo_type, repo_id] = Repo(url)
        repo.add_commit("initial commit", {})
        return 200, {"url": url}, {}

    def info(self, repo: Repo, commit: str) -> Answer:
        repo_id = "/".join(repo.url.split("/")[-2:])
        siblings = [{"rfilename": path} for path in sorted(repo.commits[commit])]
        return 200, {"id": repo_id, "sha": commit, "siblings": siblings}, {}

    def tree(self, repo: Repo, commit: str, folder: str) -> Answer:
        prefix, recursive = f"{folder}/".lstrip("/"), self.query.get("recursive") == ["true"]
        entries: list[dict[str, Any]] = []
        for path, blob in sorted(repo.commits[commit].items()):
            if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :]):
                size = {"size": len(blob.data)}
                lfs = {"lfs": {"oid": blob.etag, "pointerSize": 134, **size}} if blob.is_lfs else {}
                entries.append({"type": "file", "path": path, "oid": blob.etag, **size, **lfs})
        if folder and not entries:
            raise HubError(404, f"{folder} is not in {commit}", "EntryNotFound", commit)
        return 200, entries, {}

    def preupload(self, repo: Repo, commit: str) -> Answer:
        """Tells the client which files are LFS objects and which it has no need to send.

        Of a `.gitignore` only lines that are the whole path of a file, `/name`, are understood.
        """
        files = []
        request = json.loads(self.body)
        ignored = {line.removeprefix("/") for line in request.get("gitIgnore", "").splitlines()}
        for file in request["files"]:
            path, present = file["path"], repo.commits[commit].get(file["path"])
            is_lfs = file["size"] > LFS_THRESHOLD or path.endswith(LFS_SUFFIXES)
            mode = {"uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": path in ignored}
            files.append({"path": path, "oid": present and present.etag, **mode})
        return 200, {"files": files}, {}

    def lfs_batch(self, repo: Repo) -> Answer:
        objects = json.loads(self.body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.lfs_objects:
                item["actions"] = {"upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"}}
        return 200, {"transfer": "basic", "objects": objects}, {}

    def lfs_upload(self, oid: str) -> Answer:
        actual = hashlib.sha256(self.body).hexdigest()
        if actual != oid:
            raise HubError(400, f"Content has sha256 {actual}, announced was {oid}")
        self.hub.lfs_objects[oid] = self.body
        return 200, {}, {}

    def commit(self, repo: Repo, commit: str) -> Answer:
        files = dict(repo.commits[commit])
        header, *operations = [json.loads(line) for line in self.body.splitlines()]
        if not repo.resolve("main") == commit == header["value"].get("parentCommit", commit):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        for operation in operations:
            self.apply(operation["key"], operation["value"], files)
        commit = repo.add_commit(header["value"]["summary"], files)
        return 200, {"commitOid": commit, "commitUrl": f"{repo.url}/commit/{commit}"}, {}

    def apply(self, key: str, value: dict[str, Any], files: dict[str, Blob]) -> None:
        """Carries out one line of a commit on `files`."""
        path = value["path"].rstrip("/")
        if "\\" in path or {"", ".", "..", ".git"} & set(path.split("/")):
            raise HubError(400, f"Invalid path in a repository: {path!r}")
        if key == "file":
            files[path] = Blob(base64.b64decode(value["content"]))
        elif key == "lfsFile" and value["oid"] in self.hub.lfs_objects:
            files[path] = Blob(self.hub.lfs_objects[value["oid"]], is_lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            for name in [name for name in files if f"{name}/".startswith(f"{path}/")]:
                del files[name]
        else:
            raise HubError(400, f"Cannot commit {key} {path!r}")

    def download(self, repo: Repo, commit: str, path: str) -> Answer:
        blob = repo.commits[commit].get(path)
        if blob is None:
            raise HubError(404, f"{path} is not in {commit}", "EntryNotFound", commit)
        headers, size = {"ETag": f'"{blob.etag}"', "X-Repo-Commit": commit}, len(blob.data)
        if blob.is_lfs:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(size)}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return 200, blob.data, headers
        start, end = int(wanted[1]), min(int(wanted[2] or size), size - 1)
        if start > end:
            raise HubError(416, f"There is no {wanted[0]} in {size} bytes")
        part = {"Content-Range": f"bytes {start}-{end}/{size}"}
        return 206, blob.data[start : end + 1], headers | part


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo>[^/]+/[^/]+)"
_WEB = r"/((?P<kind>datasets|spaces)/)?(?P<repo>[^/]+/[^/]+)"
_REVISION = r"/(?P<revision>[^/]+)"
ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("GET HEAD", "/api/whoami-v2", lambda _: (200, {"type": "user", "name": USER}, {})),
    ("POST", VALIDATION, lambda _: (200, {"errors": [], "warnings": []}, {})),
    ("POST", "/api/repos/create", _Handler.create_repo),
    ("GET HEAD", _API + "(/revision" + _REVISION + ")?", _Handler.info),
    ("GET HEAD", _API + "/tree" + _REVISION + "(/(?P<folder>.+))?", _Handler.tree),
    ("POST", _API + "/preupload" + _REVISION, _Handler.preupload),
    ("POST", _API + "/commit" + _REVISION, _Handler.commit),
    ("POST", _WEB + r"\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_upload),
    ("GET HEAD", _WEB + "/resolve" + _REVISION + "/(?P<path>.+)", _Handler.download),
)
