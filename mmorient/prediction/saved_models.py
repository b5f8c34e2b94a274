"""Saved models with their processors."""

from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from transformers import AutoConfig, AutoModel, AutoProcessor
from transformers.utils import CONFIG_NAME

from mmorient.files.loading_bars import without_loading_bars
from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientProcessor

# For the one attempt to reach the Hub before anything is loaded from there.
HUB_SECONDS = 10.0


def find_model(name: str) -> dict[str, Any]:
    """What `from_pretrained` has to be told to load a model by its name, if there is one of that name.

    A folder is a folder. Other names are asked of the Hub once, without the retries of `from_pretrained`; a
    model of the Hub that was loaded before is there without a network too.

    Args:
        name: Folder or Hub id (OWNER/NAME).

    Raises:
        ValueError: If there is no such folder, and no model of that name on the Hub that can be reached.
    """
    if name and Path(name).is_dir():
        return {}
    if not _may_be_hub_id(name):
        raise ValueError(
            f"no model can be loaded from {name!r}: there is no such folder. Name the `output_dir` of a "
            "training run, or a model on the Hub as OWNER/NAME."
        )
    try:
        get_hf_file_metadata(hf_hub_url(name, CONFIG_NAME), timeout=HUB_SECONDS)
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise ValueError(
            f"no model can be loaded from {name!r}: there is no such folder, and no model of that name that "
            f"may be read on the Hub ({str(error).splitlines()[0]})."
        ) from error
    except Exception as error:  # of whichever HTTP library the Hub's client uses
        if isinstance(try_to_load_from_cache(name, CONFIG_NAME), str):
            return {"local_files_only": True}
        raise ValueError(
            f"no model can be loaded from {name!r}: there is no such folder, and the Hub cannot be asked for "
            f"it ({error}). Name a folder, or try again with a network."
        ) from error
    return {}


def load_saved_model(name: str) -> tuple[MMOrientForMultitaskClassification, MMOrientProcessor]:
    """A trained model, in evaluation mode, and its processor.

    Args:
        name: Folder or Hub id. No code from there is run.

    Raises:
        ValueError: If there is none of that name, it cannot be loaded, is no MM-ORIENT checkpoint, lacks
            weights or has no processor.
    """
    options = {"trust_remote_code": False, **find_model(name)}
    try:
        config = AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"no model can be loaded from {name!r}: {error}") from error
    if not isinstance(config, MMOrientConfig):
        raise ValueError(
            f"{name!r} holds a model of type {config.model_type!r}: name an MM-ORIENT checkpoint, such as "
            "the `output_dir` of a training run."
        )
    try:
        with without_loading_bars():
            model, found = AutoModel.from_pretrained(name, output_loading_info=True, **options)
    except Exception as error:  # of safetensors, of torch, of the system
        raise ValueError(f"the weights of {name!r} cannot be loaded: {error}") from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ValueError(
            f"{name!r} lacks {len(missing)} of its weights ({missing[0]} ...): answers would be random. Save "
            "the trained MMOrientForMultitaskClassification whole."
        )
    try:
        processor = AutoProcessor.from_pretrained(name, **options)
    except Exception as error:
        raise ValueError(f"no processor can be loaded from {name!r}: {error}") from error
    if not isinstance(processor, MMOrientProcessor):
        raise ValueError(
            f"{name!r} has no MMOrientProcessor beside its model: save it there with "
            "`processor.save_pretrained`."
        )
    return model.eval(), processor


def _may_be_hub_id(name: str) -> bool:
    """Whether a name that is no folder here can be that of a model on the Hub."""
    owner, slash, rest = name.partition("/")
    # Beside a folder of the first part's name, a path was meant.
    if not slash or "/" in rest or Path(owner).exists():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
