"""Attacks on the configuration: every field of a wrong type or value, and encoders' configurations with it.

What is accepted must survive being written and read, and give a model of small size that answers.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from harness import Case, amount, check

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification

Model = MMOrientForMultitaskClassification
Attack = Callable[[Iterable[Case]], None]
Options = dict[str, Any]
ENCODERS = ("joint_config", "text_config", "vision_config")
FIELDS = tuple(name for name in MMOrientConfig.__annotations__ if name not in ("model_type", "sub_configs"))
FIELDS = tuple(name for name in FIELDS if not name.startswith("keys_to_ignore"))


def deep(levels: int) -> Any:
    """A list in a list, so many times."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def deep_dict(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"labels": value}
    return value


#: What may stand in any field, by name; made anew each time.
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "10**12": lambda: 10**12,
    "2**63": lambda: 2**63,
    "10**400": lambda: 10**400,
    "0.5": lambda: 0.5,
    "8.0": lambda: 8.0,
    "-0.0": lambda: -0.0,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: -float("inf"),
    "1j": lambda: 1j,
    "an empty text": lambda: "",
    "a number as text": lambda: "8",
    "True as text": lambda: "true",
    "a long text": lambda: "x" * 100_000,
    "a text with NUL": lambda: "context\x00",
    "half a surrogate pair": lambda: "\ud800",
    "bytes": lambda: b"8",
    "an empty list": lambda: [],
    "a list": lambda: [8],
    "a list of None": lambda: [None],
    "a list of text": lambda: ["8"],
    "a tuple of wrong numbers": lambda: (8, -1),
    "a list of a million": lambda: [8] * 1_000_000,
    "a deep list": lambda: deep(5_000),
    "an empty dict": lambda: {},
    "a dict": lambda: {"value": 8},
    "a dict with a number as key": lambda: {8: ["a", "b"]},
    "a deep dict": lambda: deep_dict(5_000),
    "a set": lambda: {8},
    "an object": object,
    "a class": lambda: dict,
    "a tensor": lambda: torch.ones(2),
    "a tensor of one number": lambda: torch.tensor(8),
    "code to load": lambda: {"model_type": "bert", "auto_map": {"AutoModel": "evil.Evil"}},
}


def small_options() -> Options:
    encoder = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "joint_config": None,
        "text_config": {"model_type": "bert", "vocab_size": 20, "max_position_embeddings": 16, **encoder},
        "vision_config": {"model_type": "vit", "image_size": 16, "patch_size": 8, **encoder},
        "tasks": {"humour": ["no", "yes"], "about": {"labels": ["a", "b"], "kind": "multilabel"}},
        "hima_hidden_size": 4,
        "graph_hidden_size": 4,
        "learner_hidden_sizes": [4],
    }


def configure(options: Options) -> None:
    """Makes a configuration, writes and reads it, and builds and asks its model."""
    config = MMOrientConfig(**options)
    text = json.dumps(json.loads(config.to_json_string()), allow_nan=False)
    read = MMOrientConfig.from_dict(json.loads(text))
    check(read.to_json_string() == config.to_json_string(), "another configuration when it is read")
    model = Model(config).eval()
    inputs: dict[str, torch.Tensor] = {}
    if config.text_config is not None:
        inputs["input_ids"] = torch.ones(2, 3, dtype=torch.long)
        inputs["attention_mask"] = torch.ones(2, 3, dtype=torch.long)
    if config.vision_config is not None:
        size = config.vision_config.image_size
        sizes = (size, size) if isinstance(size, int) else tuple(size)
        inputs["pixel_values"] = torch.zeros(2, config.vision_config.num_channels, *sizes)
    if not inputs:
        return
    if config.task_feature_dim:
        inputs["task_features"] = torch.zeros(2, config.task_feature_dim)
    with torch.no_grad():
        logits = model(**inputs, return_dict=True).logits
    for name, spec in config.task_specs.items():
        check(logits[name].shape == (2, spec.num_labels), f"logits of shape {logits[name].shape}")
        check(bool(logits[name].isfinite().all()), f"logits {logits[name]}")


def of_fields() -> Iterator[Case]:
    for field in FIELDS:
        for what, make in VALUES.items():
            # None and "default" of an encoder ask for the library's own default, which is not small.
            if field == "text_config" and what == "None":
                continue

            def attempt(field: str = field, make: Callable[[], Any] = make) -> None:
                configure(small_options() | {field: make()})

            yield Case("configuration", f"{field} is {what}", 0, things_of(field), attempt)


