"""The code of docs/serving.md runs as it stands."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mmorient.predicting import save_model
from tests.mmorient.serving.published import IMAGE, ROOT

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_code_of_the_docs_runs(tmp_path: Path) -> None:
    save_model(tmp_path / "runs" / "quickstart", {"sentiment": ["negative", "neutral", "positive"]})
    (tmp_path / "meme.png").write_bytes(base64.b64decode(IMAGE))
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    for port in ("8000", "8001"):  # which somebody else may listen at
        text = text.replace(port, str(free_port()))
    blocks = re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL)
    # The pipeline runs the code of the folder, the server that of the checkout.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    answers, servers = [], []
    try:
        for language, block in blocks:
            if language == "python":
                subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, check=True)
                continue
            for line in block.replace("\\\n", "").splitlines():
                if line.startswith("mmorient "):
                    command = [sys.executable, "-m", "mmorient.commands.main", *line.split()[1:]]
                    servers.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
                    wait_for(int(line.split("--port ")[1].split()[0]))
                    continue
                done = subprocess.run(
                    ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stderr
                answers.append(done.stdout)
    finally:
        for server in servers:
            server.terminate()
            server.wait(60)
    one, two, numbers, _, taught, forgotten = answers
    assert len(json.loads(one)["answers"]["sentiment"]["scores"]) == 1 and len(json.loads(two)) == 2
    assert "mmorient_rows_total 3" in numbers
    assert [json.loads(said) for said in (taught, forgotten)] == [{"references": 1}, {"references": 0}]


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")
