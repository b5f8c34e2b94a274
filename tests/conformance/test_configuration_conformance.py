"""transformers' own configuration tests."""

import unittest

from model_tester import TASKS, FeaturesOnlyModelTester, MMOrientModelTester, VisionRoleModelTester
from parameterized import parameterized
from transformers_suites.test_configuration_common import ConfigTester

from modeling_mmorient import MMOrientConfig


class MMOrientConfigTest(unittest.TestCase):
    @parameterized.expand([(MMOrientModelTester,), (VisionRoleModelTester,), (FeaturesOnlyModelTester,)])
    def test_config(self, model_tester_class: type[MMOrientModelTester]) -> None:
        self.model_tester = model_tester_class(self)
        tester = ConfigTester(
            self,
            config_class=MMOrientConfig,
            has_text_modality=False,
            common_properties=["joint_config", "text_config", "vision_config", "tasks"],
            hima_hidden_size=24,
            graph_hidden_size=20,
            learner_hidden_sizes=[12],
        )
        tester.run_common_tests()

    def test_tasks_survive(self) -> None:
        """Order, names and classes come back from the file, JSON's alphabetical order notwithstanding."""
        config = MMOrientConfig.from_dict(MMOrientConfig(tasks=TASKS).to_dict())
        self.assertEqual({name: list(spec.labels) for name, spec in config.task_specs.items()}, TASKS)
        self.assertEqual(list(config.task_specs), list(TASKS))


if __name__ == "__main__":
    unittest.main()
