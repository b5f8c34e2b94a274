"""The folder of a Space holds all that it needs."""

import ast
import sys
from pathlib import Path

import pytest
from hub_server import run_python
from huggingface_hub import RepoCard

from mmorient.demo.examples import read_examples
from mmorient.demo.space import write_space

ROOT = Path(__file__).parents[3]
# Everything but Gradio and the model: what is drawn of an answer.
DRAW = """
import json, sys
sys.modules["modeling_mmorient"] = sys.modules["gradio"] = None  # not to be imported
sys.path.insert(0, sys.argv[1])
import mmorient
from mmorient.demo import examples, views, visits
assert mmorient.__file__.startswith(sys.argv[1]), mmorient.__file__
task = {"task": "mood", "decision": ["good"], "probabilities": {"bad": 0.2, "good": 0.8}, "value": None,
        "interval": None, "contributions": {"HIMA text": {"bad": 0.1, "good": 0.3}}, "votes": {}}
answered = visits.Answered(None, "a b", {"mood": {"labels": ["good"], "scores": [], "thresholds": {}}},
    {"tasks": {"mood": task}, "neighbors": {}, "region_attention": None, "words": [["a", 0.4], ["b", 0.6]]})
specs = {"mood": type("Spec", (), {"kind": "multiclass", "name": "mood", "labels": ["bad", "good"]})}
shown = [views.show_answers(answered, specs), views.show_why(answered, specs, visits.Visit(), None)]
print(json.dumps([*shown, views.show_empty(specs), views.style()]))
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    write_space(tmp_path / "space", "me/memes", "apache-2.0")
    return tmp_path / "space"


def test_its_metadata_say_what_it_is(space: Path) -> None:
    card = RepoCard.load(space / "README.md")
    data = card.data.to_dict()
    assert {name: data[name] for name in ("sdk", "python_version", "app_file", "models", "license")} == {
        "sdk": "gradio",
        "python_version": "3.12",
        "app_file": "app.py",
        "models": ["me/memes"],
        "license": "apache-2.0",
    }
    pinned = dict(line.split("==") for line in (space / "requirements.txt").read_text().split())
    assert data["sdk_version"] == pinned["gradio"]
    assert "{{" not in card.text + (space / "app.py").read_text()
    assert 'MODEL = "me/memes"' in (space / "app.py").read_text()
    ast.parse((space / "app.py").read_text())


def test_its_versions_are_the_tested_ones(space: Path) -> None:
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split("\n") if "==" in line
    )
    pinned = dict(line.split("==") for line in (space / "requirements.txt").read_text().split())
    # Gradio 6 wants a Pillow below 13.
    assert pinned.pop("pillow").startswith("12.")
    assert pinned == {name: tested[name] for name in pinned}


def test_it_draws_answers_without_the_toolkit(space: Path, tmp_path: Path) -> None:
    shown = run_python(DRAW, str(space), env={"PATH": "", "HF_HOME": str(tmp_path)})
    assert len(shown) == 4 and "good" in shown[0] and "HIMA text" in shown[1]


def test_it_imports_nothing_that_it_lacks(space: Path) -> None:
    brought = {"gradio", "PIL", "numpy", "matplotlib", "markupsafe", "jinja2", "transformers"}
    for path in space.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top == "mmorient" and path.name != "__init__.py":
                    place = space.joinpath(*name.split("."))
                    assert place.is_dir() or place.with_suffix(".py").is_file(), (path, name)
                elif top != "mmorient":
                    assert top in brought | sys.stdlib_module_names, (path, name)


def test_its_examples_are_there(space: Path) -> None:
    examples = read_examples(space / "examples")
    assert len(examples) == 3 and all(Path(image).is_file() and text for image, text in examples)
