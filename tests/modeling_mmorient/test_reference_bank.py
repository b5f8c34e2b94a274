import math

import pytest
import torch

from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_embeds import STORAGE_DTYPES
from modeling_mmorient.reference_graph import ReferenceNeighborhood, calibrate_threshold, degree_statistics
from modeling_mmorient.task_specs import parse_tasks

TASKS = parse_tasks(
    {
        "humour": {"labels": ["no", "some", "much"], "kind": "ordinal"},
        "topics": {"labels": ["cats", "politics"], "kind": "multilabel"},
    }
)


def random_embeds(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randn(size, 4, generator=generator),
        "text": torch.randn(size, 3, generator=generator),
    }


def filled_bank(size=6, dtype="float32"):
    bank = ReferenceBank(4, 3, TASKS, dtype=dtype, notes="drawn at random")
    present = {"image": torch.arange(size) != 1, "text": torch.arange(size) != 2}
    labels = {"humour": torch.arange(size) % 3, "topics": torch.ones(size, 2, dtype=torch.long)}
    bank.add([f"r{i}" for i in range(size)], random_embeds(size), present, labels)
    return bank


def contents(bank):
    """All that a bank holds, as plain values."""
    everything = torch.arange(len(bank))
    return (
        bank.ids,
        {name: bank.embeds(name, everything).tolist() for name in bank.widths},
        {name: values.tolist() for name, values in bank.present.items()},
        {name: values.tolist() for name, values in bank.labels.items()},
        bank.indices(bank.ids).tolist(),
    )


def test_references_are_kept_as_they_were_given():
    bank, embeds = filled_bank(), random_embeds(6)
    assert len(bank) == 6 and bank.ids == ("r0", "r1", "r2", "r3", "r4", "r5")
    expected = embeds["image"].clone()
    expected[1] = 0.0  # it lacks a picture
    assert torch.equal(bank.embeds("image", torch.arange(6)), expected)
    assert bank.labels["humour"].tolist() == [0, 1, 2, 0, 1, 2]
    assert bank.searchable("text").tolist() == [0, 1, 3, 4, 5]
    assert bank.indices(["r4", "unknown", "r0"]).tolist() == [4, -1, 0]


def test_the_fingerprint_is_that_of_all_but_the_notes():
    def fingerprint(**changed):
        embeds = {name: values.clone() for name, values in random_embeds(3).items()}
        embeds["text"][1, 2] += changed.get("shift", 0.0)
        given = {"notes": "here", "ids": ["a", "b", "c"], "label": 1, "has": True} | changed
        bank = ReferenceBank(4, 3, TASKS, notes=given["notes"])
        labels = {"humour": torch.tensor([0, given["label"], 2])}
        present = {"image": torch.tensor([True, True, given["has"]])}
        bank.add(given["ids"], embeds, present, labels)
        return bank.fingerprint()

    assert fingerprint() == fingerprint(notes="there")
    changes = [{"shift": 1e-3}, {"label": 2}, {"ids": ["a", "b", "d"]}, {"has": False}]
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 5


def test_what_is_left_out_is_missing_or_not_known():
    bank = filled_bank()
    bank.add(["new"], {"text": torch.ones(1, 3)})
    assert bank.present["image"][-1].item() is False and bank.present["text"][-1].item() is True
    assert bank.labels["humour"][-1] == -100 and bank.labels["topics"][-1].tolist() == [-100, -100]


def test_adding_in_parts_is_adding_at_once():
    whole, parts = ReferenceBank(4, 3), ReferenceBank(4, 3)
    embeds = random_embeds(9)
    ids = [f"r{i}" for i in range(9)]
    whole.add(ids, embeds)
    for start in (0, 2, 6):
        stop = {0: 2, 2: 6, 6: 9}[start]
        parts.add(ids[start:stop], {name: values[start:stop] for name, values in embeds.items()})
    assert contents(parts) == contents(whole)


