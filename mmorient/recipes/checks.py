"""What a recipe's values may be: types, limits, and arguments that would do harm here."""

import inspect
import math
import types
from collections.abc import Collection, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers import PreTrainedConfig
from transformers.integrations import get_available_reporting_integrations

from mmorient.recipes.messages import nearest, shown
from modeling_mmorient import MMOrientConfig, MMOrientProcessor
from modeling_mmorient.configuration_mmorient import ENCODER_ROLES
from modeling_mmorient.task_specs import TaskSpec

# Arguments of `TrainingArguments` that would crash or mislead here, the value that does no harm, and why.
UNSUPPORTED = {
    "push_to_hub": (False, "it would upload a pickle of the arguments: `mmorient publish` the run instead"),
    "label_smoothing_factor": (0, "it knows a single task only"),
    "remove_unused_columns": (False, "the collator needs the columns"),
    "prediction_loss_only": (False, "there would be nothing to score"),
    "batch_eval_metrics": (False, "scores are of all rows at once"),
    "include_for_metrics": ([], "scores need no more than logits and labels"),
    "dataloader_drop_last": (False, "rows to score would be dropped too"),
    "average_tokens_across_devices": (True, "with partial labels another mean would change the gradient"),
    "hub_token": (None, "nothing is uploaded, and it would be written into the checkpoints"),
    "resume_from_checkpoint": (None, "a run goes on by itself from its last whole checkpoint"),
    "save_only_model": (False, "a run could not go on from such a checkpoint"),
    "ignore_data_skip": (False, "a run that goes on would see some rows twice and others not"),
    "restore_callback_states_from_checkpoint": (
        True,
        "a run that goes on would forget how long it has waited",
    ),
    "label_names": (None, "the labels of all tasks are in `labels`"),
}
NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    dict: "a mapping",
    list: "a list",
    types.NoneType: "null",
}
# Smallest and largest number that an argument may be, both included.
LIMITS = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, 10**6)),
    **dict.fromkeys(("gradient_accumulation_steps", "eval_accumulation_steps"), (1, 10**6)),
    **dict.fromkeys(("early_stopping_patience", "save_total_limit", "torch_empty_cache_steps"), (1, 10**9)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon"), (0, math.inf)),
    **dict.fromkeys(("warmup_steps", "eval_delay"), (0, 10**15)),
    **dict.fromkeys(("seed", "data_seed"), (0, 2**32 - 1)),
    "threshold_quantile": (0, 1),
    **dict.fromkeys(("dataloader_prefetch_factor", "ddp_bucket_cap_mb"), (1, 10**6)),
    "dataloader_num_workers": (0, 1024),
    "ddp_timeout": (1, 10**9),
}
# Largest of those that are above 0.
ABOVE_ZERO = {
    "num_train_epochs": 10**6,
    **dict.fromkeys(("logging_steps", "save_steps", "eval_steps"), 10**15),
}
# Wherever a number stands: larger ones overflow in one library or another.
LARGEST = 2**63 - 1
# Fields of `MMOrientConfig` that a recipe does not set, and why.
NOT_IN_RECIPES = {
    "tasks": "they are the recipe's `tasks`, beside `model_options`",
    "saved_references": "saving the model fills it in",
}


def check_values(arguments: Mapping[str, Any], classes: tuple[type, ...]) -> None:
    """Refuse values that are of another type than their argument, out of its limits, or not supported.

    Args:
        arguments: Those that are given or have a default, by name.
        classes: Dataclasses that say which types they have.

    Raises:
        ValueError: Names the argument, its value and what to give.
    """
    for name, hint in _hints(classes).items():
        if name in arguments:
            _require_type(name, arguments[name], hint)
            _require_finite(name, arguments[name])
    numbers = {name: value for name, value in arguments.items() if value is not None}
    if numbers["max_steps"] == 0 or numbers["max_steps"] < -1:
        raise ValueError(
            f"`max_steps` is {numbers['max_steps']}: give a number above 0, or -1 for `num_train_epochs`."
        )
    if numbers["max_steps"] > 0:
        del numbers["num_train_epochs"]  # which is not used then
    for name, (least, most) in LIMITS.items():
        if name in numbers and not least <= numbers[name] <= most:
            upper = "" if most == math.inf else f" and at most {most:,}"
            raise ValueError(f"`{name}` is {numbers[name]}: give a number of at least {least}{upper}.")
    for name, most in ABOVE_ZERO.items():
        if name in numbers and not 0 < numbers[name] <= most:
            raise ValueError(f"`{name}` is {numbers[name]}: give a number above 0 and at most {most:,}.")
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= numbers.get(name, 0) < 1:
            raise ValueError(f"`{name}` is {numbers[name]}: give a number in [0, 1).")
    if arguments.get("output_dir") == "":
        raise ValueError(
            "`output_dir` is '': name a folder, or the model would be mixed up with other files."
        )
    installed = get_available_reporting_integrations()
    reports = arguments.get("report_to") or []
    for name in [reports] if isinstance(reports, str) else reports:
        if name not in ("none", "all", *installed):
            raise ValueError(
                f"`report_to` names {name!r}, which is not installed: give none or some of {installed}."
            )
    for name, (harmless, reason) in UNSUPPORTED.items():
        if arguments.get(name) not in (harmless, None):
            raise ValueError(f"`{name}` is {shown(arguments[name])}, which is not supported: {reason}.")


