"""Prove that a published model serves itself: from its own files, by the lines of its own Dockerfile."""

import base64
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from typing import Any

SECONDS = 120
HANDLE = """
import json, sys
from handler import EndpointHandler
print(json.dumps(EndpointHandler(".")(json.load(sys.stdin))))
"""


def check_serving(published: Path, folder: Path, picture: Path) -> None:
    """Install what a published model asks for into an empty environment, start its server, and ask.

    Args:
        published: A repository's files.
        folder: Where the environment is made.
        picture: To ask about.
    """
    lines = (published / "serving" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (install,) = (line.removeprefix("RUN ") for line in lines if line.startswith("RUN "))
    (start,) = (json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD "))
    venv.create(folder / "serving", with_pip=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    path = f"{folder / 'serving' / 'bin'}{os.pathsep}{kept['PATH']}"
    environment = {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    # An index of torch's own may be out of reach, and is needed for nothing but the build.
    install = re.sub(r"--extra-index-url \S+ ", "", install)
    subprocess.run(install, shell=True, check=True, cwd=published, env=environment, stdout=subprocess.DEVNULL)
    request = {
        "inputs": {"image": base64.b64encode(picture.read_bytes()).decode(), "text": "what a lovely day"}
    }
    handled = subprocess.run(
        ["python", "-c", HANDLE], cwd=published, env=environment, input=json.dumps(request), text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [port if word == "8000" else word for word in start], cwd=published, env=environment
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server)
        served = _ask(f"http://127.0.0.1:{port}/predict", request)
        assert served == json.loads(handled.stdout.splitlines()[-1]), (served, handled.stdout)
        refused = _ask(f"http://127.0.0.1:{port}/predict", {"inputs": {"image": "/etc/passwd"}}, status=400)
        print(f"The published model serves itself: {served}\n  and refuses a path: {refused}")
    finally:
        server.terminate()
        server.wait(SECONDS)


def _wait(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"the server did not come up: its status is {server.poll()}")


def _ask(address: str, request: Any, status: int = 200) -> Any:
    try:
        with urllib.request.urlopen(address, json.dumps(request).encode(), timeout=SECONDS) as answer:
            found, content = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        found, content = error.code, error.read()
    assert found == status, (found, content)
    return json.loads(content)
