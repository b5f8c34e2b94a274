"""Saved models with their processors."""

from transformers import AutoConfig, AutoModel, AutoProcessor

from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientProcessor


def load_saved_model(name: str) -> tuple[MMOrientForMultitaskClassification, MMOrientProcessor]:
    """A trained model, in evaluation mode, and its processor.

    Args:
        name: Folder or Hub id. No code from there is run.

    Raises:
        ValueError: If it cannot be loaded, is no MM-ORIENT checkpoint, lacks weights or has no processor.
    """
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no model can be loaded from {name!r}: {error}") from error
    if not isinstance(config, MMOrientConfig):
        raise ValueError(
            f"{name!r} holds a model of type {config.model_type!r}: name an MM-ORIENT checkpoint, such as "
            "the `output_dir` of a training run."
        )
    try:
        model, found = AutoModel.from_pretrained(name, trust_remote_code=False, output_loading_info=True)
    except Exception as error:  # of safetensors, of torch, of the system
        raise ValueError(f"the weights of {name!r} cannot be loaded: {error}") from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ValueError(
            f"{name!r} lacks {len(missing)} of its weights ({missing[0]} ...): answers would be random. Save "
            "the trained MMOrientForMultitaskClassification whole."
        )
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"no processor can be loaded from {name!r}: {error}") from error
    if not isinstance(processor, MMOrientProcessor):
        raise ValueError(
            f"{name!r} has no MMOrientProcessor beside its model: save it there with "
            "`processor.save_pretrained`."
        )
    return model.eval(), processor