def check_model_options(options: Mapping[str, Any]) -> None:
    """Refuse options that are no fields of the model's own, or that a recipe does not set.

    Raises:
        ValueError: Names the option, and the field that it resembles or all of them.
    """
    inherited = {given.name for given in fields(PreTrainedConfig)}
    known = [given.name for given in fields(MMOrientConfig) if given.name not in inherited]
    _require_known("model_options", options, [name for name in known if name not in NOT_IN_RECIPES])


def check_processor_options(options: Mapping[str, Any]) -> None:
    """Refuse options that the processor does not have, or values that it does not take.

    Raises:
        ValueError: Names the option, and the one that it resembles or all of them.
    """
    parts = MMOrientProcessor.get_attributes()
    known = [name for name in inspect.signature(MMOrientProcessor).parameters if name not in parts]
    _require_known("processor_options", options, known)
    try:
        MMOrientProcessor(**options)
    except ValueError as error:
        raise ValueError(f"`processor_options`: {error}") from None


def check_configuration(options: Mapping[str, Any], pretrained: bool, tasks: Mapping[str, TaskSpec]) -> None:
    """Refuse values that the model's configuration does not take, as far as they do not hang on its encoders.

    Args:
        options: The recipe's `model_options`.
        pretrained: Whether the recipe names encoders.
        tasks: By name.

    Raises:
        ValueError: Of the configuration; or that encoders are both named and described.
    """
    if pretrained and (described := [role for role in ENCODER_ROLES if options.get(role) is not None]):
        raise ValueError(
            f"`model_options` describes {described}, and the recipe names pretrained encoders (`joint`, "
            "`text`, `vision`): leave one of them out."
        )
    start: dict[str, Any] = {"joint_config": None, "text_config": None} if pretrained else {}
    specs = {name: spec.to_options() for name, spec in tasks.items()}
    MMOrientConfig(**{"freeze_encoders": pretrained, **start, **options, "tasks": specs})


def _require_known(argument: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    for name in options:
        if argument == "model_options" and name in NOT_IN_RECIPES:
            raise ValueError(f"`{argument}` has the key {name!r}: leave it out, {NOT_IN_RECIPES[name]}.")
        if name not in known:
            hint = nearest(name, known) or f" Choose from {list(known)}."
            raise ValueError(f"`{argument}` has the key {shown(name)}, which it does not take.{hint}")


def _require_finite(name: str, value: Any) -> None:
    """Refuse numbers that are none, or that no argument takes, wherever they stand in a value."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"`{name}` has the value {value}: give a finite number.")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"`{name}` has a number of {value.bit_length()} bits: give one of at most 63.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _require_finite(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            _require_finite(name, inner)


def _hints(classes: tuple[type, ...]) -> dict[str, Any]:
    fields = [(given, get_type_hints(given)) for given in classes]
    return {name: hints[name] for given, hints in fields for name in hints}


def _require_type(name: str, value: Any, hint: Any) -> None:
    kinds = [_kind(kind) for kind in (get_args(hint) if _is_union(hint) else (hint,))]
    choices = [member.value for kind in kinds if issubclass(kind, Enum) for member in kind]
    if choices:
        if value in choices:
            return
        quoted = ", in quotes: YAML reads a bare no as false" if value is False and "no" in choices else ""
        raise ValueError(f"`{name}` is {shown(value)}: give one of {choices}{quoted}.")
    if not any(_fits(value, kind) for kind in kinds):
        told = [dict] if dict in kinds else kinds  # its text form is for the command line
        given = " or ".join(word for kind, word in NAMES.items() if kind in told)
        raise ValueError(f"`{name}` is {shown(value)}: give {given}.")


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _kind(hint: Any) -> type:
    """The class of an annotation, without what is inside its brackets."""
    origin = get_origin(hint)
    return type(get_args(hint)[0]) if origin is Literal else origin or hint


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    # One string may stand for a list of one; which ones, their dataclass says.
    return isinstance(value, list | str) if kind is list else isinstance(value, kind)
