"""The arguments of an export: light to import, so that they are checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ExportJob:
    """A saved model to write as an ONNX graph.

    Args:
        model: Folder or Hub id of a model with its processor.
        output: Folder to write, new or empty.
        int8: Also write a graph whose matrix products are of 8-bit integers, a quarter of the size.
    """

    model: str
    output: Path
    int8: bool = False
