"""Weights of a checkpoint, put into the model that is being trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from mmorient.fitting.checkpoints import find_damage


def load_checkpoint(model: PreTrainedModel, checkpoint: Path) -> None:
    """Load a complete checkpoint's weights into a model, see [`load_weights`].

    Raises:
        ValueError: If the checkpoint is damaged, or is of another kind of model.
    """
    if (damage := find_damage(checkpoint)) is not None:
        raise ValueError(
            f"{checkpoint} is no whole checkpoint any more ({damage}): put it in order, or start anew with "
            "`--restart true`."
        )
    load_weights(model, checkpoint)


def load_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Put a checkpoint's weights into a model: in place, without a second model or its references.

    `save_pretrained` renames weights of some encoders (ViT's and Swin's, say); reading the file as it is, as
    `Trainer` does, would not load them.

    The model keeps the references that it has. HIMA's g is the checkpoint's, and counts as a running mean:
    training goes on from it, and filling the references computes it anew.

    Args:
        model: A model with the checkpoint's configuration, on any device.
        checkpoint: A folder that `save_pretrained` wrote.

    Raises:
        ValueError: If the weights do not fit the model.
    """
    saved: dict[str, torch.Tensor] = {}
    for file in sorted(checkpoint.glob("model*.safetensors")):
        saved |= load_file(file)
    weights = _renamed(model, saved)
    if weights is None:
        # Encoders whose weights are joined or split in files, or were renamed otherwise by the release of
        # transformers that saved them: only `from_pretrained` knows how to convert them.
        whole = type(model).from_pretrained(checkpoint, config=model.config, references=False)
        weights = dict(whole.state_dict())
    for name in weights:
        if name.endswith("hima.references_digest"):
            # Belongs to the checkpoint's references, which are not loaded.
            weights[name] = torch.zeros_like(weights[name])
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        # The error has a line for each weight; the first is enough.
        first = (str(error).splitlines()[1:2] or [str(error)])[0].strip().rstrip(".")
        raise ValueError(
            f"the weights in {checkpoint} are not those of the recipe's model ({first}): start anew with "
            "`--restart true`."
        ) from error


def _renamed(model: PreTrainedModel, saved: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Weights by their names in the model; None where not every weight can be matched."""
    own: dict[str, Any] = dict(model.state_dict())
    names = {id(values): name for name, values in own.items()}
    # The names that saving would give them now. Weights that are converted beyond renaming are new tensors.
    stored = {file: names.get(id(values)) for file, values in revert_weight_conversion(model, own).items()}
    weights = {name: values for file, values in saved.items() if (name := stored.get(file)) is not None}
    return weights if len(weights) == len(saved) else None
