"""transformers' own model tests, on both models and in each arrangement of encoders."""

import copy
import functools
import tempfile
import unittest
from typing import Any
from unittest import mock

import torch
from model_tester import (
    TASKS,
    ConvolutionModelTester,
    FeaturesOnlyModelTester,
    MMOrientModelTester,
    VisionRoleModelTester,
)
from parameterized import parameterized
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.testing_utils import torch_device
from transformers_suites import test_modeling_common, test_training_mixin

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientModel

# By these names the suite tells the base model, which has no loss, from those with a head.
modeling_auto.MODEL_MAPPING_NAMES[MMOrientConfig.model_type] = MMOrientModel.__name__


def with_tensor_outputs(model_class: type) -> type:
    """The same model, its output in the form that some tests need.

    They compare `logits` and the last of `hidden_states` as tensors: here the logits of all tasks side
    by side, and the fused representation.
    """

    @functools.wraps(model_class.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = model_class.forward(self, *args, **kwargs)
        if "logits" in output:
            output["logits"] = torch.cat(list(output.logits.values()), dim=-1)
        else:
            output["hidden_states"] = (output.pooler_output,)
        return output

    return type(model_class.__name__, (model_class,), {"forward": forward})


def with_references(model_class: type, inputs: dict[str, torch.Tensor]) -> type:
    """The same model, made with references."""

    def __init__(self: Any, config: MMOrientConfig) -> None:
        # Few neighbours, for else everyone's are all of them, whatever the search finds.
        config.image_neighbors, config.text_neighbors = 2, 3
        config.graph_scope, config.use_votes = "references", True
        model_class.__init__(self, config)
        rows = len(next(iter(inputs.values())))
        labels = {task: torch.arange(rows) % len(names) for task, names in TASKS.items()}
        self.add_references(inputs, [f"reference {row}" for row in range(rows)], labels)

    return type(model_class.__name__, (model_class,), {"__init__": __init__})


class MMOrientTesterMixin(test_modeling_common.ModelTesterMixin):
    """What every arrangement of encoders needs of the suite."""

    all_model_classes = (MMOrientModel, MMOrientForMultitaskClassification)
    model_tester_class: type[MMOrientModelTester] = MMOrientModelTester
    # Inputs beside the main one that the comparison of attention implementations passes on.
    additional_model_inputs = (
        "input_ids",
        "token_type_ids",
        "joint_input_ids",
        "joint_attention_mask",
    )
    _is_composite = True
    # Else the suite leaves out models whose configuration does not open with a copyright line of 2023
    # or later. Read by transformers 5.23; for older ones see `test_can_init_all_missing_weights`.
    test_can_init_all_missing_weights_before_2023 = True
    # transformers 5.17 does not except parameters that are frozen on purpose (CLIP's temperature):
    # `test_every_trainable_parameter_has_a_gradient` says the same and does.
    test_all_params_have_gradient = False

    def setUp(self) -> None:
        self.model_tester = self.model_tester_class(self)

    def _prepare_for_class(
        self, inputs_dict: dict[str, Any], model_class: type, return_labels: bool = False
    ) -> dict[str, Any]:
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=False)
        if return_labels and issubclass(model_class, MMOrientForMultitaskClassification):
            labels = self.model_tester.get_labels(self.model_tester.batch_size)
            inputs["labels"] = {task: values.to(torch_device) for task, values in labels.items()}
        return inputs

    def _run(self, model_class: type, config: MMOrientConfig, **options: Any) -> Any:
        model = model_class(copy.deepcopy(config)).to(torch_device).eval()
        return model(**self.model_tester.get_inputs(), **options)

    def test_can_init_all_missing_weights(self) -> None:
        recent = test_training_mixin.__file__  # Copyright 2023
        with mock.patch.object(test_modeling_common.inspect, "getfile", return_value=recent):
            super().test_can_init_all_missing_weights()

    def test_batching_equivalence_with_references(self) -> None:
        known = tuple(
            with_references(model_class, self.model_tester.get_inputs())
            for model_class in self.all_model_classes
        )
        with mock.patch.object(self, "all_model_classes", known):
            self.test_batching_equivalence()

    def test_determinism(self) -> None:
        with mock.patch.object(
            self, "all_model_classes", tuple(map(with_tensor_outputs, self.all_model_classes))
        ):
            super().test_determinism()

    @parameterized.expand(test_modeling_common.TEST_EAGER_MATCHES_SDPA_INFERENCE_PARAMETERIZATION)
    def test_eager_matches_sdpa_inference(self, *arguments: Any) -> None:
        with mock.patch.object(
            self, "all_model_classes", tuple(map(with_tensor_outputs, self.all_model_classes))
        ):
            test_modeling_common._test_eager_matches_sdpa_inference(self, *arguments)

    def test_sdpa_can_dispatch_composite_models(self) -> None:
        """As the suite's, which looks for other names of encoders."""
        for model_class in self.all_model_classes:
            with tempfile.TemporaryDirectory() as folder:
                model_class(self.model_tester.get_config()).save_pretrained(folder)
                default = model_class.from_pretrained(folder)
                eager = model_class.from_pretrained(folder, attn_implementation="eager")
            for module in default.modules():
                if isinstance(module, PreTrainedModel):
                    expected = "sdpa" if module._supports_sdpa else "eager"
                    self.assertEqual(module.config._attn_implementation, expected)
            for module in eager.modules():
                if isinstance(module, PreTrainedModel):
                    self.assertEqual(module.config._attn_implementation, "eager")

    def test_attention_outputs(self) -> None:
        """As the suite's, for HIMA's weights: on request by argument or configuration, shares of 1."""
        for model_class in self.all_model_classes:
            config = self.model_tester.get_config()
            by_argument = self._run(model_class, config, output_attentions=True)
            self.assertNotIn("region_attention", self._run(model_class, config))
            config.output_attentions = True
            by_config = self._run(model_class, config)
            for output in (by_argument, by_config):
                for name, length in self.model_tester.get_row_counts().items():
                    attention = output[f"{name}_attention"]
                    self.assertEqual(tuple(attention.shape), (self.model_tester.batch_size, length))
                    torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention.sum(-1)))

    def test_hidden_states_output(self) -> None:
        """As the suite's, for Q_img and Q_txt: on request by argument and by configuration."""
        for model_class in self.all_model_classes:
            config = self.model_tester.get_config()
            by_argument = self._run(model_class, config, output_hidden_states=True)
            self.assertNotIn("region_features", self._run(model_class, config))
            config.output_hidden_states = True
            by_config = self._run(model_class, config)
            for output in (by_argument, by_config):
                for name, length in self.model_tester.get_row_counts().items():
                    width = getattr(config, f"{name}_dim")
                    shape = (self.model_tester.batch_size, length, width)
                    self.assertEqual(tuple(output[f"{name}_features"].shape), shape)

    def test_retain_grad_hidden_states_attentions(self) -> None:
        """As the suite's: what is returned on request is what the answer was computed from."""
        model = MMOrientModel(self.model_tester.get_config()).to(torch_device)
        inputs = self.model_tester.get_inputs()
        for value in inputs.values():
            value.requires_grad_(value.is_floating_point())
        output = model(**inputs, output_hidden_states=True, output_attentions=True)
        names = ["region_features", "token_features", "region_attention", "token_attention"]
        for name in names:
            output[name].retain_grad()
        output.pooler_output.sum().backward()
        for name in names:
            self.assertIsNotNone(output[name].grad, name)

    def test_every_trainable_parameter_has_a_gradient(self) -> None:
        """Else distributed training stops at the parameters that are never used."""
        model = MMOrientForMultitaskClassification(self.model_tester.get_config()).to(torch_device).train()
        inputs = self._prepare_for_class(self.model_tester.get_inputs(), type(model), return_labels=True)
        model(**inputs).loss.backward()
        named = model.named_parameters()
        unused = [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]
        self.assertEqual(unused, [])

    def test_can_load_ignoring_mismatched_shapes(self) -> None:
        """As the suite's, which changes `num_labels`: here a task gets more classes, so a new head."""
        config = self.model_tester.get_config()
        model = MMOrientForMultitaskClassification(copy.deepcopy(config))
        tasks = {**TASKS, "humour": ["no", "rather", "yes"]}
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            loaded, info = MMOrientForMultitaskClassification.from_pretrained(
                folder, tasks=tasks, output_loading_info=True
            )
        before, after = dict(model.named_parameters()), dict(loaded.named_parameters())
        changed = {name for name in after if after[name].shape != before[name].shape}
        self.assertTrue(changed)
        head = f"heads.{list(tasks).index('humour')}."
        self.assertEqual(info["missing_keys"], {name for name in after if name.startswith(head)})
        self.assertLessEqual(changed, info["missing_keys"])
        for name in after.keys() - info["missing_keys"]:
            torch.testing.assert_close(after[name], before[name])

    @unittest.skip("MM-ORIENT's classes are named in `tasks`, not counted in `num_labels`")
    def test_load_with_mismatched_shapes(self) -> None: ...

    @unittest.skip("a task's kind (multiclass, multilabel, ordinal) is set in `tasks`, not in `problem_type`")
    def test_problem_types(self) -> None: ...


