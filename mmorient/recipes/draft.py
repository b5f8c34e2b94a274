"""A recipe for a table that nobody has described yet, written with comments for the person who goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

HEAD = """\
# A recipe for {table}
# guessed from the table's cells: look through it, and change what was guessed wrong. Then:
#
#   mmorient inspect {name}
#   mmorient train {name}
#
# `own_table.yaml`, which comes with the package, explains every option; `mmorient train --help` lists them.
"""
SCRATCH = """\
# Small encoders that are trained from scratch: they run anywhere, and nothing is downloaded. For real memes
# name pretrained ones instead, as Hub ids or folders, and remove `text_config` and `vision_config` below:
# joint: openai/clip-vit-base-patch32       # pictures and texts; or `vision: google/vit-base-patch16-224`
# text: google-bert/bert-base-uncased
model_options:
  text_config: {model_type: bert, vocab_size: 2048, hidden_size: 64, intermediate_size: 128,
    num_hidden_layers: 1, num_attention_heads: 4, max_position_embeddings: 64}
  vision_config: {model_type: resnet, embedding_size: 16, hidden_sizes: [16, 32, 64], depths: [1, 1, 1],
    layer_type: basic}
  hima_hidden_size: 32
  graph_hidden_size: 64
  learner_hidden_sizes: [128, 64]
processor_options: {text_max_length: 48}
"""
PRETRAINED_OPTIONS = """\
precompute_features: true          # run the frozen encoders once, not in every epoch
model_options:
  hima_hidden_size: 128
  graph_hidden_size: 128
  learner_hidden_sizes: [256]
  learner_dropout: 0.5
processor_options: {text_max_length: 64}
"""
TRAINING = """\
output_dir: {output}
num_train_epochs: 20
early_stopping_patience: 4         # stop after so many epochs without a better mean score on validation rows
per_device_train_batch_size: 32
per_device_eval_batch_size: 64
learning_rate: {rate}
weight_decay: 0.01
eval_strategy: epoch
save_strategy: epoch
save_total_limit: 2
load_best_model_at_end: true
logging_steps: 20
dataloader_pin_memory: false
report_to: none
seed: 1
"""
RULE = "# --- {} "


@dataclass(frozen=True)
class TaskDraft:
    """A task that a column seems to be.

    Args:
        options: As in a recipe's `tasks`: `labels`, and `column`, `kind` and `separator` where needed.
        note: What a person should check, in some words.
    """

    options: Mapping[str, Any]
    note: str


@dataclass(frozen=True)
class Draft:
    """What a table seems to hold.

    Args:
        data: Fields of `DataArguments` but for the tasks, in the order to write them.
        tasks: By name.
        notes: By field of `data`, what a person should check.
        hints: Columns that might be tasks too, by name: written as comments, to take the sign off.
    """

    data: Mapping[str, Any]
    tasks: Mapping[str, TaskDraft]
    notes: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, TaskDraft] = field(default_factory=dict)


def recipe_text(draft: Draft, table: str, name: str, output: str, encoders: Mapping[str, str]) -> str:
    """The recipe of a draft, with comments.

    Args:
        draft: What the table seems to hold.
        table: Its name, for the first line.
        name: Of the recipe's file, for the commands that are shown.
        output: The run's `output_dir`.
        encoders: Pretrained encoder by role (`joint`, `text`, `vision`); empty: small ones from scratch.
    """
    lines = [HEAD.format(table=_comment(table), name=_comment(name)), _rule("the data")]
    lines += [_line(f"{key}: {_yaml(value)}", draft.notes.get(key, "")) for key, value in draft.data.items()]
    lines.append("tasks:")
    for task, drafted in draft.tasks.items():
        lines.append(_line(f"  {_yaml(task)}:", drafted.note))
        lines += [f"    {key}: {_yaml(value)}" for key, value in drafted.options.items()]
    for task, hint in draft.hints.items():
        lines.append(_line(f"  # {_comment(_yaml(task))}: {_comment(_yaml(dict(hint.options)))}", hint.note))
    lines += ["class_weighting: balanced          # rare classes count as much as frequent ones; or none"]
    lines += ["", _rule("the model")]
    if encoders:
        lines += [f"{role}: {_yaml(encoder)}" for role, encoder in encoders.items()] + [PRETRAINED_OPTIONS]
    else:
        lines.append(SCRATCH)
    rate = 0.001 if encoders else 0.002
    lines += [_rule("the training: fields of transformers' TrainingArguments")]
    lines.append(TRAINING.format(output=_yaml(output), rate=rate))
    return "\n".join(lines)


def _rule(title: str) -> str:
    return RULE.format(title).ljust(110, "-")


def _line(text: str, note: str) -> str:
    return f"{text:<34} # {_comment(note)}" if note else text


def _comment(text: str) -> str:
    """A text that cannot end its comment."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _yaml(value: Any) -> str:
    """A value in one line, quoted where YAML would read it as something else."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
