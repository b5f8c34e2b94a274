"""One released version of transformers, with its test suites, beside the installed packages."""

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

# Reinstalling these would take minutes and test another torch than the user's.
NEVER_INSTALLED = ("torch",)
# A requirement's own requirements are followed this deep before something is taken to be wrong.
MAX_ROUNDS = 10


@dataclass(frozen=True)
class Environment:
    """Where one version lies.

    Args:
        version: The version of transformers.
        suites: Folder of its test suites (`tests` in the source distribution).
        site: Folder that goes first on `PYTHONPATH`; empty where the installed packages serve.
    """

    version: str
    suites: Path
    site: Path


def prepare(version: str, cache: Path) -> Environment:
    """Downloads, unpacks and installs what is not in the cache yet.

    Args:
        version: A released version of transformers, for example `5.17.0`.
        cache: Folder that keeps everything between runs, one subfolder per version.

    Raises:
        ValueError: If `version` does not look like one.
        subprocess.CalledProcessError: If pip fails; its message is on the standard error.
    """
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        raise ValueError(f"the version of transformers is {version!r}: give a release such as 5.17.0.")
    folder = cache / version
    suites = folder / f"transformers-{version}" / "tests"
    if not suites.is_dir():
        _unpack_suites(_download(version, folder), folder)
    # The suites read their own folder as a package, but the source distribution has no `__init__.py`.
    (suites / "__init__.py").touch()
    site = folder / "site"
    site.mkdir(exist_ok=True)
    _complete_site(version, site)
    return Environment(version, suites, site)


def _download(version: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder))
    _pip("download", *options, f"transformers=={version}")
    return folder / f"transformers-{version}.tar.gz"


def _unpack_suites(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        prefix = archive.name.removesuffix(".tar.gz") + "/tests/"
        members = [member for member in tar.getmembers() if member.name.startswith(prefix)]
        tar.extractall(folder, members, filter="data")


def _complete_site(version: str, site: Path) -> None:
    """Installs transformers and then, level by level, only what the environment lacks for it."""
    missing = {f"transformers=={version}"} if _find("transformers", site) != version else set()
    for _ in range(MAX_ROUNDS):
        if missing:
            _pip("install", "--target", str(site), "--no-deps", "--upgrade", *sorted(missing))
        missing = {str(requirement) for requirement in _unsatisfied(site)}
        if not missing:
            return
    raise RuntimeError(f"transformers {version} still lacks {sorted(missing)} after {MAX_ROUNDS} rounds.")


def _find(name: str, site: Path) -> str | None:
    """The version that a process with `site` first on its path would import."""
    for found in distributions(name=name, path=[str(site)]):
        return found.version
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _unsatisfied(site: Path) -> Iterator[Requirement]:
    for installed in (distribution("transformers"), *distributions(path=[str(site)])):
        if installed.version != _find(installed.name, site):
            continue  # shadowed by the one in `site`
        for requirement in _requirements(installed):
            if requirement.name in NEVER_INSTALLED:
                continue
            found = _find(requirement.name, site)
            if found is None or not requirement.specifier.contains(found, prereleases=True):
                yield requirement


def _requirements(installed: Distribution) -> Iterator[Requirement]:
    for text in installed.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield Requirement(f"{requirement.name}{requirement.specifier}")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)
