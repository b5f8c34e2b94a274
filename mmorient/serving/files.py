"""The files of this room that a published model carries."""

from pathlib import Path

FOLDER = Path(__file__).parent
PUBLISHED = "serving"
# The handler lies where endpoints look for it. Requirements do not lie at the root: a public endpoint would
# install them into its own environment, and break it.
AT_ROOT = ("handler.py",)
BELOW = ("__init__.py", "batching.py", "metrics.py", "server.py", "requirements.txt", "Dockerfile")


def serving_files() -> dict[str, Path]:
    """By path in a published repository, the file to copy there."""
    return {name: FOLDER / name for name in AT_ROOT} | {
        f"{PUBLISHED}/{name}": FOLDER / name for name in BELOW
    }