def test_removing_what_was_added_brings_the_bank_back():
    bank = filled_bank()
    before = contents(bank)
    bank.add(["x", "y"], random_embeds(2, seed=1))
    bank.remove(["y", "x"])
    assert contents(bank) == before
    bank.remove(list(bank.ids))
    assert len(bank) == 0 and bank.search("text", torch.ones(2, 3), k=3).degrees().tolist() == [0, 0]


def test_replacing_keeps_places_and_changes_all_else():
    bank, new = filled_bank(), random_embeds(2, seed=1)
    before = contents(bank)
    bank.replace(["r4", "r1"], new, labels={"humour": torch.tensor([2, -100])})
    assert bank.ids == before[0]
    assert torch.equal(bank.embeds("text", torch.tensor([4, 1])), new["text"])
    assert bank.labels["humour"].tolist() == [0, -100, 2, 0, 2, 2]
    assert bank.labels["topics"].tolist() == [[1, 1], [-100, -100], [1, 1], [1, 1], [-100, -100], [1, 1]]
    assert bank.present["image"].all()
    others = torch.tensor([0, 2, 3, 5])
    assert bank.embeds("image", others).tolist() == [before[1]["image"][i] for i in others]


def test_the_bank_keeps_nothing_of_the_caller_s_tensors():
    bank = ReferenceBank(4, 3)
    embeds, has = random_embeds(5), torch.ones(5, dtype=torch.bool)
    bank.add([f"r{i}" for i in range(5)], embeds, {"text": has})
    before = contents(bank)
    embeds["text"].zero_()
    has.zero_()
    assert contents(bank) == before


