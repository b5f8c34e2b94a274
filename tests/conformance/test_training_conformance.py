"""transformers' own training test: a small model learns a fixed batch by heart."""

import unittest

import torch
from model_tester import MMOrientModelTester
from transformers_suites.test_training_mixin import TrainingTesterMixin

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification


class TrainingModelTester(MMOrientModelTester):
    def get_config(self) -> MMOrientConfig:
        config = super().get_config()
        # The suite reads the size of the vocabulary here, to make up texts of its own.
        config.vocab_size = self.vocab_size
        return config


class MMOrientTrainingTest(TrainingTesterMixin, unittest.TestCase):
    model_tester = None
    all_model_classes = (MMOrientForMultitaskClassification,)
    training_overfit_seq_length = MMOrientModelTester.seq_length

    def setUp(self) -> None:
        self.model_tester = TrainingModelTester(self)

    def _create_text_training_batch(
        self, batch_size: int, seq_length: int, vocab_size: int
    ) -> dict[str, torch.Tensor | dict[str, torch.Tensor]]:
        inputs = {name: value[:batch_size].cpu() for name, value in self.model_tester.get_inputs().items()}
        return {**inputs, "labels": self.model_tester.get_labels(batch_size)}


if __name__ == "__main__":
    unittest.main()
