"""Recipes: the arguments of a training run, from a YAML file with command-line overrides."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import PurePath
from typing import Any, NamedTuple, NoReturn

from transformers import HfArgumentParser, TrainingArguments

from mmorient.kinds.kinds import toolkit_kind
from mmorient.recipes.arguments import DataArguments, ModelArguments, RunArguments, read_mapping
from mmorient.recipes.checks import (
    check_configuration,
    check_model_options,
    check_processor_options,
    check_values,
)
from mmorient.recipes.files import find_recipe, read_recipe
from mmorient.recipes.messages import nearest, shown
from mmorient.recipes.tasks import task_specs
from modeling_mmorient.task_specs import TaskSpec


class Recipe(NamedTuple):
    """All arguments of a run.

    Args:
        data, model, run: As described there.
        training: transformers' own.
        identity: Of all arguments those that decide the outcome, of JSON types.
        given: Those that are not the defaults, of JSON types: `build_recipe` takes them again.
    """

    data: DataArguments
    model: ModelArguments
    run: RunArguments
    training: TrainingArguments
    identity: dict[str, Any]
    given: dict[str, Any]


# Arguments that do not change what a run learns, or end with. (A schedule depends on the number of epochs.)
HARMLESS = (
    *("allow", "dataloader_num_workers", "dataloader_pin_memory", "disable_tqdm", "feature_cache"),
    *("log_level", "log_level_replica", "logging_first_step", "logging_steps", "logging_strategy"),
    *("output_dir", "report_to", "restart", "resume_from_checkpoint", "run_name"),
    *("save_steps", "save_total_limit", "data_dir", "image_dir", "per_device_eval_batch_size"),
    # What they give is known by the rows that were read.
    *("delimiter", "encoding"),
)
# Mappings that the command line, or a call, adds entries to.
OPTIONS = ("model_options", "processor_options")
ARGUMENTS = (DataArguments, ModelArguments, RunArguments, TrainingArguments)


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Not argparse's own, which prints the usage of some hundred arguments."""
        raise ValueError(f"{message.rstrip('.')}. (`--help_all` lists all arguments.)")


def parse_recipe(argv: list[str]) -> Recipe:
    """Arguments from `[RECIPE] [--field value ...]`; the command line wins.

    Args:
        argv: RECIPE is a YAML file, or the name of a recipe that comes with the package.

    Raises:
        ValueError: If the recipe cannot be read, has a key that is no argument, or a value that does not fit.
    """
    recipe: dict[str, Any] = {}
    if argv and not argv[0].startswith("-"):
        recipe = read_recipe(find_recipe(argv[0]))
        argv = argv[1:]
    return _parse(recipe, argv)


def build_recipe(recipe: str | PurePath | Mapping[str, Any], **overrides: Any) -> Recipe:
    """The same from Python.

    Args:
        recipe: A YAML file, the name of a recipe that comes with the package, or what stands in such a file.
        overrides: Win over the recipe's; those of `model_options` and `processor_options` one by one.

    Raises:
        ValueError: As [`parse_recipe`].
    """
    values = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(find_recipe(str(recipe)))
    for key in OPTIONS:
        if key in overrides:
            overrides[key] = {**read_mapping(key, values.get(key)), **read_mapping(key, overrides[key])}
    given = {**values, **overrides}
    return _parse({key: str(value) if isinstance(value, PurePath) else value for key, value in given.items()})


