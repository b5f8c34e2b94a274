"""A small model in a folder with the files that serve it."""

import base64
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mmorient.serving.files import serving_files
from tests.mmorient.predicting import save_model

ROOT = Path(__file__).parents[3]


def image(seed: int) -> str:
    """A picture unlike that of any other seed, in base64."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((48, 40), Image.Resampling.NEAREST).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


IMAGE = image(0)


def publish(folder: Path) -> Path:
    """Save a model into a folder, with `handler.py` and `serving/`."""
    save_model(folder)
    for name, source in serving_files().items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, folder / name)
    return folder
