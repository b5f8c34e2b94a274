"""Prove that the package works installed: wheel and source distribution, in an empty environment.

    python tests/installation/run.py

Builds a source distribution, a wheel from it, and a new virtual environment in a temporary folder, where
nothing of the clone is on the path. There a command that lacks its extra has to say so, and with the extra
`mmorient` draws memes, writes a recipe for them, trains, labels and publishes into a folder. What lies there
has to serve itself, in another empty environment. Everything is removed afterwards.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

from serving import check_serving
from setuptools import build_meta

ROOT = Path(__file__).resolve().parents[2]
# What commands read beside code, by its place in the wheel and in the source distribution.
DATA = {
    "mmorient/data/recipes/quickstart.yaml": "training/recipes/quickstart.yaml",
    "mmorient/data/recipes/own_table.yaml": "training/recipes/own_table.yaml",
    "mmorient/data/macro_f1/macro_f1.py": "training/macro_f1/macro_f1.py",
    "mmorient/report/template/index.html.j2": "mmorient/report/template/index.html.j2",
    "mmorient/explanation/template/meme.html.j2": "mmorient/explanation/template/meme.html.j2",
    "mmorient/demo/template/answers.html.j2": "mmorient/demo/template/answers.html.j2",
    "mmorient/demo/space/app.py.j2": "mmorient/demo/space/app.py.j2",
    "mmorient/demo/space/requirements.txt": "mmorient/demo/space/requirements.txt",
    "mmorient/publishing/template/model_card.md.j2": "mmorient/publishing/template/model_card.md.j2",
    "mmorient/serving/Dockerfile": "mmorient/serving/Dockerfile",
    "mmorient/serving/requirements.txt": "mmorient/serving/requirements.txt",
    "mmorient/py.typed": "mmorient/py.typed",
    "modeling_mmorient/modeling_mmorient.py": "modeling_mmorient/modeling_mmorient.py",
}


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it."""
    os.chdir(ROOT)
    with redirect_stdout(io.StringIO()):  # a line for each file
        source = folder / build_meta.build_sdist(str(folder))
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (wheel,) = folder.glob("*.whl")
    return source, wheel


def check_contents(source: Path, wheel: Path) -> None:
    """Refuse a distribution that lacks data, and a wheel that holds tests."""
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as packed:
        in_wheel = set(packed.namelist())
    missing = [path for path in DATA if path not in in_wheel]
    missing += [path for path in DATA.values() if path not in in_source]
    assert not missing, f"missing: {missing}"
    packages = {name.partition("/")[0] for name in in_wheel if ".dist-info/" not in name}
    assert packages == {"mmorient", "modeling_mmorient"}, packages
    print(f"{source.name}: {len(in_source)} entries; {wheel.name}: {len(in_wheel)}")


class Installation:
    """An empty environment, and a folder to work in.

    Args:
        folder: Where both are made.
    """

    def __init__(self, folder: Path) -> None:
        self.bin, self.work = folder / "venv" / "bin", folder / "work"
        self.work.mkdir()
        venv.create(folder / "venv", with_pip=True)

    def install(self, requirement: str) -> None:
        """Install what pip takes, at the versions that continuous integration tests."""
        options = ["--quiet", "--constraint", str(ROOT / "constraints.txt")]
        self._run("python", "-m", "pip", "install", *options, requirement)

    def command(self, *argv: str) -> str:
        """Run `mmorient`; what it prints."""
        print("$ mmorient", *argv)
        return self._run("mmorient", *argv).stdout

    def refused(self, *argv: str) -> str:
        """Run `mmorient`, which has to refuse; what it says."""
        done = self._run("mmorient", *argv, check=False)
        assert done.returncode == 1, done
        return done.stderr

    def _run(self, program: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.bin / program, *argv], cwd=self.work, env=kept, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise SystemExit(f"{program} {' '.join(argv)} failed:\n{done.stdout}\n{done.stderr}")
        return done


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, wheel = build(folder)
        check_contents(source, wheel)
        installation = Installation(folder)
        installation.install(str(wheel))
        said = installation.refused("train", "quickstart")
        assert "which is not installed: pip install 'mmorient[train]'" in said, said
        installation.install(f"{wheel}[train]")
        installation.command("samples", "memes", "--rows", "60")
        print(installation.command("init", "memes/train.csv", "--output", "mine.yaml"))
        print(installation.command("train", "mine.yaml", "--num_train_epochs", "1", "--output_dir", "run"))
        print(
            installation.command("label", "run", "--image", "memes/images/00001.png", "--text", "what a day")
        )
        assert "Nothing stops a run" in installation.command("inspect", "quickstart", "--data_dir", "memes")
        print("The wheel works where nothing else is.")
        installation.command("publish", "run", "--license", "apache-2.0", "--dry_run", "published")
        work = installation.work
        check_serving(work / "published", folder, work / "memes" / "images" / "00001.png")


if __name__ == "__main__":
    main()
