"""The processor's parts: any of them missing, saved and loaded, taken from pretrained encoders."""

import copy
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BertConfig,
    CLIPConfig,
    ConvNextConfig,
    Dinov2Config,
    MobileNetV2Config,
    RobertaConfig,
    SiglipConfig,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import (
    MobileNetV2ImageProcessorPil,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from modeling_mmorient import MMOrientProcessor
from modeling_mmorient.processing_mmorient import PARTS
from tests.modeling_mmorient.processor_parts import (
    JOINT_FRAME,
    MEME,
    SIZE,
    SQUARE,
    make_image_processor,
    make_parts,
    make_tokenizer,
    same,
)

# Missing parts


def test_using_a_missing_part_is_an_error() -> None:
    bare = MMOrientProcessor()
    with pytest.raises(ValueError, match="no image_processor"):
        bare(images=MEME)
    with pytest.raises(ValueError, match="no tokenizer"):
        bare(text="red")
    with pytest.raises(ValueError, match="cannot decode"):
        bare.decode([1])
    with pytest.raises(ValueError, match="cannot decode"):
        bare.batch_decode([[1]])
    joint_only = MMOrientProcessor(joint_tokenizer=make_tokenizer(JOINT_FRAME))
    with pytest.raises(ValueError, match=r"padding.*None"):
        joint_only(text="red", padding="max_length")


def test_a_part_alone_gives_its_inputs() -> None:
    parts = make_parts()
    joint = MMOrientProcessor(joint_tokenizer=parts["joint_tokenizer"])
    names = {"text_present", "joint_input_ids", "joint_attention_mask"}
    assert set(joint(text="red", return_tensors="pt")) == set(joint.model_input_names) == names
    text = MMOrientProcessor(tokenizer=parts["tokenizer"])
    assert set(text(text="red", return_tensors="pt")) == set(text.model_input_names)
    assert "joint_input_ids" not in text.model_input_names


def test_a_joint_tokenizer_without_mask_gives_none() -> None:
    tokenizer = make_tokenizer(model_input_names=["input_ids"])
    processor = MMOrientProcessor(joint_tokenizer=tokenizer)
    assert set(processor(text="red")) == {"text_present", "joint_input_ids"}
    assert set(processor.model_input_names) == {"text_present", "joint_input_ids"}


def test_decoding_is_the_text_tokenizers(processor: Any) -> None:
    inputs = processor(text=["red and green", "red"])
    decoded = processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    assert decoded == ["red and green", "red"]
    assert processor.decode(inputs["input_ids"][1], skip_special_tokens=True) == "red"


# Saving and loading


@pytest.mark.parametrize(
    "present", [c for n in range(4) for c in itertools.combinations(PARTS, n)], ids="+".join
)
def test_any_combination_of_parts_comes_back(tmp_path: Path, present: tuple[str, ...]) -> None:
    parts = {name: part for name, part in make_parts().items() if name in present}
    saved = MMOrientProcessor(**parts, clean_text=False, joint_padding="max_length")
    before = saved.to_dict()
    saved.save_pretrained(tmp_path)
    assert saved.to_dict() == before
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mmorient"}))
    for loader in (MMOrientProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert isinstance(loaded, MMOrientProcessor)
        assert loaded.to_dict() == before
        assert {name for name in PARTS if getattr(loaded, name) is not None} == set(present)
        arguments: dict[str, Any] = {}
        if "image_processor" in present:
            arguments["images"] = [MEME, MEME]
        if {"tokenizer", "joint_tokenizer"} & set(present):
            arguments["text"] = ["red imgflip.com", "one two"]
        if arguments:
            arguments["return_tensors"] = "pt"
            assert same(saved(**arguments), loaded(**arguments))


def test_options_are_saved_and_can_be_overridden(tmp_path: Path) -> None:
    options = {"text_max_length": 33, "joint_max_length": 11, "joint_padding": "max_length"}
    MMOrientProcessor(**make_parts(), clean_text=False, **options).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["clean_text"] is False
    assert {name: saved[name] for name in options} == options
    loaded = MMOrientProcessor.from_pretrained(tmp_path, clean_text=True, text_max_length=44)
    assert loaded.clean_text is True and loaded.text_max_length == 44
    assert "clean_text" not in loaded.tokenizer.init_kwargs
    replaced = MMOrientProcessor.from_pretrained(tmp_path, tokenizer=make_tokenizer(max_length=99))
    assert replaced.tokenizer.init_kwargs["max_length"] == 99


def test_saving_leaves_no_code_address_in_parts(tmp_path: Path) -> None:
    processor = MMOrientProcessor(**make_parts())
    processor.save_pretrained(tmp_path)
    assert "auto_map" not in processor.to_dict()
    assert "auto_map" not in json.loads((tmp_path / "processor_config.json").read_text()).get(
        "image_processor"
    )


def test_a_lost_joint_tokenizer_is_not_replaced_by_the_text_tokenizer(tmp_path: Path) -> None:
    MMOrientProcessor(**make_parts()).save_pretrained(tmp_path)
    for file in (tmp_path / "joint_tokenizer").iterdir():
        file.unlink()
    with pytest.raises((OSError, ValueError)):
        MMOrientProcessor.from_pretrained(tmp_path)


def test_parts_are_never_loaded_with_code_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MMOrientProcessor(**make_parts()).save_pretrained(tmp_path)
    for folder in (tmp_path, tmp_path / "joint_tokenizer"):
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text())
        config["auto_map"] = {"AutoTokenizer": [None, "evil.Tokenizer"]}
        file.write_text(json.dumps(config))
        (folder / "evil.py").write_text("raise SystemExit('code of the repository ran')")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = MMOrientProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(loaded.tokenizer).__module__.startswith("transformers.")


def test_processors_can_be_copied_shown_and_sent_to_workers() -> None:
    for parts in ({}, make_parts()):
        processor = MMOrientProcessor(**parts)
        for twin in (copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))):
            assert twin.to_dict() == processor.to_dict()
        assert "MMOrientProcessor" in repr(processor)


