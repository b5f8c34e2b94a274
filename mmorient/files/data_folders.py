"""Folders of data that stand beside the code in a clone, and within it once installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def data_folder(name: str) -> Path:
    """Folder of the shipped recipes (`recipes`) or of the metric (`macro_f1`).

    A clone has it in `training/`; an installed package as `mmorient/data/NAME`.
    """
    installed = _PACKAGE / "data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / "training" / name