def _parse(recipe: Mapping[str, Any], argv: list[str] | None = None) -> Recipe:
    parser = _Parser(ARGUMENTS)
    known = {action.dest for action in parser._actions} - {"help"}
    defaults = {key: parser.get_default(key) for key in known} | DEFAULTS
    for key in recipe:
        if key not in known:
            hint = nearest(key, known)
            raise ValueError(f"the recipe has the key {shown(key)}, which is no argument.{hint}")
    parser.set_defaults(**{**DEFAULTS, **recipe})
    namespace = vars(parser.parse_args(argv or []))
    for key in OPTIONS:
        if isinstance(namespace[key], str):
            namespace[key] = {**read_mapping(key, recipe.get(key)), **read_mapping(key, namespace[key])}
    check_values(
        {key: value for key, value in namespace.items() if value is not None or key in recipe}, ARGUMENTS
    )
    given = {key: value for key, value in namespace.items() if value != defaults[key]}
    data, model, run = (_build(made, namespace) for made in ARGUMENTS[:-1])
    assert isinstance(data.tasks, dict)
    assert isinstance(model.model_options, dict) and isinstance(model.processor_options, dict)
    check_model_options(model.model_options)
    check_processor_options(model.processor_options)
    specs = task_specs(data.tasks)  # which says what is wrong with them
    if namespace["metric_for_best_model"] is None:
        namespace["metric_for_best_model"] = next(iter(_metrics(specs)))
    training = _training_arguments(namespace)
    check_configuration(model.model_options, any((model.joint, model.text, model.vision)), specs)
    _require_evaluations(run, training, specs)
    identity = {key: value for key, value in namespace.items() if key not in HARMLESS}
    return Recipe(data, model, run, training, _json(identity), _json(given))


def _json(values: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values, default=str))


def _build(made: Any, namespace: Mapping[str, Any]) -> Any:
    return made(**{given.name: namespace[given.name] for given in fields(made) if given.init})


def _training_arguments(namespace: Mapping[str, Any]) -> TrainingArguments:
    try:
        return _build(TrainingArguments, namespace)
    except Exception as error:  # of whatever transformers looks at: other packages, the hardware
        reason = " ".join(str(error).split())
        raise ValueError(
            f"transformers' `TrainingArguments` do not take what is given ({type(error).__name__}: {reason})."
        ) from error


def _metrics(specs: Mapping[str, TaskSpec]) -> dict[str, bool]:
    """What a model may be chosen by, the default first: by name, whether more of it is better."""
    kinds = {name: toolkit_kind(spec) for name, spec in specs.items()}
    with_classes = ["macro_f1" in kind.resampled_scores for kind in kinds.values()]
    means = {"mean_score": not all(with_classes), "macro_f1": any(with_classes)}
    return {
        **{name: True for name, there in means.items() if there},
        **{
            f"{score}_{name}": score not in kind.lower_is_better
            for name, kind in kinds.items()
            for score in kind.resampled_scores
        },
    }


def _require_evaluations(
    run: RunArguments, training: TrainingArguments, specs: Mapping[str, TaskSpec]
) -> None:
    metric = str(training.metric_for_best_model).removeprefix("eval_")
    known = _metrics(specs)
    if metric not in known:
        raise ValueError(
            f"`metric_for_best_model` is {training.metric_for_best_model!r}: give one of {list(known)}."
        )
    if training.greater_is_better != known[metric]:
        raise ValueError(
            f"`greater_is_better` is {training.greater_is_better} and `metric_for_best_model` is {metric!r}: "
            f"set the first to {str(known[metric]).lower()}."
        )
    if training.eval_strategy == "no" and (
        training.load_best_model_at_end or training.save_strategy == "best"
    ):
        raise ValueError(
            "`eval_strategy` is no, so that no model is known to be the best: set it to epoch or steps, or "
            "`load_best_model_at_end` to false and `save_strategy` to epoch or steps."
        )
    if training.save_strategy == "steps" and training.eval_strategy == "epoch":
        raise ValueError(
            "`save_strategy` is steps and `eval_strategy` is epoch: a run that goes on from a checkpoint at "
            "the end of an epoch would miss its evaluation. Set both to epoch, or both to steps."
        )
    patience = run.early_stopping_patience
    if patience is not None and not training.load_best_model_at_end:
        raise ValueError(
            f"`early_stopping_patience` is {patience}, but `load_best_model_at_end` is false: set it to "
            "true, and `eval_strategy` and `save_strategy` to epoch."
        )


# Defaults other than those of `TrainingArguments`.
DEFAULTS: dict[str, Any] = {
    # Rows reach the collator whole: it is the collator that makes the model's arguments.
    "remove_unused_columns": False,
    # Of the tasks' kinds: `macro_f1`, or `mean_score` where there is a regression task.
    "metric_for_best_model": None,
    # A loss that is not a number would be logged as 0.
    "logging_nan_inf_filter": False,
    "greater_is_better": True,
    # A run that goes on remembers how long it has waited for a better model.
    "restore_callback_states_from_checkpoint": True,
}