# From pretrained encoders


def save_backbone(folder: Path, config: Any, *parts: Any) -> Path:
    for part in (config, *parts):
        part.save_pretrained(folder)
    return folder


def test_from_a_joint_and_a_text_encoder(tmp_path: Path) -> None:
    joint = save_backbone(
        tmp_path / "joint", CLIPConfig(), make_image_processor(), make_tokenizer(JOINT_FRAME, 12)
    )
    text = save_backbone(tmp_path / "text", BertConfig(), make_tokenizer())
    processor = MMOrientProcessor.from_backbones(joint=joint, text=str(text), clean_text=False)
    inputs = processor(images=MEME, text="red", return_tensors="pt")
    assert set(inputs) == set(processor.model_input_names)
    assert processor.joint_padding == "longest" and processor.joint_max_length == 12
    assert processor.clean_text is False
    assert MMOrientProcessor.from_backbones(text=text).image_processor is None


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
def test_texts_fit_the_positions_of_the_encoder(tmp_path: Path, kind: Any) -> None:
    config = kind(max_position_embeddings=16, pad_token_id=1)
    text = save_backbone(tmp_path, config, make_tokenizer(limit=int(1e30)))
    processor = MMOrientProcessor.from_backbones(text=text)
    expected = 16 if kind is BertConfig else 14
    assert len(processor(text="red " * 99)["input_ids"][0]) == expected
    with pytest.raises(ValueError, match=f"at most {expected}"):
        MMOrientProcessor.from_backbones(text=text, text_max_length=17)
    processor.save_pretrained(tmp_path / "saved")
    loaded = MMOrientProcessor.from_pretrained(tmp_path / "saved")
    assert loaded.tokenizer.model_max_length == expected


def test_siglip_is_padded_to_full_length(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(JOINT_FRAME, 12, model_input_names=["input_ids"])
    joint = save_backbone(tmp_path, SiglipConfig(), SiglipImageProcessorPil(), tokenizer)
    processor = MMOrientProcessor.from_backbones(joint=joint)
    assert processor(text="red", return_tensors="pt")["joint_input_ids"].shape == (1, 12)
    chosen = MMOrientProcessor.from_backbones(joint=joint, joint_padding="longest")
    assert chosen.joint_padding == "longest"


@pytest.mark.parametrize(
    ("config", "cropping"),
    [
        (MobileNetV2Config, MobileNetV2ImageProcessorPil(size={"shortest_edge": SIZE + 8}, crop_size=SQUARE)),
        (ConvNextConfig, ConvNextImageProcessorPil(size={"shortest_edge": SIZE})),
        (Dinov2Config, BitImageProcessorPil(size={"shortest_edge": SIZE + 8}, crop_size=SQUARE)),
    ],
)
def test_the_borders_of_a_meme_are_seen(tmp_path: Path, config: Any, cropping: Any) -> None:
    vision = save_backbone(tmp_path, config(), cropping)
    processor = MMOrientProcessor.from_backbones(vision=vision)
    meme = np.zeros((120, 60, 3), dtype=np.uint8)
    meme[:20] = 255  # a caption
    pixels = processor(images=meme, return_tensors="pt")["pixel_values"][0, 0]
    cropped = cropping(Image.fromarray(meme), return_tensors="pt")["pixel_values"][0, 0]
    assert pixels.shape == cropped.shape == (SIZE, SIZE)
    is_caption = pixels > 0
    assert is_caption[:3].all() and not is_caption[6:].any()
    assert not (cropped > 0).any()
    white = np.full((60, 60, 3), 255, dtype=np.uint8)
    seen = processor(images=white, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(seen, cropping(white, return_tensors="pt")["pixel_values"])


def test_two_readers_of_pictures_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="joint and vision"):
        MMOrientProcessor.from_backbones(joint=tmp_path, vision=tmp_path)
