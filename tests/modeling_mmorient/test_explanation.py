"""Explanations say what the model did, number by number."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, ViTImageProcessorPil

from mmorient.fitting.assemble import train_tokenizer
from modeling_mmorient import MMOrientProcessor
from modeling_mmorient.explanation import _words, explain

TEXTS = ["one does not simply walk", None, "brace yourselves, memes are coming"]


@pytest.fixture(scope="module")
def processor():
    tokenizer = train_tokenizer([text for text in TEXTS if text], 45)
    images = ViTImageProcessorPil(size={"height": 64, "width": 64})
    return MMOrientProcessor(image_processor=images, tokenizer=tokenizer, text_max_length=16)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(2)] + [
        None
    ]


@pytest.fixture
def model(make_model, make_inputs, make_labels):
    model = make_model("vision", graph_scope="references")
    model.add_references(
        make_inputs("vision", 8, seed=2), [f"m{row}" for row in range(8)], make_labels(8, seed=2)
    )
    return model


def test_explanations_are_of_the_models_own_answers(model, processor, pictures):
    rows = explain(model, processor, pictures, TEXTS)
    inputs = dict(processor(images=pictures, text=TEXTS, return_tensors="pt"))
    with torch.no_grad():
        output = model(**inputs, output_neighbors=True)
    likely = model.probabilities(output.logits)
    answers = model.decisions(likely)
    for row, explained in enumerate(rows):
        for task, spec in model.config.task_specs.items():
            own = explained.tasks[task]
            assert list(own.probabilities) == list(spec.labels)
            torch.testing.assert_close(torch.tensor(list(own.probabilities.values())), likely[task][row])
            if spec.kind == "multilabel":
                assert own.decision == [
                    name for name, holds in zip(spec.labels, answers[task][row], strict=True) if holds
                ]
            else:
                assert own.decision == [spec.labels[answers[task][row]]]
            for graph, votes in own.votes.items():
                expected = output.neighbors[graph].votes[task][row]
                torch.testing.assert_close(torch.tensor(list(votes.values())), expected)
        for graph, neighbors in explained.neighbors.items():
            assert [neighbor.id for neighbor in neighbors] == output.neighbors[graph].ids[row]
            assert all(neighbor.weight == pytest.approx(1 / (len(neighbors) + 1)) for neighbor in neighbors)


def test_what_is_missing_has_no_explanation(model, processor, pictures):
    first, no_text, no_picture = explain(model, processor, pictures, TEXTS)
    assert no_text.words is None and not no_text.neighbors["text"]
    assert no_picture.region_attention is None and not no_picture.neighbors["image"]
    assert first.neighbors["text"] and first.neighbors["image"]


def test_attention_lies_on_a_grid_and_on_words(model, processor, pictures):
    first, *_ = explain(model, processor, pictures, TEXTS)
    grid = torch.tensor(first.region_attention)
    assert grid.shape[0] == grid.shape[1] and grid.sum().item() == pytest.approx(1, abs=1e-5)
    assert [word for word, _ in first.words] == TEXTS[0].split()
    total = sum(weight for _, weight in first.words)
    assert 0 < total < 1  # the rest is that of special tokens
    with torch.no_grad():
        inputs = processor(images=pictures, text=TEXTS, return_tensors="pt")
        weights = model(**inputs, output_attentions=True).token_attention[0]
    offsets = processor.tokenizer(TEXTS[0], return_offsets_mapping=True)["offset_mapping"]
    for word, weight in first.words:
        start = TEXTS[0].index(word)
        inside = [
            w
            for (a, b), w in zip(offsets, weights.tolist(), strict=False)
            if start <= a < b <= start + len(word)
        ]
        assert weight == pytest.approx(sum(inside), abs=1e-6)


def test_contributions_are_what_ablation_changes(model, processor, pictures):
    first, *_ = explain(model, processor, pictures, TEXTS)
    inputs = processor(images=pictures, text=TEXTS, return_tensors="pt")
    with torch.no_grad():
        fused = model.mmorient(**inputs).pooler_output
        whole = model.heads(model.learner(fused))
        fused[:, model.config.hima_dim :] = 0
        rest = model.heads(model.learner(fused))
    branches = set(model.config.branch_widths) | {"votes picture graph", "votes text graph"}
    for task, explained in first.tasks.items():
        assert set(explained.contributions) == branches
        assert whole[task].shape == rest[task].shape
    hidden, start = model.config.graph_hidden_size, model.config.hima_dim
    with torch.no_grad():
        fused = model.mmorient(**inputs).pooler_output
        fused[:, start + hidden : start + 2 * hidden] = 0  # in-modal text
        rest = model.heads(model.learner(fused))
    for task, explained in first.tasks.items():
        given = torch.tensor(list(explained.contributions["in-modal text"].values()))
        torch.testing.assert_close(given, (whole[task] - rest[task])[0], atol=1e-5, rtol=1e-4)


def test_nonsense_is_refused(model, processor, pictures):
    with pytest.raises(ValueError, match="training mode"):
        explain(model.train(), processor, pictures, TEXTS)
    with pytest.raises(ValueError, match="3 images and 1 texts"):
        explain(model.eval(), processor, pictures, TEXTS[:1])


@pytest.mark.parametrize("kind", ["byte level", "metaspace"])
def test_tokens_that_begin_with_the_space_belong_to_the_word_behind_it(kind, processor):
    """Tokenizers as those of ModernBERT and XLM-RoBERTa are."""
    text = "one does not"
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    if kind == "byte level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=60, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    tokenizer.train_from_iterator([text] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    processor = copy.copy(processor)
    processor.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
    spans = processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    weights = torch.tensor([float(start == text.index(" does")) for start, _ in spans])
    assert weights.sum() == 1
    words = _words(processor, text, weights, torch.ones(len(spans), dtype=torch.bool))
    assert words == [(word, float(word == "does")) for word in text.split()]
