"""What docs/export.md says to run runs."""

import re
import shutil
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from mmorient.commands.main import main  # noqa: E402
from mmorient.export.drawn_rows import drawn_memes  # noqa: E402
from tests.mmorient.predicting import save_model  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "export.md"


@pytest.mark.slow
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "runs" / "quickstart")
    image, _ = drawn_memes(1)[0]
    image.save("meme.png")
    page = PAGE.read_text(encoding="utf-8")
    command = re.search(r"^mmorient (export [^#\n]*)", page, re.M)
    main(command[1].split())
    known: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, known)
    assert "mood ['bad', 'so-so', 'good']" in capsys.readouterr().out
    assert known["answers"]["decisions.mood"].shape == (2,)
    shutil.rmtree("out")
