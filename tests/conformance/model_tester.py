"""Small random models and their inputs, as transformers' suites ask for them."""

import unittest
from typing import Any

import torch
from transformers import BertConfig, CLIPConfig, DistilBertConfig, MobileNetV2Config, ViTConfig
from transformers_suites.test_modeling_common import (
    floats_tensor,
    ids_tensor,
    random_attention_mask,
)

from modeling_mmorient import MMOrientConfig

TASKS = {"sentiment": ["negative", "neutral", "positive"], "humour": ["no", "yes"]}


class MMOrientModelTester:
    """A joint encoder (CLIP) and a text encoder (BERT): the package's default roles."""

    is_training = True
    # The comparison of attention implementations runs on seven rows and would make up missing ones.
    batch_size = 7
    seq_length = 8
    image_size = 16
    patch_size = 8
    num_channels = 3
    vocab_size = 99
    hidden_size = 16
    num_hidden_layers = 2
    num_attention_heads = 2

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> MMOrientConfig:
        return MMOrientConfig(**self.get_roles(), **self.get_head())

    def get_roles(self) -> dict[str, Any]:
        text = {
            "vocab_size": self.vocab_size,
            "bos_token_id": 0,
            "eos_token_id": self.vocab_size - 1,
        }
        joint = CLIPConfig(
            text_config={**self._transformer(), **text},
            vision_config={**self._transformer(), **self._picture()},
            projection_dim=12,
        )
        return {"joint_config": joint, "text_config": self._bert(), "vision_config": None}

    def get_head(self) -> dict[str, Any]:
        return {
            "tasks": TASKS,
            "hima_hidden_size": 8,
            "graph_hidden_size": 12,
            "learner_hidden_sizes": [24, 16],
            # Attention can be compared, and gradients counted, only where encoders have them.
            "freeze_encoders": False,
        }

    def prepare_config_and_inputs_for_common(
        self,
    ) -> tuple[MMOrientConfig, dict[str, torch.Tensor]]:
        return self.get_config(), self.get_inputs()

    def get_inputs(self) -> dict[str, torch.Tensor]:
        return {**self._pixels(), **self._text(), **self._joint_text()}

    def get_row_counts(self) -> dict[str, int]:
        """How many regions and tokens a row has."""
        return {"region": (self.image_size // self.patch_size) ** 2, "token": self.seq_length}

    def get_labels(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Labels of every task that differ from row to row."""
        rows = torch.arange(batch_size)
        return {task: rows % len(names) for task, names in TASKS.items()}

    def _transformer(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "intermediate_size": 20,
            "max_position_embeddings": 16,
        }

    def _picture(self) -> dict[str, int]:
        sizes = {"image_size": self.image_size, "patch_size": self.patch_size}
        return {**sizes, "num_channels": self.num_channels}

    def _bert(self) -> BertConfig:
        return BertConfig(**self._transformer(), vocab_size=self.vocab_size, type_vocab_size=2)

    def _vit(self) -> ViTConfig:
        return ViTConfig(**self._transformer(), **self._picture())

    def _pixels(self) -> dict[str, torch.Tensor]:
        shape = [self.batch_size, self.num_channels, self.image_size, self.image_size]
        return {"pixel_values": floats_tensor(shape)}

    def _text(self) -> dict[str, torch.Tensor]:
        shape = [self.batch_size, self.seq_length]
        return {
            "input_ids": ids_tensor(shape, self.vocab_size),
            "attention_mask": random_attention_mask(shape),
            "token_type_ids": ids_tensor(shape, 2),
        }

    def _joint_text(self) -> dict[str, torch.Tensor]:
        shape = [self.batch_size, self.seq_length]
        return {
            "joint_input_ids": ids_tensor(shape, self.vocab_size),
            "joint_attention_mask": random_attention_mask(shape),
        }


class VisionRoleModelTester(MMOrientModelTester):
    """A vision encoder (ViT) and a text encoder (BERT) in place of the joint encoder."""

    def get_roles(self) -> dict[str, Any]:
        return {"joint_config": None, "text_config": self._bert(), "vision_config": self._vit()}

    def get_inputs(self) -> dict[str, torch.Tensor]:
        return {**self._pixels(), **self._text()}


class ConvolutionModelTester(VisionRoleModelTester):
    """MobileNetV2, which has no attention, and DistilBERT, which has no token types."""

    image_size = 32

    def get_roles(self) -> dict[str, Any]:
        vision = MobileNetV2Config(
            image_size=self.image_size,
            depth_multiplier=0.25,
            finegrained_output=False,
            output_stride=32,
        )
        text = DistilBertConfig(
            vocab_size=self.vocab_size,
            dim=self.hidden_size,
            n_layers=self.num_hidden_layers,
            n_heads=self.num_attention_heads,
            hidden_dim=20,
            max_position_embeddings=16,
        )
        return {"joint_config": None, "text_config": text, "vision_config": vision}

    def get_row_counts(self) -> dict[str, int]:
        return {"region": 1, "token": self.seq_length}


class FeaturesOnlyModelTester(MMOrientModelTester):
    """No encoder at all: the caller passes the features."""

    region_dim, token_dim, embed_dim, num_regions = 10, 9, 12, 5

    def get_roles(self) -> dict[str, Any]:
        roles = dict.fromkeys(("joint_config", "text_config", "vision_config"))
        embeds = {"image_embed_dim": self.embed_dim, "text_embed_dim": self.embed_dim}
        return {**roles, **embeds, "region_dim": self.region_dim, "token_dim": self.token_dim}

    def get_inputs(self) -> dict[str, torch.Tensor]:
        batch = self.batch_size
        return {
            "region_features": floats_tensor([batch, self.num_regions, self.region_dim]),
            "region_mask": random_attention_mask([batch, self.num_regions]).bool(),
            "token_features": floats_tensor([batch, self.seq_length, self.token_dim]),
            "attention_mask": random_attention_mask([batch, self.seq_length]),
            "image_embeds": floats_tensor([batch, self.embed_dim]),
            "text_embeds": floats_tensor([batch, self.embed_dim]),
        }

    def get_row_counts(self) -> dict[str, int]:
        return {"region": self.num_regions, "token": self.seq_length}
