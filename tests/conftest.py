"""Small random models and inputs for the tests, one of each way to assemble a model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import BertConfig, CLIPConfig, MobileNetV2Config

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification

# The tensors here are so small that threads only wait for each other.
torch.set_num_threads(1)

# Widths that all differ, so that a mix-up cannot go unnoticed.
FEATURE_WIDTHS = {"region_dim": 10, "token_dim": 9, "image_embed_dim": 7, "text_embed_dim": 6}
TASKS = {
    "sentiment": ["negative", "neutral", "positive"],
    "humour": {"labels": ["none", "some", "much", "extreme"], "kind": "ordinal"},
    "about": {"labels": ["politics", "animals"], "kind": "multilabel"},
}
VOCABULARY, TOKENS, REGIONS, IMAGE_SIZE = 50, 8, 5, 64


def _transformer() -> dict[str, int]:
    sizes = {"hidden_size": 16, "intermediate_size": 20, "max_position_embeddings": 16}
    return {**sizes, "num_hidden_layers": 2, "num_attention_heads": 2}


def _text_encoder() -> BertConfig:
    return BertConfig(**_transformer(), vocab_size=VOCABULARY)


def _roles(kind: str) -> dict[str, Any]:
    """Encoders of the model called `kind`: `joint`, `vision` or `features` (none)."""
    if kind == "joint":
        vocabulary = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": VOCABULARY - 1}
        joint = CLIPConfig(
            text_config={**_transformer(), **vocabulary},
            vision_config={
                **_transformer(),
                "image_size": IMAGE_SIZE,
                "patch_size": IMAGE_SIZE // 2,
            },
            projection_dim=12,
        )
        return {"joint_config": joint, "text_config": _text_encoder()}
    if kind == "vision":
        vision = MobileNetV2Config(
            image_size=IMAGE_SIZE, depth_multiplier=0.1, finegrained_output=False, min_depth=4
        )
        return {"joint_config": None, "vision_config": vision, "text_config": _text_encoder()}
    return {"joint_config": None, "text_config": None, **FEATURE_WIDTHS}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., MMOrientConfig]:
    """`make_config(kind, **options)`: a small configuration."""

    def make(kind: str = "features", **options: Any) -> MMOrientConfig:
        small: dict[str, Any] = {
            "tasks": TASKS,
            "hima_hidden_size": 8,
            "graph_hidden_size": 11,
            "learner_hidden_sizes": [24, 16],
            "learner_dropout": 0.0,
            "image_neighbors": 2,
            "text_neighbors": 2,
            # Most tests are about the rows at hand; those of the references say so.
            "graph_scope": "batch",
        }
        return MMOrientConfig(**{**_roles(kind), **small, **options})

    return make


@pytest.fixture(scope="session")
def make_model(
    make_config: Callable[..., MMOrientConfig],
) -> Callable[..., MMOrientForMultitaskClassification]:
    """`make_model(kind, **options)`: its model in evaluation mode, no parameter or buffer zero."""

    def make(kind: str = "features", seed: int = 0, **options: Any) -> MMOrientForMultitaskClassification:
        torch.manual_seed(seed)
        model = MMOrientForMultitaskClassification(make_config(kind, **options)).eval()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                # Weights are random as they are; biases, stand-ins and the running g start as zeros.
                if "feature_encoders" not in name and tensor.is_floating_point() and tensor.ndim < 2:
                    tensor.add_(0.3 * torch.randn_like(tensor))
            for module in model.modules():
                if isinstance(module, torch.nn.Conv2d):  # or a deep network's signal fades to nothing
                    torch.nn.init.kaiming_normal_(module.weight)
        return model

    return make


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., dict[str, torch.Tensor]]:
    """`make_inputs(kind, batch_size, seed)`: random inputs with padding, every row present."""

    def make(kind: str = "features", batch_size: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def lengths_to_mask(length: int) -> torch.Tensor:
            lengths = torch.randint(1, length + 1, (batch_size, 1), generator=generator)
            return torch.arange(length) < lengths

        def ids() -> torch.Tensor:
            return torch.randint(3, VOCABULARY, (batch_size, TOKENS), generator=generator)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(batch_size, *shape, generator=generator)

        if kind == "features":
            return {
                "image_embeds": normal(FEATURE_WIDTHS["image_embed_dim"]),
                "text_embeds": normal(FEATURE_WIDTHS["text_embed_dim"]),
                "region_features": normal(REGIONS, FEATURE_WIDTHS["region_dim"]),
                "region_mask": lengths_to_mask(REGIONS),
                "token_features": normal(TOKENS, FEATURE_WIDTHS["token_dim"]),
                "attention_mask": lengths_to_mask(TOKENS).long(),
            }
        inputs = {
            "pixel_values": normal(3, IMAGE_SIZE, IMAGE_SIZE),
            "input_ids": ids(),
            "attention_mask": lengths_to_mask(TOKENS).long(),
            "token_type_ids": ids() % 2,
        }
        if kind == "joint":
            inputs |= {
                "joint_input_ids": ids(),
                "joint_attention_mask": lengths_to_mask(TOKENS).long(),
            }
        return inputs

    return make


@pytest.fixture(scope="session")
def make_labels() -> Callable[..., dict[str, torch.Tensor]]:
    """`make_labels(batch_size, seed)`: random labels of the tasks, about a third of them unknown."""

    def make(batch_size: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def draw(classes: int, *shape: int) -> torch.Tensor:
            labels = torch.randint(0, classes, (batch_size, *shape), generator=generator)
            unknown = torch.rand(batch_size, *shape, generator=generator) < 1 / 3
            return labels.masked_fill(unknown, -100)

        return {"sentiment": draw(3), "humour": draw(4), "about": draw(2, 2)}

    return make
