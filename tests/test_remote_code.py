"""A published model loads from a Hub in a process that cannot import the package."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import LocalHub, run_python
from transformers.dynamic_module_utils import get_imports, get_relative_imports

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "modeling_mmorient"
REPOSITORIES = ("tester/joint", "tester/vision")
# What a published repository may hold: no file that is unpickled, or run other than as source.
SUFFIXES = {".json", ".md", ".py", ".safetensors", ".txt"}
# torch and transformers, and what they require themselves.
REQUIRED_PACKAGES = {"filelock", "huggingface_hub", "numpy", "safetensors", "torch", "transformers"}

MODEL_MAP = {
    "AutoConfig": "configuration_mmorient.MMOrientConfig",
    "AutoModel": "modeling_mmorient.MMOrientForMultitaskClassification",
}
PROCESSOR_MAP = {"AutoProcessor": "processing_mmorient.MMOrientProcessor"}

# Both sides see the same two memes, and hand on bytes: equal means equal bit for bit.
ANSWER = """
import json, sys
import numpy as np, torch
from PIL import Image

def answer(model, processor):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in pixels]
    inputs = processor(images=pictures, text=["a cat", "a cat on a mat"], return_tensors="pt")
    with torch.no_grad():
        logits = model.eval()(**inputs).logits
    as_bytes = lambda tensors: {name: t.numpy().tobytes().hex() for name, t in tensors.items()}
    return {"inputs": as_bytes(inputs), "logits": as_bytes(logits)}
"""

PUBLISH = """
from huggingface_hub import upload_file
from transformers import BertConfig, BertTokenizer, CLIPConfig, CLIPImageProcessor, CLIPTokenizer
from transformers import MobileNetV2Config
from modeling_mmorient import (
    MMOrientConfig, MMOrientForMultitaskClassification, MMOrientProcessor
)

def build(torch_seed, **encoders):
    torch.manual_seed(torch_seed)
    tasks = {"sentiment": ["negative", "neutral", "positive"], "humour": ["no", "yes"]}
    sizes = dict(hima_hidden_size=8, graph_hidden_size=8, learner_hidden_sizes=[16])
    config = MMOrientConfig(text_config=bert, tasks=tasks, **sizes, **encoders)
    model = MMOrientForMultitaskClassification(config)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):  # or a deep network's signal fades to nothing
            torch.nn.init.kaiming_normal_(module.weight)
    return model

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "on", "mat"]
letters = [letter + end for letter in "acmnot" for end in ("", "</w>")]
joint_words = [*letters, "<|startoftext|>", "<|endoftext|>"]
tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
joint_tokenizer = CLIPTokenizer(
    vocab={word: index for index, word in enumerate(joint_words)}, merges=[], model_max_length=16
)
square = {"height": 32, "width": 32}
image_processor = CLIPImageProcessor(size=square, crop_size=square)

layers = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
bert = BertConfig(vocab_size=len(words), max_position_embeddings=32, **layers)
ends = dict(bos_token_id=len(letters), eos_token_id=len(letters) + 1, pad_token_id=len(letters) + 1)
clip = CLIPConfig(
    text_config=dict(vocab_size=len(joint_words), max_position_embeddings=16, **ends, **layers),
    vision_config=dict(image_size=32, patch_size=16, **layers),
    projection_dim=8,
)
mobilenet = MobileNetV2Config(image_size=32, depth_multiplier=0.25)

roles = {
    "tester/joint": (dict(joint_config=clip), joint_tokenizer),
    "tester/vision": (dict(joint_config=None, vision_config=mobilenet), None),
}
published = {}
for repo_id, (encoders, second_tokenizer) in roles.items():
    model = build(0, **encoders)
    processor = MMOrientProcessor(
        image_processor=image_processor, joint_tokenizer=second_tokenizer, tokenizer=tokenizer
    )
    answer(model.train(), processor)
    # Its neighbours, whose votes count, are references that have to travel with it.
    pixels = np.random.default_rng(1).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
    known = processor(images=list(pixels), text=["cat", "mat", "on a mat"], return_tensors="pt")
    before = answer(model, processor)
    model.add_references(known, ["a", "b", "c"], {"humour": torch.tensor([0, 1, 1])})
    expected = answer(model, processor)
    assert expected["logits"] != before["logits"]
    model.push_to_hub(repo_id)
    revision = processor.push_to_hub(repo_id).oid
    # main moves on, to other weights and to code that cannot be run.
    build(1, **encoders).push_to_hub(repo_id)
    upload_file(
        path_or_fileobj=b"raise RuntimeError('not the pinned code')",
        path_in_repo="configuration_mmorient.py",
        repo_id=repo_id,
    )
    published[repo_id] = {"revision": revision, **expected}
