"""Makes transformers' test suites importable as the package `transformers_suites`.

The source distribution carries the common suites but not the helpers that some of them import.
Each missing helper is stubbed below, no larger than the suites need it.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = "transformers_suites"


class ExportTesterMixin:
    """Export to ONNX, ExecuTorch and the like: these tests are not in the source distribution."""


class GenerationTesterMixin:
    """Text generation: the suites only check that a model which cannot generate does not use it."""


def url_to_local_path(url: str) -> str:
    """The original maps a URL to a file that the project's own machines have fetched beforehand."""
    return url


STUBS: dict[str, dict[str, Any]] = {
    # Base class of `ModelTesterMixin`.
    f"{PACKAGE}.exporters.test_export": {"ExportTesterMixin": ExportTesterMixin},
    # Read by `test_generation_tester_mixin_inheritance` alone.
    f"{PACKAGE}.generation.test_utils": {"GenerationTesterMixin": GenerationTesterMixin},
    # Read for configurations without sub-configurations alone: a composite one returns before.
    f"{PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": {}},
    # Images, videos and sounds for chat templates, which need a network anyway.
    "fetch_hub_objects_for_ci": {"url_to_local_path": url_to_local_path},
}


def load_suites(folder: Path) -> None:
    """Registers `folder`, the `tests` of a source distribution, and the stubs for what it lacks.

    The name is another than `tests`, which is the name of this project's own folder.
    """
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "test_modeling_common.py").is_file():
        raise FileNotFoundError(
            f"{folder} holds no test suites of transformers: run tests/conformance/run.py."
        )
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    for name, contents in STUBS.items():
        parent = name.rpartition(".")[0]
        if parent and parent not in sys.modules:
            # A parent without a path: nothing but the stub can be imported from it.
            sys.modules[parent] = ModuleType(parent)
        module = ModuleType(name)
        vars(module).update(contents)
        sys.modules[name] = module
