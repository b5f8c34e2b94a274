"""What a publication put into a repository, so that the next one replaces that and nothing else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

MANIFEST = "published.json"
FORMAT = 1


@dataclass(frozen=True)
class Published:
    """A file as it was published.

    Args:
        sha256: Of its content, as the Hub knows large files.
        blob: Git's hash of it, as the Hub knows all others.
    """

    sha256: str
    blob: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        """That of a content."""
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return cls(hashlib.sha256(content).hexdigest(), blob)


def write_manifest(folder: Path, version: str) -> None:
    """Write the manifest of all files in a folder beside them.

    Args:
        folder: The repository's files.
        version: Of the package.
    """
    files = {name: vars(Published.of((folder / name).read_bytes())) for name in repository_files(folder)}
    manifest = {"format_version": FORMAT, "package_version": version, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def repository_files(folder: Path) -> list[str]:
    """The paths of a folder's files but for the manifest, with slashes, in their order."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != MANIFEST)


def read_manifest(path: Path, where: str) -> dict[str, Published]:
    """What a manifest lists, by path.

    Args:
        path: Of the manifest.
        where: The repository, for the message.

    Raises:
        ValueError: If it is not what a publication writes.
    """
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format_version"] != FORMAT or not isinstance(saved["files"], Mapping):
            raise ValueError(f"its format is {saved['format_version']!r}")
        return {
            str(name): Published(str(file["sha256"]), str(file["blob"]))
            for name, file in saved["files"].items()
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{MANIFEST} in {where} is not what a publication writes ({error!r}): remove it there, and "
            "publish with --replace."
        ) from None
