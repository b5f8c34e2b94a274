"""transformers' own processor tests."""

import unittest

from transformers import BertTokenizer, CLIPImageProcessorPil, CLIPTokenizer
from transformers_suites.test_processing_common import ProcessorTesterMixin

from modeling_mmorient import MMOrientProcessor

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class MMOrientProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    """A processor with all three parts, each with a vocabulary of letters."""

    processor_class = MMOrientProcessor

    @classmethod
    def _setup_image_processor(cls) -> CLIPImageProcessorPil:
        return CLIPImageProcessorPil(size={"height": 8, "width": 8}, do_center_crop=False)

    @classmethod
    def _setup_tokenizer(cls) -> BertTokenizer:
        pieces = [*SPECIAL_TOKENS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
        return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})

    @classmethod
    def _setup_joint_tokenizer(cls) -> CLIPTokenizer:
        pieces = [
            *LETTERS,
            *(f"{letter}</w>" for letter in LETTERS),
            "<|startoftext|>",
            "<|endoftext|>",
        ]
        tokenizer = CLIPTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
        tokenizer.model_max_length = 77
        return tokenizer


if __name__ == "__main__":
    unittest.main()