def things_of(field: str) -> tuple[str, ...]:
    """What a refusal of the field may name: it may not go together with another one."""
    together = {
        "use_hima_stage1": ("use_hima_stage2",),
        "use_in_modal": ("branch",),
        "freeze_encoders": ("graph_scope",),
        "tasks": ("task ",),
        "joint_config": ("vision_config",),
        "text_config": ("token_dim",),
    }
    return (field, *together.get(field, ()))


#: Fields of encoders' configurations, with values that no encoder can have.
ENCODER_VALUES: dict[str, list[Any]] = {
    "hidden_size": [-1, 0, 7, 10**12, "8", None, float("nan"), [8], 2.5],
    "num_hidden_layers": [-1, 100_000, 10**12, "1", None, float("inf"), [1]],
    "num_attention_heads": [0, -2, 3, 10**9, "2", None],
    "intermediate_size": [-1, 0, 10**12, None, "8"],
    "hidden_act": ["nothing", "__import__('os')", 3, None, ["gelu"], {"gelu": 1}],
    "vocab_size": [-1, 0, 10**12, None, "20"],
    "max_position_embeddings": [-1, 0, 10**12, None],
    "type_vocab_size": [-1, 0, 10**12, None],
    "image_size": [0, -16, 4, 10**6, None, "16", [16, 16], 17],
    "patch_size": [0, -8, 10**6, None, "8", 3],
    "num_channels": [0, -3, 1, 10**9, None],
    "layer_norm_eps": [-1.0, float("nan"), "x", None, float("inf")],
    "hidden_dropout_prob": [-1, 2, float("nan"), "x"],
    "attention_probs_dropout_prob": [-1, 2, float("nan"), "x"],
    "initializer_range": [-1, float("nan"), float("inf"), "x"],
    "pad_token_id": [10**9, -5, "x"],
    "position_embedding_type": ["nothing", "relative_key", 3],
    "chunk_size_feed_forward": [-1, 10**9, "x", 3],
    "is_decoder": [True, "x"],
    "add_cross_attention": [True, "x"],
    "output_attentions": [True, "x"],
    "output_hidden_states": [True, "x"],
    "return_dict": [False],
    "torchscript": [True],
    "tie_word_embeddings": [False, "x"],
    "dtype": ["float16", "nothing", "__class__", 3, ["float32"]],
    "torch_dtype": ["float16", "nothing", "__class__"],
    "auto_map": [{"AutoModel": "evil.Evil"}, "x"],
    "trust_remote_code": [True],
    "quantization_config": [{"quant_method": "bitsandbytes", "load_in_8bit": True}, "x", {}],
    "attn_implementation": ["nothing", "evil/kernel"],
    "_attn_implementation": ["flash_attention_9", "evil/kernel"],
    "_attn_implementation_internal": ["flash_attention_9", "evil/kernel"],
    "model_type": ["gpt2", "mmorient", "", 3, None, ["bert"], "../bert"],
    "architectures": [["Evil"], "x", 3],
    "gradient_checkpointing": [True],
    "pruned_heads": [{"0": [0]}, "x"],
    "id2label": [{"0": "a"}, "x", 3],
    "num_labels": [-1, 10**9, "x"],
    "label2id": ["x", 3],
    "problem_type": ["nothing", 3],
    "use_bfloat16": [True],
    "transformers_version": ["99.0.0", 3, None],
    "_name_or_path": ["/etc/passwd", 3],
    "to_dict": [3],
    "hidden_sizes": [[1, 2], "x"],
    "unknown": [3, deep(500)],
}


def of_encoders() -> Iterator[Case]:
    for role in ("text_config", "vision_config"):
        for field, values in ENCODER_VALUES.items():
            for number, value in enumerate(values):

                def attempt(role: str = role, field: str = field, value: Any = value) -> None:
                    options = small_options()
                    options[role] |= {field: value}
                    configure(options)

                name = f"{role}.{field} is value {number}"
                yield Case("encoders' configurations", name, 0, (role, field), attempt)


