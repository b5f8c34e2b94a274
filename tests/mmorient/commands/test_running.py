"""What is missing or misnamed ends a command in one line."""

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from mmorient.commands.main import main
from mmorient.commands.running import EXTRAS

ROOT = Path(__file__).parents[3]
# What pip calls otherwise than Python.
MODULES = {"scikit-learn": "sklearn", "pyyaml": "yaml", "huggingface-hub": "huggingface_hub"}
# What the model's own requirements bring.
BASE = {"filelock", "huggingface_hub", "numpy", "yaml", "tqdm"}
WITHOUT = """
import sys
sys.modules |= dict.fromkeys({missing})
from mmorient.commands.main import main
main({argv})
"""


def _without(missing: list[str], *argv: str) -> subprocess.CompletedProcess[str]:
    script = WITHOUT.format(missing=missing, argv=list(argv))
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_extras_are_those_of_the_distribution() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    for extra, modules in EXTRAS.items():
        required = config["options.extras_require"][extra].split()
        names = [re.split("[<>=]", line)[0] for line in required]
        assert {MODULES.get(name, name) for name in names} == set(modules) - {"tqdm"}


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "quickstart"],
        ["inspect", "quickstart"],
        ["predict", "model", "table.csv", "out.csv"],
        ["explain", "model", "out", "--text", "words"],
        ["score", "table", "quickstart", "predictions.csv"],
    ],
)
def test_without_the_extra_one_line_names_it(argv: list[str]) -> None:
    done = _without(["datasets"], *argv)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: `mmorient {argv[0]}` needs datasets, which is not installed: pip install 'mmorient[train]'\n"
    )


def test_a_meme_is_labelled_without_any_extra(saved_model: Path) -> None:
    missing = [name for name in EXTRAS["train"] if name not in BASE]
    done = _without(missing, "label", str(saved_model), "--text", "the cat votes")
    assert done.returncode == 0 and done.stdout.startswith("mood: "), done.stderr


def test_a_module_that_no_extra_brings_is_no_users_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmorient.samples.memes", None)
    monkeypatch.delitem(sys.modules, "mmorient.commands.samples", raising=False)
    with pytest.raises(ModuleNotFoundError):
        main(["samples", "folder"])


def test_a_misspelt_command_is_met_with_the_right_one() -> None:
    with pytest.raises(SystemExit, match=r"'trian' is no command: .* Did you mean 'train'"):
        main(["trian"])