class MMOrientModelTest(MMOrientTesterMixin, unittest.TestCase):
    """A joint encoder and a text encoder: the package's default."""

    @unittest.skip(
        "CLIP's own `_init_weights` leaves out its temperature, and transformers skips this test for "
        "CLIP; this package's weights are the same in the other arrangements, which are tested"
    )
    def test_can_init_all_missing_weights(self) -> None: ...


class VisionRoleModelTest(MMOrientTesterMixin, unittest.TestCase):
    """A vision transformer and a text encoder."""

    model_tester_class = VisionRoleModelTester


class ConvolutionModelTest(MMOrientTesterMixin, unittest.TestCase):
    """A convolutional vision encoder, which has no attention, and another text encoder."""

    model_tester_class = ConvolutionModelTester


class FeaturesOnlyModelTest(MMOrientTesterMixin, unittest.TestCase):
    """No encoder: features are passed in."""

    model_tester_class = FeaturesOnlyModelTester
    has_attentions = False
    test_resize_embeddings = False

    @unittest.skip("without a text encoder there is no vocabulary")
    def test_model_get_set_embeddings(self) -> None: ...

    @unittest.skip("gradient checkpointing is the encoders', and there is none")
    def test_gradient_checkpointing_backward_compatibility(self) -> None: ...

    @unittest.skip("gradient checkpointing is the encoders', and there is none")
    def test_gradient_checkpointing_enable_disable(self) -> None: ...

    @unittest.skip("gradient checkpointing is the encoders', and there is none")
    def test_peft_gradient_checkpointing_enable_disable(self) -> None: ...

    def check_training_gradient_checkpointing(self, gradient_checkpointing_kwargs: Any = None) -> None:
        self.skipTest("gradient checkpointing is the encoders', and there is none")


if __name__ == "__main__":
    unittest.main()