print(json.dumps(published))
"""

LOAD = """
sys.modules["modeling_mmorient"] = None  # not to be had, even where the package is installed
try:
    import modeling_mmorient
except ImportError:
    pass
else:
    raise AssertionError("the package can be imported")
from transformers import AutoModel, AutoProcessor

loaded = {}
for repo_id, revision in json.loads(sys.argv[1]).items():
    options = dict(revision=revision, trust_remote_code=True)
    model = AutoModel.from_pretrained(repo_id, **options)
    processor = AutoProcessor.from_pretrained(repo_id, **options)
    names = [f"{type(part).__module__}.{type(part).__name__}" for part in (model, processor)]
    loaded[repo_id] = {"revision": revision, "classes": names, **answer(model, processor)}
files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
print(json.dumps([loaded, files]))
"""

REFUSE = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoProcessor

outcomes = []
for repo_id, revision in json.loads(sys.argv[1]).items():
    for loader in (AutoConfig, AutoModel, AutoProcessor):
        for options in ({}, {"trust_remote_code": False}):
            try:
                outcome = repr(loader.from_pretrained(repo_id, revision=revision, **options))
            except ValueError as error:
                outcome = f"ValueError: {error}"
            outcomes.append([repo_id, loader.__name__, options, outcome])
print()  # after the prompt of the loader, which ends no line
print(json.dumps(outcomes))
"""


@dataclass
class Publication:
    """Two repositories, what the publisher computed, and what others made of them."""

    hub: LocalHub
    published: dict[str, dict[str, Any]]
    loaded: dict[str, dict[str, Any]]
    loaded_offline: dict[str, dict[str, Any]]
    module_files: list[str]
    refusals: list[Any]
    requests_of_refusals: list[str]
    requests_when_closed: int

    def files(self, repo_id: str) -> dict[str, bytes]:
        return self.hub.files(repo_id, self.published[repo_id]["revision"])


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    homes = {name: tmp_path_factory.mktemp(name) for name in ("publisher", "reader", "skeptic")}
    with LocalHub() as hub:
        publisher_env = {**hub.environment(homes["publisher"]), "PYTHONPATH": str(ROOT)}
        published = run_python(ANSWER + PUBLISH, env=publisher_env)
        revisions = json.dumps({repo_id: side["revision"] for repo_id, side in published.items()})
        reader_env = hub.environment(homes["reader"])
        loaded, module_files = run_python(ANSWER + LOAD, revisions, env=reader_env)
        before = len(hub.requests)
        refusals = run_python(REFUSE, revisions, env=hub.environment(homes["skeptic"]))
    closed = len(hub.requests)
    offline_env = {**reader_env, "HF_HUB_OFFLINE": "1"}
    offline, more_files = run_python(ANSWER + LOAD, revisions, env=offline_env)
    return Publication(
        hub=hub,
        published=published,
        loaded=loaded,
        loaded_offline=offline,
        module_files=module_files + more_files,
        refusals=refusals,
        requests_of_refusals=hub.requests[before:closed],
        requests_when_closed=closed,
    )


@pytest.mark.parametrize("repo_id", REPOSITORIES)
@pytest.mark.parametrize("tensors", ["inputs", "logits"])
def test_another_process_computes_the_same_bits(publication: Publication, repo_id: str, tensors: str) -> None:
    expected = publication.published[repo_id][tensors]
    assert expected and all(expected.values())
    assert publication.loaded_offline[repo_id][tensors] == publication.loaded[repo_id][tensors]
    if (repo_id, tensors) != ("tester/vision", "logits"):
        assert publication.loaded[repo_id][tensors] == expected
        return
    # The last bits of a convolution depend on where in memory its weights begin, and those of a file
    # begin elsewhere.
    for task, values in expected.items():
        given = np.frombuffer(bytes.fromhex(publication.loaded[repo_id][tensors][task]), np.float32)
        np.testing.assert_allclose(given, np.frombuffer(bytes.fromhex(values), np.float32), atol=1e-4)


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_the_code_that_ran_is_the_pinned_revision_of_the_repository(
    publication: Publication, repo_id: str
) -> None:
    revision = publication.published[repo_id]["revision"]
    package = f"transformers_modules.{repo_id.replace('/', '.')}.{revision}"
    assert publication.loaded[repo_id]["classes"] == [
        f"{package}.modeling_mmorient.MMOrientForMultitaskClassification",
        f"{package}.processing_mmorient.MMOrientProcessor",
    ]
    assert not [file for file in publication.module_files if Path(file).is_relative_to(PACKAGE)]


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_main_has_moved_on(publication: Publication, repo_id: str) -> None:
    pinned, main = publication.files(repo_id), publication.hub.files(repo_id)
    changed = {name for name in main if main[name] != pinned.get(name)}
    old, new = (json.loads(files["references.json"])["tensors"]["file"] for files in (pinned, main))
    # The configuration names the references that belong to it.
    files = {"configuration_mmorient.py", "config.json", "model.safetensors", "references.json", new}
    assert changed == files
    assert old in pinned and old not in main


