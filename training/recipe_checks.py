"""What a recipe's values may be: types, limits, and arguments that would do harm here."""

import inspect
import types
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers.integrations import get_available_reporting_integrations

from modeling_mmorient import MMOrientProcessor

# Arguments of `TrainingArguments` that would crash or mislead here, the value that does no harm, and why.
UNSUPPORTED = {
    "push_to_hub": (False, "it would upload a pickle of the arguments: publish the saved folder instead"),
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
LEAST = {
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), 1),
    **dict.fromkeys(("gradient_accumulation_steps", "early_stopping_patience"), 1),
    **dict.fromkeys(("dataloader_num_workers", "seed", "learning_rate", "weight_decay"), 0),
    **dict.fromkeys(("max_grad_norm", "warmup_steps"), 0),
}
ABOVE_ZERO = ("num_train_epochs", "logging_steps", "save_steps", "eval_steps")


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
    numbers = {name: value for name, value in arguments.items() if value is not None}
    if numbers["max_steps"] > 0:
        del numbers["num_train_epochs"]  # which is not used then
    for name, least in LEAST.items():
        if name in numbers and not numbers[name] >= least:
            raise ValueError(f"`{name}` is {numbers[name]}: give a number of at least {least}.")
    for name in ABOVE_ZERO:
        if name in numbers and not numbers[name] > 0:
            raise ValueError(f"`{name}` is {numbers[name]}: give a number above 0.")
    if not 0 <= numbers.get("threshold_quantile", 0) <= 1:
        raise ValueError(f"`threshold_quantile` is {numbers['threshold_quantile']}: give a number in [0, 1].")
    if numbers["seed"] >= 2**32:
        raise ValueError(f"`seed` is {numbers['seed']}: give a number below 2**32.")
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
            raise ValueError(f"`{name}` is {arguments[name]!r}, which is not supported: {reason}.")


def check_processor_options(options: Mapping[str, Any]) -> None:
    """Refuse options that the processor does not have.

    Raises:
        ValueError: Names them, and those that it has.
    """
    parts = MMOrientProcessor.get_attributes()
    known = [name for name in inspect.signature(MMOrientProcessor).parameters if name not in parts]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"`processor_options` has the keys {unknown}: choose from {known}.")


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
        raise ValueError(f"`{name}` is {value!r}: give one of {choices}{quoted}.")
    if not any(_fits(value, kind) for kind in kinds):
        shown = [dict] if dict in kinds else kinds  # its text form is for the command line
        given = " or ".join(word for kind, word in NAMES.items() if kind in shown)
        raise ValueError(f"`{name}` is {value!r}: give {given}.")


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
