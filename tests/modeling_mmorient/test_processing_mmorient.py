"""The processor: rows in, tensors out."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BatchFeature,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from modeling_mmorient import MMOrientProcessor
from tests.modeling_mmorient.processor_parts import (
    MEME,
    SIZE,
    make_image_processor,
    make_parts,
    make_tokenizer,
    same,
)


def test_a_batch_has_every_input_of_the_model(processor: Any) -> None:
    texts = ["when the build is green", "red"]
    inputs = processor(images=[MEME, MEME], text=texts, return_tensors="pt")
    assert set(inputs) == set(processor.model_input_names)
    assert inputs["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert inputs["pixel_values"].dtype == torch.float32
    assert inputs["image_present"].tolist() == inputs["text_present"].tolist() == [True, True]
    assert inputs["image_present"].dtype == inputs["text_present"].dtype == torch.bool
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert inputs[name].shape == (2, 7) and inputs[name].dtype == torch.long
    assert inputs["attention_mask"].sum(1).tolist() == [7, 3]
    assert inputs["joint_input_ids"].shape == inputs["joint_attention_mask"].shape == (2, 7)
    expected = processor.tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
    assert torch.equal(inputs["input_ids"], expected)


def test_a_single_picture_and_text_are_a_batch_of_one(processor: Any) -> None:
    single = processor(images=MEME, text="red", return_tensors="pt")
    assert same(single, processor(images=[MEME], text=["red"], return_tensors="pt"))
    assert same(single, processor([MEME], ["red"], return_tensors="pt"))
    assert same(single, processor(images=(MEME,), text=("red",), return_tensors="pt"))


def test_rows_do_not_depend_on_one_another(processor: Any) -> None:
    other = Image.new("RGB", (9, 50), "red")
    together = processor(images=[MEME, None, other], text=["a", "red", None], return_tensors="pt")
    pixels = processor(images=[other, MEME], return_tensors="pt")["pixel_values"]
    assert torch.equal(together["pixel_values"][[2, 0]], pixels)
    alone = processor(text="red", return_tensors="pt")
    assert torch.equal(together["input_ids"][1], alone["input_ids"][0])


def test_missing_pictures_are_zeros(processor: Any) -> None:
    inputs = processor(images=[None, MEME, []], text=["red"] * 3, return_tensors="pt")
    assert inputs["image_present"].tolist() == [False, True, False]
    assert not inputs["pixel_values"][[0, 2]].any() and inputs["pixel_values"][1].any()


def test_pictures_may_all_be_missing(processor: Any) -> None:
    inputs = processor(images=[None, None], text=["red", "green"], return_tensors="pt")
    assert inputs["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert not inputs["pixel_values"].any() and not inputs["image_present"].any()


@pytest.mark.parametrize("blank", [None, "", "  \n", "\u200b", "imgflip.com", "@somebody http://a.b"])
def test_missing_texts_are_encoded_as_empty(processor: Any, blank: Any) -> None:
    inputs = processor(images=[MEME, MEME], text=[blank, "red and green"], return_tensors="pt")
    assert inputs["text_present"].tolist() == [False, True]
    assert inputs["attention_mask"][0].tolist() == [1, 1, 0, 0, 0]
    assert inputs["joint_attention_mask"][0].tolist() == [1, 1, 0, 0, 0]


def test_no_row_is_masked_out_without_special_tokens() -> None:
    parts = {"tokenizer": make_tokenizer(special=False), "image_processor": make_image_processor()}
    processor = MMOrientProcessor(**parts)
    inputs = processor(images=[MEME, MEME], text=[None, "red and"], return_tensors="pt")
    assert inputs["attention_mask"].tolist() == [[1, 0], [1, 1]]
    only_missing = processor(images=[MEME], text=[None], return_tensors="pt")
    assert only_missing["attention_mask"].tolist() == [[1]]


def test_an_argument_left_out_leaves_its_names_out(processor: Any) -> None:
    of_pictures = {"pixel_values", "image_present"}
    assert set(processor(images=[MEME], return_tensors="pt")) == of_pictures
    without = set(processor(text=["red"], return_tensors="pt"))
    assert without == set(processor.model_input_names) - of_pictures
    assert same(
        processor(images=None, text=["red"], return_tensors="pt"),
        processor(text=["red"], return_tensors="pt"),
    )


def test_kinds_of_output(processor: Any) -> None:
    arguments: dict[str, Any] = {"images": [MEME, None], "text": ["red", "green and red"]}
    tensors = processor(**arguments, return_tensors="pt")
    arrays = processor(**arguments, return_tensors="np")
    lists = processor(**arguments)
    for name, tensor in tensors.items():
        assert isinstance(arrays[name], np.ndarray) and isinstance(lists[name], list)
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
        np.testing.assert_array_equal(np.array(lists[name]), tensor.numpy())
    assert lists["image_present"] == [True, False] and lists["image_present"][0] is True


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        (None, None, "no input"),
        ([None, None], ["a", None], "row 1: .*neither"),
        ([None], None, "row 0: .*neither"),
        (None, ["a", "b", " "], "row 2: .*neither"),
        ([None], ["imgflip.com"], "row 0: .*cleaning"),
        ([None, MEME], ["a"], "2 pictures and 1 texts"),
        (MEME, ["a", "b"], "1 pictures and 2 texts"),
        ([], ["a"], "images is an empty list"),
        ([MEME], [], "text is an empty list"),
        (None, [], "text is an empty list"),
        ([None, b"broken"], ["a", "b"], "row 1: cannot read"),
        ([None, "https://a.b/c.png"], ["a", "b"], "row 1: URLs are never fetched"),
        ([MEME, np.full((4, 4), np.nan)], None, "row 1: .*NaN"),
        ([MEME, 3], None, "row 1: cannot read a picture from int"),
        ([MEME, [MEME, MEME]], None, "row 1: .*list of 2"),
        (np.zeros((2, 4, 4, 3)), None, "row 0: .*list of pictures"),
        (None, ["a", 3], "row 1: text is a string"),
        (None, ["a", b"bytes"], "row 1: text is a string"),
        (None, ["a", float("nan")], "row 1: .*None where it is missing, got nan"),
        (None, ["a", ["b"]], "row 1: text is a string"),
        (None, 3, "text is one entry or a list"),
        (None, np.array(["a"]), "text is one entry or a list"),
    ],
)
def test_errors_name_the_row(processor: Any, images: Any, text: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(images=images, text=text)


def test_broken_unicode_is_an_error_unless_cleaned() -> None:
    broken = "half \ud83d pair"
    assert MMOrientProcessor(**make_parts())(text=broken)["text_present"] == [True]
    with pytest.raises(ValueError, match=r"row 0: .*clean_text=True"):
        MMOrientProcessor(**make_parts(), clean_text=False)(text=broken)


def test_pictures_that_come_out_in_several_sizes_are_an_error() -> None:
    processor = MMOrientProcessor(make_image_processor(do_resize=False, do_center_crop=False))
    with pytest.raises(ValueError, match=r"row 1: .*one size"):
        processor(images=[MEME, MEME.resize((7, 9))])


def test_image_processors_with_other_outputs_are_an_error() -> None:
    class Masking(CLIPImageProcessorPil):
        def __call__(self, *args: Any, **kwargs: Any) -> BatchFeature:
            encoded = super().__call__(*args, **kwargs)
            return BatchFeature({**encoded, "pixel_mask": encoded["pixel_values"] > 0})

    with pytest.raises(ValueError, match="row 0: Masking gives pixel_mask, pixel_values"):
        MMOrientProcessor(Masking())(images=MEME)


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1)])
def test_extreme_shapes_give_ordinary_pixels(processor: Any, size: tuple[int, int]) -> None:
    inputs = processor(images=Image.new("RGB", size), return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, SIZE, SIZE)


# Options


def test_cleaning_is_an_option() -> None:
    text = "red imgflip.com"
    cleaned = MMOrientProcessor(**make_parts())(text=text)
    kept = MMOrientProcessor(**make_parts(), clean_text=False)(text=text)
    assert len(cleaned["input_ids"][0]) == 3 and len(kept["input_ids"][0]) == 6


def test_long_texts_are_cut() -> None:
    long = " ".join(["red"] * 200)
    inputs = MMOrientProcessor(**make_parts())(text=long)
    assert len(inputs["input_ids"][0]) == 128 and len(inputs["joint_input_ids"][0]) == 12
    inputs = MMOrientProcessor(**make_parts(), text_max_length=9, joint_max_length=5)(text=long)
    assert len(inputs["input_ids"][0]) == 9 and len(inputs["joint_input_ids"][0]) == 5


def test_joint_padding_to_full_length() -> None:
    inputs = MMOrientProcessor(**make_parts(), joint_padding="max_length")(text="red")
    assert len(inputs["joint_input_ids"][0]) == 12 and len(inputs["input_ids"][0]) == 3


def test_default_lengths_follow_the_tokenizers() -> None:
    def lengths(text_options: dict[str, Any], joint_limit: Any) -> tuple[Any, Any]:
        text, joint = make_tokenizer(**text_options), make_tokenizer(limit=joint_limit)
        processor = MMOrientProcessor(None, joint, text)
        return processor.text_max_length, processor.joint_max_length

    unlimited = int(1e30)
    assert lengths({"limit": unlimited}, unlimited) == (128, 77)
    assert lengths({"limit": 64}, 64) == (64, 64)
    assert lengths({"limit": 512, "max_length": 200}, 12) == (200, 12)
    assert MMOrientProcessor().text_max_length is MMOrientProcessor().joint_max_length is None


def test_an_explicit_length_wins_over_the_tokenizers_saved_one() -> None:
    processor = MMOrientProcessor(tokenizer=make_tokenizer(max_length=10), text_max_length=6)
    assert len(processor(text="red " * 20)["input_ids"][0]) == 6


@pytest.mark.parametrize(
    "options",
    [
        {"clean_text": "yes"},
        {"joint_padding": "shortest"},
        {"joint_padding": True},
        {"text_max_length": 2},
        {"text_max_length": 0},
        {"text_max_length": -1},
        {"text_max_length": 257},
        {"text_max_length": True},
        {"text_max_length": 12.0},
        {"text_max_length": "12"},
        {"joint_max_length": 13},
        {"joint_max_length": 2},
    ],
)
def test_bad_options_are_errors(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is .* got "):
        MMOrientProcessor(**make_parts(), **options)


def test_a_tokenizer_without_padding_is_an_error() -> None:
    with pytest.raises(ValueError, match="no padding token"):
        MMOrientProcessor(tokenizer=make_tokenizer(pad_token=None))


def test_parts_of_the_wrong_kind_are_errors() -> None:
    with pytest.raises(TypeError, match="tokenizer"):
        MMOrientProcessor(tokenizer=make_image_processor())
    with pytest.raises(TypeError, match="image_processor"):
        MMOrientProcessor(make_tokenizer())


# Keywords of the call


def test_text_keywords_go_to_the_text_encoder(processor: Any) -> None:
    keywords = {"padding": "max_length", "max_length": 20}
    direct = processor(text="red", **keywords, return_tensors="pt")
    nested = processor(text="red", text_kwargs=keywords, return_tensors="pt")
    assert same(direct, nested)
    assert direct["input_ids"].shape == (1, 20)
    assert direct["joint_input_ids"].shape == (1, 3)
    uncut = processor(text="red " * 200, truncation=False)
    assert len(uncut["input_ids"][0]) == 202
    ragged = processor(text=["red", "red red"], padding=False)
    assert [len(ids) for ids in ragged["input_ids"]] == [3, 4]


def test_image_keywords_go_to_the_image_processor(processor: Any) -> None:
    plain = processor(images=MEME, do_normalize=False, return_tensors="pt")
    nested = processor(images=MEME, images_kwargs={"do_normalize": False}, return_tensors="pt")
    assert same(plain, nested) and plain["pixel_values"].min() >= 0
    with pytest.raises(ValueError, match="two times"):
        processor(images=MEME, do_normalize=False, images_kwargs={"do_normalize": True})


def test_layout_of_arrays_can_be_given(processor: Any) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    expected = processor(images=Image.fromarray(np.moveaxis(pixels, 0, -1)), return_tensors="pt")
    given = processor(images=pixels, input_data_format="channels_first", return_tensors="pt")
    assert same(expected, given)


@pytest.mark.parametrize(
    "keywords",
    [{"is_split_into_words": True}, {"return_overflowing_tokens": True}, {"text_pair": ["b"]}],
)
def test_keywords_that_change_what_a_row_is_are_errors(processor: Any, keywords: Any) -> None:
    with pytest.raises(ValueError, match="not supported"):
        processor(text=["a"], **keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"paddin": True}, "no keyword 'paddin' \\(did you mean 'padding'"),
        ({"text_kwargs": {"maximal_length": 5}}, "text_kwargs has no keyword 'maximal_length'"),
        ({"images_kwargs": 3}, "images_kwargs is 3: give a mapping"),
        ({"return_tensors": "tf"}, "return_tensors is 'tf'"),
        ({"input_data_format": "first"}, "input_data_format is 'first'"),
        ({"padding": "longer"}, "cannot work with padding='longer'"),
        ({"size": {"height": 10**6, "width": 10**6}}, "size is .* more than the limit"),
        ({"image_std": [0.0, 0.0, 0.0]}, "row 0: the image processor gives pixels that are not finite"),
        ({"padding": False, "return_tensors": "pt"}, "padding=False"),
    ],
)
def test_keywords_that_no_part_takes_are_errors(processor: Any, keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(images=[MEME, MEME], text=["one", "one two three"], **keywords)


def test_tensors_without_values_are_no_pictures(processor: Any) -> None:
    for tensor in (torch.zeros(3, 5, 5, device="meta"), torch.zeros(3, 5, 5).to_sparse()):
        with pytest.raises(ValueError, match="row 0: a picture tensor is dense and has values"):
            processor(images=[tensor])