def test_offline_nothing_is_requested(publication: Publication) -> None:
    assert len(publication.hub.requests) == publication.requests_when_closed


def test_nothing_is_requested_but_the_repositories(publication: Publication) -> None:
    services = ("/api/repos/create", "/api/validate-yaml", "/lfs/")
    for request in publication.hub.requests:
        path = request.split(" ", 1)[1]
        known = any(f"/{repo_id}" in path for repo_id in REPOSITORIES) or path.startswith(services)
        assert path.startswith("/") and known, request


def test_without_trust_loading_refuses(publication: Publication) -> None:
    assert len(publication.refusals) == 2 * 3 * 2
    for refusal in publication.refusals:
        assert re.match(r"ValueError: [^\0]*trust_remote_code=True", refusal[-1]), refusal
    assert publication.requests_of_refusals
    assert not [r for r in publication.requests_of_refusals if r.endswith((".py", ".safetensors"))]


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_weights_are_published_as_safetensors_alone(publication: Publication, repo_id: str) -> None:
    names = publication.files(repo_id)
    assert {Path(name).suffix for name in names} <= SUFFIXES
    weights = sorted(name for name in names if Path(name).suffix == ".safetensors")
    assert weights == ["model.safetensors", json.loads(names["references.json"])["tensors"]["file"]]


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_auto_classes_lead_to_published_code(publication: Publication, repo_id: str) -> None:
    files = publication.files(repo_id)
    assert json.loads(files["config.json"])["auto_map"] == MODEL_MAP
    assert json.loads(files["processor_config.json"])["auto_map"] == PROCESSOR_MAP
    for reference in {**MODEL_MAP, **PROCESSOR_MAP}.values():
        module, class_name = reference.split(".")
        definitions = ast.parse(files[f"{module}.py"]).body
        assert class_name in [node.name for node in definitions if isinstance(node, ast.ClassDef)]


def nested_keys(value: Any) -> Iterator[str]:
    """The keys of all mappings below the topmost one."""
    children = value.values() if isinstance(value, dict) else value
    for child in children:
        if isinstance(child, dict):
            yield from child
        if isinstance(child, dict | list):
            yield from nested_keys(child)


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_no_settings_grant_trust_or_name_code_for_a_part(publication: Publication, repo_id: str) -> None:
    settings = {
        name: json.loads(content)
        for name, content in publication.files(repo_id).items()
        if name.endswith("config.json")
    }
    assert {"config.json", "processor_config.json"} <= settings.keys()
    for name, values in settings.items():
        assert "trust_remote_code" not in {*values, *nested_keys(values)}, name
        assert not {"auto_map", "custom_pipelines"} & set(nested_keys(values)), name
        # transformers notes in a tokenizer's settings the processor that the tokenizer belongs to.
        expected = MODEL_MAP if name == "config.json" else PROCESSOR_MAP
        assert values.get("auto_map", expected) == expected, name


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_published_modules_import_only_what_is_published(publication: Publication, repo_id: str) -> None:
    files = publication.files(repo_id)
    modules = {name: source.decode() for name, source in files.items() if name.endswith(".py")}
    for name, source in modules.items():
        assert "/" not in name and not name.startswith("_")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and f"{node.module}.py" in modules, ast.unparse(node)


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_the_loader_finds_every_module_and_asks_for_no_further_package(
    publication: Publication, repo_id: str, tmp_path: Path
) -> None:
    files = publication.files(repo_id)
    modules = {name: source for name, source in files.items() if name.endswith(".py")}
    for name, source in modules.items():
        copy = tmp_path / name
        copy.write_bytes(source)
        # The loader finds relative imports by a pattern, in text of any kind.
        assert {f"{module}.py" for module in get_relative_imports(copy)} <= modules.keys(), name
        required = set(get_imports(copy)) - sys.stdlib_module_names
        assert required <= REQUIRED_PACKAGES, name


@pytest.mark.parametrize("repo_id", REPOSITORIES)
def test_the_published_modules_are_the_package(publication: Publication, repo_id: str) -> None:
    files = publication.files(repo_id)
    modules = {name for name in files if name.endswith(".py")}
    assert {"configuration_mmorient.py", "modeling_mmorient.py"} <= modules
    for name in modules:
        assert files[name] == (PACKAGE / name).read_bytes(), name
