"""Processor of MM-ORIENT: pictures and texts to tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, BatchFeature, PretrainedConfig, ProcessorMixin
from transformers.image_utils import ImageInput

# From its module, as in pretrained_processors.
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from .call_options import (
    as_batch,
    as_rows,
    check_rows,
    encode_images,
    merged_options,
    naming,
    read_texts,
    unwrap_images,
)
from .image_input import is_single_image
from .pretrained_processors import load_config, load_image_processor, load_tokenizer
from .text_input import DEFAULT_TEXT_LENGTH, checked_length, tokenize

PARTS = ("image_processor", "joint_tokenizer", "tokenizer")
OPTIONS = ("clean_text", "text_max_length", "joint_max_length", "joint_padding")
JOINT_PADDINGS = ("longest", "max_length")


class _PartNames:
    """`get_attributes()` with all parts on the class, and the present ones on an instance.

    ProcessorMixin asks the class what there is to load, and the instance what there is to check,
    show and save. A part that is None can be none of these.
    """

    def __get__(self, instance: Any, owner: type) -> Callable[[], list[str]]:
        return lambda: [name for name in PARTS if instance is None or getattr(instance, name) is not None]


class MMOrientProcessor(ProcessorMixin):
    """Turns pictures and texts into the inputs of [`MMOrientForMultitaskClassification`].

    Any of the three parts may be None; what needs it is then an error. Parts and options are saved
    by `save_pretrained` and come back with `from_pretrained`, also through `AutoProcessor`.

    Args:
        image_processor: Image processor of the joint or the vision encoder.
        joint_tokenizer: Tokenizer of the joint encoder's text tower (CLIP and kin).
        tokenizer: Tokenizer of the text encoder (BERT and kin).
        clean_text: Take links, user names, watermark addresses, control characters and odd spaces
            out of texts, see `text_input.clean_text`. Default: True.
        text_max_length: Longest text for the text encoder, in tokens, special ones included; the
            rest is cut off. Default: the `max_length` saved with `tokenizer`, else 128, and never
            more than the tokenizer's own limit.
        joint_max_length: The same for the joint encoder. Default: the limit of `joint_tokenizer`
            (77 for CLIP), or 77 where it has none.
        joint_padding: `"longest"` pads to the longest text of the call, `"max_length"` to
            `joint_max_length`, as SigLIP's tower needs, which reads off its last position.
            Default: `"longest"`.

    Raises:
        TypeError: A part is of the wrong kind.
        ValueError: A length is not an integer above the number of special tokens and within the
            tokenizer's limit, `joint_padding` is unknown, `clean_text` is no boolean, or a
            tokenizer has no padding token.

    Example:

    ```python
    >>> processor = MMOrientProcessor.from_backbones(joint="path/to/clip", text="path/to/bert")
    >>> inputs = processor(images=[meme, None], text=["brace", "yourselves"], return_tensors="pt")
    >>> inputs["image_present"]
    tensor([ True, False])
    ```
    """

    get_attributes: Any = _PartNames()

    def __init__(
        self,
        image_processor: Any = None,
        joint_tokenizer: Any = None,
        tokenizer: Any = None,
        clean_text: bool = True,
        text_max_length: int | None = None,
        joint_max_length: int | None = None,
        joint_padding: str = "longest",
    ) -> None:
        self.image_processor = image_processor
        self.joint_tokenizer = joint_tokenizer
        self.tokenizer = tokenizer
        if tokenizer is not None and joint_tokenizer is tokenizer:
            raise ValueError("tokenizer and joint_tokenizer are one object; give each one of its own")
        super().__init__(**{name: getattr(self, name) for name in self.get_attributes()})
        if not isinstance(clean_text, bool):
            raise ValueError(f"clean_text is True or False, got {clean_text!r}")
        if joint_padding not in JOINT_PADDINGS:
            raise ValueError(f"joint_padding is one of {JOINT_PADDINGS}, got {joint_padding!r}")
        saved_length = None if tokenizer is None else tokenizer.init_kwargs.get("max_length")
        self.clean_text = clean_text
        self.text_max_length = checked_length(
            "text_max_length", text_max_length, tokenizer, saved_length or DEFAULT_TEXT_LENGTH
        )
        self.joint_max_length = checked_length("joint_max_length", joint_max_length, joint_tokenizer, None)
        self.joint_padding = joint_padding

    def __call__(
        self,
        images: ImageInput | Sequence[Any] | None = None,
        text: str | Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare one row, or a batch of rows, each a picture, a text or both.

        Args:
            images: A picture, or a list with one entry per row; see `image_input.load_image` for
                what a picture can be. None or an empty list stands for a missing picture.
            text: A text, or a list with one entry per row. None or text that is blank (also: after
                cleaning) stands for a missing text.
            **kwargs: As of other processors: `return_tensors`, `text_kwargs`, `images_kwargs`, or
                their entries directly (`padding`, `truncation`, `max_length`, `do_normalize` ...).
                Those for text go to `tokenizer`; `joint_tokenizer` follows the saved options.

        Returns:
            With `images`: `pixel_values` (batch, 3, height, width), zeros for a missing picture;
            `image_present` (batch,) bool, True = present. With `text`: `text_present` (batch,)
            bool; `input_ids`, `attention_mask` and what else `tokenizer` gives, (batch, tokens);
            `joint_input_ids` and `joint_attention_mask` (batch, joint tokens). A missing text is
            encoded as an empty one, so that no row is masked out wholly.

        Raises:
            ValueError: A row (named in the message) has neither picture nor text, or one that
                cannot be read; the numbers of pictures and texts differ; a list is empty; the part
                that is needed is missing; or a keyword is unknown, has a value that its part does not
                take, or would change the number of rows.
        """
        pictures = unwrap_images(as_rows("images", images, is_single_image))
        raw_texts = as_rows("text", text, lambda value: isinstance(value, str))
        texts = None if raw_texts is None else read_texts(raw_texts, self.clean_text)
        check_rows(pictures, texts)
        options = self._call_options(texts is not None, kwargs)
        return_tensors = options["text_kwargs"].pop("return_tensors", None)
        return_tensors = options["images_kwargs"].pop("return_tensors", None) or return_tensors
        data: dict[str, Any] = {}
        if pictures is not None:
            data.update(encode_images(self.image_processor, pictures, options["images_kwargs"]))
        if texts is not None:
            data.update(self._encode_texts(texts, options["text_kwargs"]))
        with naming("the tokenizer (text_kwargs)", options["text_kwargs"]):  # of texts that are not padded
            return as_batch(data, return_tensors)

    def _call_options(self, has_text: bool, kwargs: dict[str, Any]) -> dict[str, Any]:
        options = merged_options(self, kwargs)
        text_options = options["text_kwargs"]
        if self.tokenizer is not None:
            for name in ("padding", "truncation"):
                if text_options.get(name) is None:
                    text_options[name] = True
            if text_options["truncation"] or text_options["padding"] == "max_length":
                text_options.setdefault("max_length", self.text_max_length)
        elif has_text and set(text_options) - {"return_tensors"}:
            raise ValueError(
                f"{', '.join(sorted(text_options))}: meant for tokenizer, which is None; the joint "
                "tokenizer follows the processor's own joint_padding and joint_max_length"
            )
        return options

    def _encode_texts(self, texts: list[str], options: dict[str, Any]) -> dict[str, Any]:
        if self.tokenizer is None and self.joint_tokenizer is None:
            raise ValueError("texts were given, but the processor has no tokenizer of any kind")
        data: dict[str, Any] = {"text_present": torch.tensor([bool(text) for text in texts])}
        if self.tokenizer is not None:
            with naming("the tokenizer (text_kwargs)", options):
                data.update(tokenize(self.tokenizer, texts, options))
        if self.joint_tokenizer is not None:
            joint_options = {
                "padding": self.joint_padding,
                "truncation": True,
                "max_length": self.joint_max_length,
            }
            encoded = tokenize(self.joint_tokenizer, texts, joint_options)
            data.update({f"joint_{name}": encoded[name] for name in self._joint_names()})
        return data

    def _joint_names(self) -> list[str]:
        # SigLIP's tokenizer gives no mask, and its tower was trained without one.
        given = self.joint_tokenizer.model_input_names
        return [name for name in ("input_ids", "attention_mask") if name in given]

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call with pictures and texts gives."""
        names = [] if self.image_processor is None else ["pixel_values", "image_present"]
        if self.tokenizer is not None or self.joint_tokenizer is not None:
            names.append("text_present")
        if self.tokenizer is not None:
            names += self.tokenizer.model_input_names
        if self.joint_tokenizer is not None:
            names += [f"joint_{name}" for name in self._joint_names()]
        return names

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """The `decode` of the text encoder's tokenizer."""
        return self._decoder().decode(*args, **kwargs)

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """The `batch_decode` of the text encoder's tokenizer."""
        return self._decoder().batch_decode(*args, **kwargs)

    def _decoder(self) -> Any:
        if self.tokenizer is None:
            raise ValueError("cannot decode: the processor has no tokenizer for the text encoder")
        return self.tokenizer

    def to_dict(self) -> dict[str, Any]:
        """As of any processor; a missing part is null, so that loading does not look for it."""
        output = super().to_dict()
        if self.image_processor is not None:
            output["image_processor"].pop("auto_map", None)  # brings no code of its own
        return {**output, **{name: None for name in PARTS if getattr(self, name) is None}}

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """As of any processor; the note of where the code is goes only into the files."""
        try:
            return super().save_pretrained(save_directory, push_to_hub, **kwargs)
        finally:
            for holder in (self, self.image_processor):
                if holder is not None:
                    holder.__dict__.pop("auto_map", None)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Load the parts, the joint tokenizer from a subfolder of its own.

        ProcessorMixin's loading takes the text tokenizer where the joint one is not found, and
        passes this processor's options on to the parts, as well as the permission to run their code.
        """
        kwargs = {name: value for name, value in kwargs.items() if name not in OPTIONS}
        folder = kwargs.pop("subfolder", "")
        sources: dict[str, tuple[Any, str]] = {
            "image_processor": (AutoImageProcessor, folder),
            "joint_tokenizer": (AutoTokenizer, "/".join(filter(None, [folder, "joint_tokenizer"]))),
            "tokenizer": (AutoTokenizer, folder),
        }
        parts: list[Any] = []
        for name, (loader, subfolder) in sources.items():
            if processor_dict is not None and processor_dict.get(name, name) is None:
                parts.append(None)
                continue
            options = {**kwargs, "subfolder": subfolder, "trust_remote_code": False}
            if loader is AutoTokenizer:
                # A tokenizer's own settings name its class. Left to itself AutoTokenizer asks for a
                # config.json beside it, which some releases cannot do without a network.
                options["config"] = PretrainedConfig()
            parts.append(loader.from_pretrained(pretrained_model_name_or_path, **options))
        return parts

    @classmethod
    def from_backbones(
        cls, joint: Any = None, text: Any = None, vision: Any = None, **options: Any
    ) -> MMOrientProcessor:
        """Take the parts from pretrained encoders, none of which may bring code from the Hub.

        An image processor that cuts out the center of a picture is set to squash the whole picture
        to the size of the cut: the captions of memes stand at their borders.

        Args:
            joint: Hub id or folder of the joint encoder; gives image processor and joint tokenizer.
                SigLIP's texts are padded to full length.
            text: Hub id or folder of the text encoder; gives the tokenizer. No tokenizer lets
                through more tokens than its encoder has positions for.
            vision: Hub id or folder of the vision encoder; gives the image processor.
            **options: `clean_text`, `text_max_length`, `joint_max_length`, `joint_padding`.

        Raises:
            ValueError: Both `joint` and `vision` are given.
        """
        if joint is not None and vision is not None:
            raise ValueError("joint and vision each bring an image processor; give one of them")
        parts: dict[str, Any] = {}
        if joint is not None:
            config = load_config(joint)
            parts["joint_tokenizer"] = load_tokenizer(joint, config.text_config)
            if config.model_type == "siglip":
                options.setdefault("joint_padding", "max_length")
        if text is not None:
            parts["tokenizer"] = load_tokenizer(text, load_config(text))
        if joint is not None or vision is not None:
            parts["image_processor"] = load_image_processor(vision if joint is None else joint)
        return cls(**parts, **options)
