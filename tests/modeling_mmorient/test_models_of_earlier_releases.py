"""Models that earlier releases saved answer what they answered then.

`tests/saved_models/NAME/` is what `save_pretrained` of release 0.1.0 left, and `answers.safetensors` what the
model answered: `inputs/...`, `logits/TASK` and, where it had references, `neighbors/GRAPH`.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_mmorient import MMOrientForMultitaskClassification

FOLDER = Path(__file__).resolve().parents[1] / "saved_models"
NAMES = sorted(path.name for path in FOLDER.iterdir())


def _part(tensors, prefix):
    return {key.removeprefix(prefix): values for key, values in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_models_of_earlier_releases_answer_as_before(name):
    kept = load_file(FOLDER / name / "answers.safetensors")
    model, found = MMOrientForMultitaskClassification.from_pretrained(FOLDER / name, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    output = model(**_part(kept, "inputs/"), output_neighbors=True)
    expected = _part(kept, "logits/")
    assert set(output.logits) == set(expected)
    for task, logits in expected.items():
        torch.testing.assert_close(output.logits[task], logits, atol=1e-5, rtol=1e-5)
    for graph, places in _part(kept, "neighbors/").items():
        assert torch.equal(output.neighbors[graph].indices, places)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_models_of_earlier_releases_saved_again_answer_the_same(name, tmp_path):
    model = MMOrientForMultitaskClassification.from_pretrained(FOLDER / name)
    model.save_pretrained(tmp_path)
    again = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    kept = load_file(FOLDER / name / "answers.safetensors")
    for task, logits in again(**_part(kept, "inputs/")).logits.items():
        torch.testing.assert_close(logits, kept[f"logits/{task}"], atol=1e-5, rtol=1e-5)
