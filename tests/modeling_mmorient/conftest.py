"""A processor with all its parts, and models with references."""

import pytest
import torch

from modeling_mmorient import MMOrientProcessor
from tests.modeling_mmorient.known_models import IDS
from tests.modeling_mmorient.processor_parts import make_parts


@pytest.fixture
def processor() -> MMOrientProcessor:
    return MMOrientProcessor(**make_parts())


@pytest.fixture
def make_known(make_model, make_inputs, make_labels):
    """`make_known(kind, **options)`: a model with twelve references, of which one lacks its picture."""

    def make(kind="features", **options):
        model = make_model(kind, graph_scope="references", **options)
        inputs = {**make_inputs(kind, 12, seed=7), "image_present": torch.arange(12) != 3}
        labels = {task: v for task, v in make_labels(12, seed=7).items() if task in model.config.tasks}
        model.add_references(inputs, IDS, labels)
        return model

    return make
