"""The demo as a Space: a folder that shows a published model, without the toolkit being installed."""

import shutil
from pathlib import Path

from huggingface_hub import CardData, RepoCard
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import mmorient
from mmorient.demo.examples import write_examples
from mmorient.samples.examples import draw_examples

ROOT = Path(mmorient.__file__).resolve().parent
SOURCE = Path(__file__).resolve().parent / "space"
# The files of the toolkit that the demo imports, and the templates that it reads.
TOOLKIT = (
    "__init__.py",
    "demo/__init__.py",
    "demo/app.py",
    "demo/examples.py",
    "demo/views.py",
    "demo/visits.py",
    "demo/template/*",
    "explanation/__init__.py",
    "explanation/heat.py",
    "explanation/views.py",
    "explanation/template/explanation.*",
    "report/__init__.py",
    "report/environment.py",
    "report/template/style.css",
)
REQUIREMENTS = "requirements.txt"
PYTHON = "3.12"
EXAMPLES = "examples"


def write_space(folder: Path, model: str, license: str) -> None:
    """Write a Space into an empty folder.

    Args:
        folder: Where to.
        model: The model's id on the Hub, OWNER/NAME.
        license: As the Hub calls it.
    """
    for pattern in TOOLKIT:
        for path in sorted(ROOT.glob(pattern)):
            target = folder / "mmorient" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copyfile(SOURCE / REQUIREMENTS, folder / REQUIREMENTS)
    title = f"{model.rpartition('/')[2]} demo"
    templates = Environment(
        loader=FileSystemLoader(SOURCE),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    for name in ("app.py", "README.md"):
        text = templates.get_template(f"{name}.j2").render(model=model, title=title)
        (folder / name).write_text(text, encoding="utf-8")
    versions = dict(line.split("==") for line in (SOURCE / REQUIREMENTS).read_text().split())
    data = CardData(
        title=title,
        sdk="gradio",
        sdk_version=versions["gradio"],
        python_version=PYTHON,
        app_file="app.py",
        models=[model],
        license=license,
        pinned=False,
    )
    card = RepoCard(f"---\n{data.to_yaml()}\n---\n\n{(folder / 'README.md').read_text(encoding='utf-8')}")
    card.save(folder / "README.md")
    write_examples(folder / EXAMPLES, draw_examples(folder / EXAMPLES))