ONE_TEXT = {"text": torch.ones(1, 3)}
WRONG = {
    "there is a reference 'r3' already": (["r3"], random_embeds(1), None, None),
    "`ids` holds 'a' twice": (["a", "b", "a"], random_embeds(3), None, None),
    "`ids` holds '' at 1": (["a", ""], random_embeds(2), None, None),
    r"`ids` holds 'b\\ud83d' at 1": (["a", "b\ud83d"], random_embeds(2), None, None),
    "`ids` holds 7 at 0": ([7], random_embeds(1), None, None),
    "`ids` is 'a': give a list": ("a", random_embeds(1), None, None),
    r"`embeds\['text'\]` has the shape \(2, 3\): give \(1, 3\)": (
        ["a"],
        {"text": torch.ones(2, 3)},
        None,
        None,
    ),
    r"`embeds\['text'\]` has the shape \(1, 4\): give \(1, 3\)": (
        ["a"],
        {"text": torch.ones(1, 4)},
        None,
        None,
    ),
    r"`embeds\['text'\]` is torch.int64: give a tensor of a floating-point": (
        ["a"],
        {"text": torch.ones(1, 3).long()},
        None,
        None,
    ),
    r"`embeds\['text'\]` is a list: give a tensor": (["a"], {"text": [[1.0, 2.0, 3.0]]}, None, None),
    r"`embeds` has the modality 'sound': give tensors of \['image', 'text'\]": (
        ["a"],
        {"sound": torch.ones(1, 3)},
        None,
        None,
    ),
    "reference 'b' has 'text' that is not finite": (
        ["a", "b"],
        {"text": torch.tensor([[1.0] * 3, [1, math.nan, 1]])},
        None,
        None,
    ),
    "reference 'a' has 'image' that is .* larger than 2e": (
        ["a"],
        {"image": torch.full((1, 4), 1e300, dtype=torch.double)},
        None,
        None,
    ),
    r"`present` has the modality 'image': give tensors of \['text'\]": (
        ["a"],
        ONE_TEXT,
        {"image": torch.tensor([True])},
        None,
    ),
    r"`present\['text'\]` is torch.float32: give a tensor of bool": (
        ["a"],
        ONE_TEXT,
        {"text": torch.ones(1)},
        None,
    ),
    r"`present\['text'\]` has the shape \(2,\): give \(1,\)": (
        ["a"],
        ONE_TEXT,
        {"text": torch.ones(2, dtype=torch.bool)},
        None,
    ),
    "reference 'b' has neither an image nor a text": (
        ["a", "b"],
        {"text": torch.ones(2, 3)},
        {"text": torch.tensor([True, False])},
        None,
    ),
    "`labels` has the task 'mood'": (["a"], random_embeds(1), None, {"mood": torch.tensor([0])}),
    r"`labels\['humour'\]` has the value 3": (["a"], random_embeds(1), None, {"humour": torch.tensor([3])}),
    r"`labels\['topics'\]` has the shape \(1,\)": (
        ["a"],
        random_embeds(1),
        None,
        {"topics": torch.tensor([1])},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused_and_the_bank_stays_as_it_was(message):
    bank = filled_bank()
    before = contents(bank)
    with pytest.raises(ValueError, match=message):
        bank.add(*WRONG[message])
    assert contents(bank) == before
    ids, *rest = WRONG[message]
    if all(name in bank.ids for name in ids):
        return  # `replace` wants them to be there
    with pytest.raises(ValueError):
        bank.replace(ids, *rest)
    assert contents(bank) == before


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_not_finite_is_refused_however_it_is_stored(dtype, value):
    bank = filled_bank(dtype=dtype)
    before, embeds = contents(bank), torch.ones(2, 3, dtype=torch.float64)
    embeds[1, 2] = value
    with pytest.raises(ValueError, match="reference 'b' has 'text' that is not finite, larger than"):
        bank.add(["a", "b"], {"text": embeds})
    assert contents(bank) == before
    bank.add(["a", "b"], {"text": embeds, "image": torch.ones(2, 4)}, {"text": torch.tensor([True, False])})


@pytest.mark.parametrize("edit", ["remove", "replace"])
def test_unknown_and_repeated_ids_are_refused(edit):
    bank = filled_bank()
    before = contents(bank)
    for ids, message in ((["r0", "nobody"], "no reference 'nobody'"), (["r1", "r1"], "'r1' twice")):
        with pytest.raises(ValueError, match=message):
            getattr(bank, edit)(ids, *([random_embeds(2)] if edit == "replace" else []))
    assert contents(bank) == before


def test_settings_and_searches_that_do_not_fit_are_refused():
    for arguments, message in (
        ((0, 3), "`image_embed_dim` is 0"),
        ((4, True), "`text_embed_dim` is True"),
        ((4, 3, None, "float64"), "`dtype` is 'float64': choose one of"),
        ((4, 3, None, "int8", None), "`notes` is None"),
    ):
        with pytest.raises(ValueError, match=message):
            ReferenceBank(*arguments)
    bank, queries = filled_bank(), torch.ones(2, 3)
    for arguments, message in (
        ({"modality": "sound"}, "`modality` is 'sound'"),
        ({"queries": torch.ones(2, 4)}, r"`queries` has the shape \(2, 4\): give \(any, 3\)"),
        ({"queries": queries * math.inf}, "`queries` is not finite in row 0"),
        ({"present": torch.ones(3, dtype=torch.bool)}, r"`present` has the shape \(3,\)"),
        ({"k": None}, "`k` and `threshold` are both None"),
        ({"k": 0}, "`k` is 0"),
        ({"threshold": 1.5}, "`threshold` is 1.5"),
        ({"threshold": -1.5}, "`threshold` is -1.5"),
        ({"exclude": torch.tensor([0, 6])}, "`exclude` has the value 6: the references' indices are 0 to 5"),
        ({"exclude": torch.tensor([0.0, 1.0])}, "`exclude` is torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            bank.search(**({"modality": "text", "queries": queries, "k": 1} | arguments))


def neighbor_sum(bank, modality, neighbors):
    """Sum of the neighbours' node features and their number."""
    neighborhood = ReferenceNeighborhood(bank, modality, neighbors)
    return neighborhood.weighted_sum(neighborhood.weights)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_neighbors_of_references_are_sought_once_and_anew_for_any_other_question(modality, monkeypatch):
    bank, places = filled_bank(12), torch.arange(12)
    search, sought = bank.search, []

    def count(modality, queries, *rest, **options):
        sought.append(len(queries))
        return search(modality, queries, *rest, **options)

    monkeypatch.setattr(bank, "search", count)
    embeds, own = bank.embeds(modality, places), torch.stack([places, places ^ 1], -1)
    present, everyone = bank.present[modality], torch.ones(12, dtype=torch.bool)
    question = (embeds, present, 2, None, places)
    others = [
        (embeds.flip(0), present, 2, None, places),  # encoders that are trained
        (embeds + 1.0, everyone, 2, None, places),
        (embeds, present, 3, None, places),
        (embeds, present, 2, 0.3, places),
        (embeds, present, 2, None, own),  # with a copy of each
        (embeds[5:9], present[5:9], 2, None, places[5:9]),
    ]
    for asked in (question, question, *others, question):
        found, expected = bank.neighbors(modality, *asked), search(modality, *asked)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(found.similarities, expected.similarities)
    assert sought[:2] == [12, 0]


def test_sum_over_neighbors_matches_plain_python():
    bank = filled_bank(12)
    queries = random_embeds(5, seed=3)["text"]
    found = bank.search("text", queries, k=4, threshold=0.1)
    images = bank.embeds("image", torch.arange(12))
    images = (images - images.mean(-1, keepdim=True)) / (
        images.var(-1, keepdim=True, correction=0) + 1e-5
    ).sqrt()
    total, number = neighbor_sum(bank, "image", found)
    for row, indices in enumerate(found.indices.tolist()):
        having = [index for index in indices if index >= 0 and index != 1]  # r1 lacks a picture
        assert number[row].item() == len(having)
        torch.testing.assert_close(total[row], sum((images[index] for index in having), torch.zeros(4)))
    for row in range(5):
        alone = neighbor_sum(bank, "image", bank.search("text", queries[row : row + 1], k=4, threshold=0.1))
        assert torch.equal(alone[0][0], total[row])


def test_threshold_is_the_quantile_of_nearest_similarities():
    bank = filled_bank(40)
    places = bank.searchable("text")
    unit = torch.nn.functional.normalize(bank.embeds("text", places).double(), dim=-1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).amax(-1)
    for quantile in (0.0, 0.3, 0.9):
        assert calibrate_threshold(bank, "text", quantile) == pytest.approx(float(nearest.quantile(quantile)))
    share = degree_statistics(bank, "text", threshold=calibrate_threshold(bank, "text", 0.25)).isolated_share
    assert 0.2 <= share <= 0.35
    assert calibrate_threshold(bank, "text", 0.5, 10, seed=1) == calibrate_threshold(
        bank, "text", 0.5, 10, seed=1
    )


def test_health_counts_neighbors_among_the_other_references():
    bank = ReferenceBank(4, 2)
    bank.add(["a", "b", "c", "d"], {"text": torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])})
    health = degree_statistics(bank, "text", threshold=0.99)
    assert sorted(health.degrees.tolist()) == [0, 1, 1, 2]
    assert health.mean_degree == 1.0 and health.isolated_share == 0.25 and health.complete_share == 0.0
    assert degree_statistics(bank, "text", k=16).complete_share == 1.0
    assert degree_statistics(bank, "image", k=2).mean_degree == 0.0
    bank.remove(["b", "c"])
    assert degree_statistics(bank, "text", k=16).complete_share == 1.0
    bank.remove(["a"])  # a single one is isolated, not everyone's neighbour
    health = degree_statistics(bank, "text", k=16)
    assert health.isolated_share == 1.0 and health.complete_share == 0.0


def test_thresholds_that_cannot_be_found_are_refused():
    bank = ReferenceBank(4, 2)
    bank.add(["a"], {"text": torch.ones(1, 2)})
    with pytest.raises(ValueError, match="no two references with a text vector"):
        calibrate_threshold(bank, "text", 0.5)
    bank.add(["b"], {"text": torch.ones(1, 2)})
    with pytest.raises(ValueError, match="100% of the references have a copy"):
        calibrate_threshold(bank, "text", 0.5)
    with pytest.raises(ValueError, match="`quantile` is 2"):
        calibrate_threshold(bank, "text", 2)
    with pytest.raises(ValueError, match="`sample` is 0"):
        calibrate_threshold(bank, "text", 0.5, sample=0)
