"""Files of a run that are not for others: what uploads of its folder leave out."""

from pathlib import Path

from mmorient.files.whole_files import write_text

IGNORED = ".gitignore"


def keep_at_home(folder: Path, name: str) -> None:
    """Add a file to its folder's `.gitignore`, which Git and uploads to the Hub follow; other lines stay."""
    path = folder / IGNORED
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if f"/{name}" not in lines:
        write_text(path, "\n".join([*lines, f"/{name}"]) + "\n")