TASK_VALUES: dict[str, list[Any]] = {
    "labels": [None, 3, "ab", [], ["a"], ["a", "a"], ["a", 3], ["a", None], ["a", True], {"a": 1}, [["a"]]],
    "kind": [None, 3, "nothing", ["ordinal"], {"a": 1}, float("nan"), "Ordinal"],
    "weight": [None, -1, float("nan"), float("inf"), "1", [1], True, 10**400, 1e308, 1e-320],
    "class_weights": [3, [1], [1, 1, 1], [-1, 1], [float("nan"), 1], ["1", "1"], {"a": 1}, [1e308, 1e308]],
    "label_smoothing": [None, -0.1, 1, 1.5, float("nan"), "x", [0.1]],
    "temperature": [None, 0, -1, float("nan"), float("inf"), "x", 1e-320, 1e308, 5e-324],
    "thresholds": [3, [0.5], [0, 1], [-1, 2], [float("nan"), 0.5], ["x", "y"], [0.1, 0.2, 0.3], {"a": 0.5}],
    "name": ["other", None, 3],
    "unknown": [3, None, deep(500)],
    "num_labels": [2],
}
TASK_NAMES: list[Any] = [
    "",
    " ",
    "a.b",
    "keys",
    "0",
    "__class__",
    "x" * 10_000,
    "\x00",
    "\ud800",
    3,
    None,
    b"a",
]
LABEL_NAMES: list[Any] = ["", " ", "a\nb", "x" * 100_000, "\x00", "\ud800", "\u202e", "<b>", "=1+1", " a"]


def configure_task(name: Any, task: Any) -> None:
    configure(small_options() | {"tasks": {name: task}})


def of_tasks() -> Iterator[Case]:
    for field, values in TASK_VALUES.items():
        for number, value in enumerate(values):
            task = {"labels": ["a", "b"], "kind": "multilabel", field: value}
            name = f"tasks.{field} is value {number}"
            yield Case("configuration", name, 0, (field, "humour"), partial(configure_task, "humour", task))
    for number, given in enumerate(TASK_NAMES):
        attempt = partial(configure_task, given, ["a", "b"])
        yield Case("configuration", f"task has name {number}", 0, "name", attempt)
    for number, given in enumerate(LABEL_NAMES):
        attempt = partial(configure_task, "humour", ["a", given])
        yield Case("configuration", f"label has name {number}", 0, "label", attempt)
    whole: list[Any] = [
        [],
        {},
        "x",
        3,
        None,
        [3],
        [{}],
        [{"name": "a"}],
        [{"labels": ["a", "b"]}],
        ["a", "b"],
    ]
    whole += [{"a": None}, {"a": 3}, {"a": {}}, [{"name": "a", "labels": ["a", "b"]}] * 2, {"a": deep(500)}]
    for number, tasks in enumerate(whole):
        attempt = partial(configure, small_options() | {"tasks": tasks})
        yield Case("configuration", f"tasks are value {number}", 0, "task", attempt)
    for what, tasks in (
        ("a million labels", lambda: {"a": [str(number) for number in range(1_000_000)]}),
        ("a hundred thousand tasks", lambda: {str(number): ["a", "b"] for number in range(100_000)}),
    ):
        yield Case(
            "configuration", f"tasks have {what}", 0, "task", lambda tasks=tasks: configure_many(tasks)
        )  # type: ignore[misc]


def configure_many(tasks: Callable[[], Any]) -> None:
    configure(small_options() | {"tasks": tasks()})


#: Fields that neither this configuration nor transformers' has; taken, they would train to the end.
NO_FIELDS = ("freeze", "lora_r", "unfreeze_last_layers", "zzz", "learning_rate", "label_smoothing", "Tasks")

#: Fields of transformers, of other releases, and misspelt ones.
UNKNOWN: dict[str, Any] = {
    "graph_hiden_size": 4,
    "Graph_hidden_size": 4,
    "auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"},
    "trust_remote_code": True,
    "code_revision": "main",
    "attn_implementation": "evil/kernel",
    "_attn_implementation": "evil/kernel",
    "_attn_implementation_internal": "evil/kernel",
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "dtype": "nothing",
    "torch_dtype": "__class__",
    "id2label": {"0": "a", "1": "b", "2": "c"},
    "num_labels": 10**9,
    "architectures": "Evil",
    "problem_type": "nothing",
    "return_dict": False,
    "output_attentions": "x",
    "to_dict": 3,
    "__class__": 3,
    "task_specs": 3,
    "needs_rows": False,
    "_commit_hash": 3,
    "sub_configs": {},
    "model_type": "bert",
    "attribute_map": {"tasks": "labels"},
    "base_model_tp_plan": {"*": "colwise"},
    "": 3,
    "a b": 3,
}


