"""Help: a screen for each command, of one source, without waiting for torch."""

import subprocess
import sys
from dataclasses import fields

import pytest

from mmorient.commands.main import COMMANDS, main
from mmorient.commands.recipe_help import TITLES
from mmorient.explanation.job import ExplanationJob
from mmorient.prediction.job import PredictionJob
from mmorient.recipes.arguments import CLASS_WEIGHTINGS, DataArguments
from mmorient.recipes.field_docs import field_docs, field_summaries
from mmorient.recipes.problem_kinds import PROBLEM_KINDS

# Prints each command's help, and fails where that loads torch.
SCRIPT = """
import sys
from mmorient.commands.main import COMMANDS, main
for arguments in (["--help"], *([command, "--help"] for command in COMMANDS)):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, end.code
    print("=" * 20)
    assert "torch" not in sys.modules, arguments
"""


def _help(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    try:
        main([*arguments])
    except SystemExit as end:
        assert not end.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        [],
        *([name] for name in COMMANDS),
        ["score", "table"],
        ["score", "semeval"],
        ["score", "write_semeval"],
    ],
)
def test_help_fits_a_screen(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = _help(capsys, *command, "--help").splitlines()
    assert 5 < len(lines) <= 60 and max(map(len, lines)) <= 110


@pytest.mark.parametrize("command", ["train", "inspect"])
def test_own_arguments_are_described_with_choices_and_defaults(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(_help(capsys, command, "--help").split())
    for described in TITLES:
        for field in fields(described):
            assert f"--{field.name}" in text
            assert field_summaries(described)[field.name] in text
    for word in (*CLASS_WEIGHTINGS, *PROBLEM_KINDS, "[0.1]", "[train.csv]", "[runs/features]"):
        assert word in text
    assert "--fp16_full_eval" not in text and "--help_all" in text


def test_all_arguments_are_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, "train", "--help_all")
    assert "--fp16_full_eval" in text and text.index("--train_file") < text.index("--fp16_full_eval")


@pytest.mark.parametrize("described", [*TITLES, PredictionJob, ExplanationJob])
def test_docstrings_describe_every_field(described: type) -> None:
    assert set(field_summaries(described)) == {field.name for field in fields(described)}


def test_descriptions_are_read_whole() -> None:
    docs = field_docs(DataArguments)
    assert docs["data_dir",] == "Folder that the other paths start from."
    assert docs["train_split", "validation_split", "test_split"].endswith(
        "in a saved `DatasetDict` or on the Hub."
    )
    assert field_summaries(DataArguments)["train_file"] == "Table of the memes, or several"


def test_no_help_loads_torch() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("=" * 20) == len(COMMANDS) + 1
