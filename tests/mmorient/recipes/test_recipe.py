"""Recipes: YAML with command-line overrides, checked before anything is loaded."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from mmorient.commands.inspect import main as inspect
from mmorient.recipes.arguments import DataArguments, ModelArguments, RunArguments
from mmorient.recipes.files import RUN_RECIPE, save_recipe
from mmorient.recipes.recipe import build_recipe, parse_recipe
from mmorient.recipes.tasks import FITTED_KEYS
from modeling_mmorient.task_specs import TaskSpec

RECIPES = sorted((Path(__file__).parents[3] / "training" / "recipes").glob("*.yaml"))
TASKS = {"humour": {"labels": ["no", "yes"]}}


def write(folder: Path, **recipe: object) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"tasks": TASKS, "output_dir": str(folder / "out"), **recipe}))
    return str(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_parse(recipe: Path, tmp_path: Path) -> None:
    data, model, _, training, *_ = parse_recipe([str(recipe), "--output_dir", str(tmp_path)])
    assert data.tasks and training.output_dir == str(tmp_path)
    assert model.text or model.model_options["text_config"]


def test_own_table_explains_every_option() -> None:
    recipe = next(path for path in RECIPES if path.stem == "own_table").read_text()
    for arguments in (DataArguments, ModelArguments, RunArguments):
        for option in dataclasses.fields(arguments):
            assert re.search(rf"^(# )?{option.name}:|--{option.name}\b", recipe, re.M), option.name
    for option in dataclasses.fields(TaskSpec):
        # Class weights come from the table; what is fitted, too.
        if option.name not in ("name", "class_weights", *FITTED_KEYS):
            assert f"    {option.name}:" in recipe, option.name


def test_command_line_wins_and_json_is_laid_over(tmp_path: Path) -> None:
    recipe = write(
        tmp_path, learning_rate=1e-3, model_options={"learner_dropout": 0.1, "graph_hidden_size": 8}
    )
    options = ["--learning_rate", "5e-4", "--model_options", '{"learner_dropout": 0.4}', "--seed", "7"]
    data, model, _, training, *_ = parse_recipe([recipe, *options])
    assert training.learning_rate == 5e-4 and training.seed == 7
    assert model.model_options == {"learner_dropout": 0.4, "graph_hidden_size": 8}
    assert data.tasks == TASKS


def test_none_empties_a_role(tmp_path: Path) -> None:
    recipe = write(tmp_path, joint="some/clip", text="some/bert")
    model = parse_recipe([recipe, "--joint", "none", "--vision", "folder"]).model
    assert (model.joint, model.text, model.vision) == (None, "some/bert", "folder")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"tasks": {}}, "`tasks` is empty"),
        ({"tasks": "[1]"}, "give a mapping"),
        ({"tasks": "{"}, "give JSON"),
        ({"class_weighting": "sometimes"}, "choose one of"),
        ({"push_to_hub": True}, "pickle"),
        ({"label_smoothing_factor": 0.1}, "single task"),
        ({"remove_unused_columns": True}, "collator"),
        ({"prediction_loss_only": True}, "nothing to score"),
        ({"label_names": ["a"]}, "label_names"),
        ({"train_file": None}, "train_file.*give a list"),
        ({"train_file": ["a.csv", 5]}, "train_file.*give strings"),
        ({"test_share": 1}, r"number in \[0, 1\)"),
        ({"test_share": 0.1, "test_file": "test.csv"}, "test rows are 'test.csv': give one"),
        (
            {
                "early_stopping_patience": 0,
                "load_best_model_at_end": True,
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
            },
            "at least 1",
        ),
        ({"early_stopping_patience": 2}, "load_best_model_at_end"),
        ({"early_stopping_patience": 2.5, "load_best_model_at_end": False}, "whole number"),
        ({"validation_share": None}, "`validation_share` is None: give a number"),
        ({"metric_for_best_model": "loss"}, r"give one of \['macro_f1', 'macro_f1_humour'\]"),
        ({"metric_for_best_model": "macro_f1_mood"}, "give one of"),
        ({"greater_is_better": False}, "`greater_is_better` is False and .* set the first to true"),
        ({"save_strategy": "steps", "eval_strategy": "epoch"}, "would miss its evaluation"),
        ({"hub_token": "hf_abc"}, "written into the checkpoints"),
        ({"resume_from_checkpoint": "somewhere"}, "goes on by itself"),
        ({"save_only_model": True}, "could not go on"),
        ({"ignore_data_skip": True}, "some rows twice"),
        ({"restore_callback_states_from_checkpoint": False}, "forget how long"),
        ({"dataloader_drop_last": True}, "rows to score would be dropped"),
        ({"average_tokens_across_devices": False}, "change the gradient"),
        ({"include_for_metrics": ["inputs"]}, "no more than logits"),
        ({"batch_eval_metrics": True}, "all rows at once"),
        ({"data_dir": 5}, "data_dir"),
        ({"seed": 1.5}, "seed.*whole number"),
        ({"validation_share": 1.5}, r"number in \(0, 1\)"),
        ({"allow": ["typos"]}, r"`allow` lists 'typos': choose from \['"),
        ({"allow": "empty_rows"}, "`allow` is 'empty_rows': give a list"),
        ({"split_column": "split"}, "say in `validation_split` or `test_split` which"),
        (
            {"split_column": "split", "validation_split": "dev", "validation_file": "dev.csv"},
            "leave `validation_file` and `test_file` out",
        ),
    ],
)
def test_errors_name_the_field_and_the_remedy(
    tmp_path: Path, recipe: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"(?i){message}"):
        parse_recipe([write(tmp_path, **recipe)])


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("joint", 5, "give a string or null"),
        ("text", [1], "give a string or null"),
        ("vision", {"a": 1}, "give a string or null"),
        ("test_file", 5, "give a string or null"),
        ("validation_file", ["a.csv"], "give a string or null"),
        ("train_file", {"a": "b"}, "give a list"),
        ("train_file", [], "at least one table"),
        ("validation_split", 3, "give a string or null"),
        ("text_columns", 3, "give a list"),
        ("tasks", 7, "give a mapping"),
        ("feature_cache", 3, "give a string"),
        ("feature_cache", None, "give a string"),
        ("model_options", [1], "give a mapping"),
        ("processor_options", {"foo": 1}, r"the key 'foo'.* Choose from \['clean_text', 'text_max_length'"),
        ("processor_options", {"max_length": 1}, "the key 'max_length'.* Did you mean 'text_max_length'"),
        ("processor_options", {"joint_padding": "wide"}, "is one of"),
        ("model_options", {"freeze": True}, "the key 'freeze'.* Did you mean 'freeze_encoders'"),
        ("model_options", {"lora_r": 8}, r"the key 'lora_r'.* Choose from \['joint_config', 'text_config'"),
        ("model_options", {"unfreeze_last_layers": 2}, r"the key 'unfreeze_last_layers'.* Choose from"),
        ("model_options", {"zzz": 1}, r"the key 'zzz'.* Choose from \['joint_config'"),
        ("model_options", {"tasks": TASKS}, "the key 'tasks': leave it out, they are the recipe's"),
        ("model_options", {"saved_references": None}, "the key 'saved_references': leave it out"),
        ("model_options", {"architectures": ["A"]}, "the key 'architectures', which it does not take"),
        ("model_options", {"use_cache": True}, "the key 'use_cache', which it does not take"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("per_device_train_batch_size", -3, "at least 1"),
        ("per_device_eval_batch_size", 2.5, "give a whole number"),
        ("gradient_accumulation_steps", 0, "at least 1"),
        ("num_train_epochs", 0, "above 0"),
        ("num_train_epochs", "many", "invalid float value"),
        ("eval_steps", 0, "above 0"),
        ("max_steps", 1.5, "give a whole number"),
        ("learning_rate", None, "give a number"),
        ("learning_rate", float("nan"), "give a finite number"),
        ("learning_rate", float("inf"), "give a finite number"),
        ("learning_rate", "inf", "give a finite number"),
        ("weight_decay", float("inf"), "give a finite number"),
        ("adam_beta2", 1.0, r"in \[0, 1\)"),
        ("tasks", {"humour": {"labels": ["no", "yes"], "weight": float("inf")}}, "give a finite number"),
        ("lr_scheduler_kwargs", {"power": [float("nan")]}, "give a finite number"),
        ("logging_steps", 10**30, "bits: give one of at most 63"),
        ("num_train_epochs", 1e300, "at most 1,000,000"),
        ("dataloader_num_workers", 10**6, "at most 1,024"),
        ("per_device_train_batch_size", 10**12, "at most 1,000,000"),
        ("ddp_timeout", 10**15, "at most"),
        ("save_total_limit", 0, "at least 1"),
        ("max_steps", 0, "above 0, or -1"),
        ("max_steps", -5, "above 0, or -1"),
        ("learning_rate", "fast", "invalid float value"),
        ("seed", True, "give a whole number"),
        ("seed", -1, "at least 0"),
        ("seed", 2**32, "at most 4,294,967,295"),
        ("threshold_quantile", 1.5, "at least 0 and at most 1"),
        ("threshold_quantile", float("nan"), "give a finite number"),
        ("seed", "abc", "invalid int value"),
        ("restart", "perhaps", "true/false"),
        ("dataloader_pin_memory", 3, "give true or false"),
        ("eval_strategy", False, r"one of \['no', 'steps', 'epoch'\], in quotes"),
        ("save_strategy", "sometimes", r"one of \['no', 'steps', 'epoch', 'best'\]"),
        ("optim", "magic", "give one of"),
        ("report_to", "magic", "give none or some of"),
        ("output_dir", "", "name a folder"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_anything_is_read(
    tmp_path: Path, name: str, value: object, remedy: str
) -> None:
    with pytest.raises(ValueError, match=rf"\b{name}\b.*{remedy}") as caught:
        parse_recipe([write(tmp_path, **{name: value})])
    # Of a mapping the message names the key that is wrong, and of a number out of all bounds its size.
    if not isinstance(value, dict) and value != 10**30:
        assert str(value) in str(caught.value)
    assert "usage:" not in str(caught.value)


@pytest.mark.parametrize("strategies", [{"load_best_model_at_end": True}, {"save_strategy": "best"}])
def test_the_best_model_needs_evaluations(tmp_path: Path, strategies: dict[str, object]) -> None:
    recipe = write(tmp_path, **{"eval_strategy": "no", "save_strategy": "no", **strategies})
    with pytest.raises(ValueError, match=r"`eval_strategy` is no.*set it to epoch or steps"):
        parse_recipe([recipe])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"humour": 5}, "task 'humour' has the labels 5"),
        ({"humour": {"lables": ["no", "yes"]}}, r"the keys \['lables'\]"),
        ({3: ["no", "yes"]}, "the name 3"),
    ],
)
def test_tasks_that_cannot_be_are_refused(tmp_path: Path, tasks: dict[object, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_recipe([write(tmp_path, tasks=tasks)])


def test_numbers_may_be_written_as_strings_and_keys_not_as_numbers(tmp_path: Path) -> None:
    # Without a decimal point 1e-3 is a string to YAML.
    assert parse_recipe([write(tmp_path, learning_rate="1e-3")]).training.learning_rate == 1e-3
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("5: 5\ntasks: {humour: {labels: [a, b]}}\n")
    with pytest.raises(ValueError, match="the key 5, which is no argument"):
        parse_recipe([str(recipe)])


def test_an_unknown_argument_on_the_command_line_is_named_without_a_page_of_usage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unrecognized arguments: --foo 3\. \(`--help_all`"):
        parse_recipe([write(tmp_path), "--foo", "3"])


def test_options_of_the_model_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    """With pretrained encoders too, as far as their widths do not decide."""
    for encoders in ({}, {"text": "some/bert", "joint": "some/clip"}):
        with pytest.raises(ValueError, match="`graph_hidden_size` is 0"):
            parse_recipe([write(tmp_path, model_options={"graph_hidden_size": 0}, **encoders)])
        parse_recipe([write(tmp_path, model_options={"graph_hidden_size": 8}, **encoders)])
    with pytest.raises(ValueError, match=r"describes \['text_config'\].*leave one of them out"):
        parse_recipe([write(tmp_path, model_options={"text_config": {}}, text="some/bert")])


@pytest.mark.parametrize("recipe", [{}, {"model_options": {"learner_dropout": 0.1}}, {"model_options": None}])
def test_options_on_the_command_line_are_checked_as_those_in_a_recipe(
    tmp_path: Path, recipe: dict[str, object]
) -> None:
    path = write(tmp_path, **recipe)
    for options, message in (
        ('{"freeze": 1}', "the key 'freeze'"),
        ('{"learner_dropout": 0.1, "learner_dropout": 0.2}', "'learner_dropout' is given 2 times"),
        ('{"image_threshold": NaN}', "give a finite number"),
        ("[" * 100_000, "give JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_recipe([path, "--model_options", options])


def test_inspection_refuses_options_too(tmp_path: Path) -> None:
    recipe = write(tmp_path, model_options={"freeze": True}, train_file="none.csv")
    with pytest.raises(ValueError, match="the key 'freeze'"):
        inspect([recipe])


def test_identity_holds_what_decides_the_outcome(tmp_path: Path) -> None:
    recipe = write(tmp_path, learning_rate=1e-3)
    first = parse_recipe([recipe]).identity
    harmless = ["--output_dir", "elsewhere", "--logging_steps", "3", "--save_total_limit", "2"]
    assert parse_recipe([recipe, *harmless]).identity == first
    options = {
        "--learning_rate": "0.002",
        "--seed": "7",
        "--validation_share": "0.2",
        "--num_train_epochs": "7",
        "--weight_decay": "0.5",
        "--tasks": '{"humour": ["yes", "no"]}',
        "--model_options": '{"learner_dropout": 0.4}',
    }
    for option, value in options.items():
        assert parse_recipe([recipe, option, value]).identity != first, option


def test_shipped_recipes_are_taken_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_recipe(["quickstart", "--seed", "3"]).data.data_dir == "runs/sample_memes"
    Path("quickstart").mkdir()  # a folder is no recipe
    assert parse_recipe(["quickstart"]).training.output_dir == "runs/quickstart"
    with pytest.raises(ValueError, match=r"'quikstart' is no file: .* Did you mean 'quickstart'"):
        parse_recipe(["quikstart"])
    Path("quickstart").rmdir()
    Path("quickstart").write_text("tasks: {mood: [bad, good]}")  # a file of that name wins
    assert parse_recipe(["quickstart"]).data.data_dir == "."


def test_a_recipe_of_python_is_the_same_as_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, model_options={"graph_hidden_size": 8, "hima_hidden_size": 8})
    given = parse_recipe([path, "--seed", "3", "--model_options", '{"graph_hidden_size": 9}'])
    built = build_recipe(Path(path), seed=3, model_options={"graph_hidden_size": 9})
    assert built.identity == given.identity
    assert built.model.model_options == {"graph_hidden_size": 9, "hima_hidden_size": 8}
    values = {"tasks": {"mood": ["bad", "good"]}, "output_dir": tmp_path / "run"}
    assert build_recipe(values, train_file="x.csv").training.output_dir == str(tmp_path / "run")
    with pytest.raises(
        ValueError, match=r"'lerning_rate', which is no argument. Did you mean 'learning_rate'"
    ):
        build_recipe(values, lerning_rate=1)


def test_what_was_given_makes_the_same_recipe_again(tmp_path: Path) -> None:
    recipe = parse_recipe(["quickstart", "--seed", "3", "--data_dir", "memes"])
    save_recipe(recipe.given, tmp_path)
    saved = parse_recipe([str(tmp_path / RUN_RECIPE)])
    assert saved.identity == recipe.identity
    assert saved.data.data_dir == str(Path("memes").resolve())
    assert (tmp_path / ".gitignore").read_text() == f"/{RUN_RECIPE}\n"