def configure_unknown(name: str) -> None:
    MMOrientConfig(**small_options(), **{name: 8})
    check(False, f"{name} was taken")


def of_unknown_fields() -> Iterator[Case]:
    for name in NO_FIELDS:
        yield Case("configuration", f"no field {name!r}", 0, name, partial(configure_unknown, name))
    for name, value in UNKNOWN.items():
        attempt = partial(configure, small_options() | {name: value})
        yield Case("configuration", f"field {name!r}", 0, name or "''", attempt)


def of_pairs(seed: int) -> Case:
    """Two fields at once, each with any of the values."""
    rng = random.Random(seed)
    fields = rng.sample(FIELDS, 2)
    chosen = [rng.choice(list(VALUES)) for _ in fields]

    def attempt() -> None:
        values = {field: VALUES[what]() for field, what in zip(fields, chosen, strict=True)}
        configure(small_options() | values)

    what = " and ".join(f"{field} is {what}" for field, what in zip(fields, chosen, strict=True))
    things = tuple(thing for field in fields for thing in things_of(field))
    return Case("configuration", what, seed, things, attempt)


def test_fields(attack: Attack) -> None:
    # All fields and all values are among every seventh.
    cases = list(of_fields())[:: amount(7, 1)]
    attack([*cases, *(of_pairs(seed) for seed in range(amount(20, 2000)))])


def test_tasks(attack: Attack) -> None:
    attack(list(of_tasks())[:: amount(3, 1)])


def test_unknown_fields(attack: Attack) -> None:
    attack(of_unknown_fields())


def test_encoders(attack: Attack) -> None:
    attack(list(of_encoders())[:: amount(7, 1)])


FILES: dict[str, Callable[[Options], bytes]] = {
    "is empty": lambda options: b"",
    "is no JSON": lambda options: b"{",
    "is a list": lambda options: b"[]",
    "is a number": lambda options: b"3",
    "is null": lambda options: b"null",
    "is no UTF-8": lambda options: json.dumps(options).encode() + b"\xff\xfe",
    "is UTF-16": lambda options: json.dumps(options).encode("utf-16"),
    "has a byte-order mark": lambda options: b"\xef\xbb\xbf" + json.dumps(options).encode(),
    "is nested deeply": lambda options: b"[" * 100_000 + b"]" * 100_000,
    "has a deep entry": lambda options: (
        b'{"model_type": "mmorient", "tasks": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    ),
    "has a long number": lambda options: b'{"graph_hidden_size": ' + b"9" * 10_000 + b"}",
    "has NaN": lambda options: json.dumps({**options, "hima_momentum": float("nan")}).encode(),
    "is of another model": lambda options: json.dumps({**options, "model_type": "bert"}).encode(),
    "has no model type": lambda options: json.dumps({**options, "model_type": None}).encode(),
    "is a binary file": lambda options: bytes(range(256)) * 4,
    "names code": lambda options: json.dumps({**options, "auto_map": {"AutoConfig": "evil.Evil"}}).encode(),
    "names itself": lambda options: json.dumps(
        {**options, "configuration_files": ["config.9.json"]}
    ).encode(),
}


def read_file(folder: Path, contents: bytes, fields: Options) -> None:
    folder.mkdir()
    (folder / "config.json").write_bytes(contents)
    read = MMOrientConfig.from_pretrained(folder)
    check(
        read.to_dict()["graph_hidden_size"] == fields["graph_hidden_size"], "another configuration was read"
    )


def test_files(tmp_path: Path, attack: Attack) -> None:
    fields = MMOrientConfig(**small_options()).to_dict()
    cases = []
    for what, make in FILES.items():
        folder = tmp_path / what.replace(" ", "-")
        attempt = partial(read_file, folder, make(fields), fields)
        things = (
            str(folder),
            "config.json",
            "mmorient",
            "hima_momentum",
            "tasks",
            "auto_map",
            "graph_hidden_size",
        )
        cases.append(Case("configuration", f"config.json {what}", 0, things, attempt))
    attack(cases)
