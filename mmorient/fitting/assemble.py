"""Model and processor of a run: around pretrained encoders, or with small new ones."""

import errno
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

from mmorient.files.disk_failures import error_number
from mmorient.recipes.arguments import ModelArguments
from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification, MMOrientProcessor
from modeling_mmorient.text_input import clean_text

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def assemble(
    arguments: ModelArguments, tasks: Mapping[str, Any], texts: Iterable[str]
) -> tuple[MMOrientForMultitaskClassification, MMOrientProcessor]:
    """Model and processor as a recipe describes them.

    Args:
        arguments: The recipe's model arguments.
        tasks: As in `MMOrientConfig`.
        texts: Texts of the training rows; a text encoder trained from scratch gets its vocabulary from them.

    Raises:
        ValueError: If an encoder cannot be loaded, or the recipe fits no encoder.
    """
    assert isinstance(arguments.model_options, dict) and isinstance(arguments.processor_options, dict)
    checkpoints = {role: getattr(arguments, role) for role in ("joint", "text", "vision")}
    if not any(checkpoints.values()):
        return _from_scratch(arguments.model_options, arguments.processor_options, tasks, texts)
    try:
        model = MMOrientForMultitaskClassification.from_backbones(
            **checkpoints, tasks=tasks, **arguments.model_options
        )
        processor = MMOrientProcessor.from_backbones(**checkpoints, **arguments.processor_options)
    except OSError as error:
        if error_number(error) not in (
            None,
            errno.ENOENT,
        ):  # such as a full disk while encoders are downloaded
            raise
        given = {role: name for role, name in checkpoints.items() if name}
        raise ValueError(
            f"the encoders {given} cannot be loaded: {error}\nWithout access to the Hub, name folders: "
            "--text FOLDER together with --joint FOLDER, or with --joint none --vision FOLDER."
        ) from error
    return model, processor


def _from_scratch(
    model_options: Mapping[str, Any],
    processor_options: Mapping[str, Any],
    tasks: Mapping[str, Any],
    texts: Iterable[str],
) -> tuple[MMOrientForMultitaskClassification, MMOrientProcessor]:
    options = dict(model_options)
    text_config, vision_config = options.get("text_config"), options.get("vision_config")
    if not isinstance(text_config, dict) or not isinstance(vision_config, dict):
        raise ValueError(
            "the recipe names no encoder: give `text` and `joint` or `vision` (pretrained), or "
            "`text_config` and `vision_config` in `model_options` (trained from scratch)."
        )
    tokenizer = train_tokenizer(texts, int(text_config.get("vocab_size", 4096)))
    options["text_config"] = {
        **text_config,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    options.setdefault("freeze_encoders", False)
    model = MMOrientForMultitaskClassification(MMOrientConfig(tasks=tasks, **options))
    size = int(vision_config.get("image_size", 64))
    image_processor = ViTImageProcessorPil(size={"height": size, "width": size})
    processor = MMOrientProcessor(image_processor=image_processor, tokenizer=tokenizer, **processor_options)
    return model, processor


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing byte-pair tokenizer of at most `vocab_size` tokens, from cleaned texts."""
    # Not WordPiece, whose trainer breaks ties at random: every process and every run must agree.
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    tokenizer.train_from_iterator((clean_text(text) for text in texts), trainer)
    first, last = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)],
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)
