"""Predictions that depend on a row and the references alone, and references that travel with the model."""

import math
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn

from modeling_mmorient import (
    MMOrientConfig,
    MMOrientForMultitaskClassification,
    MMOrientModel,
    referenced_model,
)
from modeling_mmorient.reference_bank import ReferenceBank
from tests.modeling_mmorient.known_models import IDS

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["features", "vision", "joint"]


def row_of(inputs, row):
    return {name: values[row : row + 1] for name, values in inputs.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_references_change_predictions_and_votes_add_to_them(kind, make_known, make_model, make_inputs):
    inputs = make_inputs(kind)
    known = make_known(kind)
    alone = make_model(kind, graph_scope="references")
    assert len(known.references) == 12 and len(alone.references) == 0
    with torch.no_grad():
        expected, given = alone(**inputs).logits, known(**inputs, output_neighbors=True)
        for task, logits in given.logits.items():
            assert not torch.allclose(logits, expected[task])
        known.votes.weights.zero_()
        without = known(**inputs).logits
    for task, logits in given.logits.items():
        added = sum(found.votes[task] for found in given.neighbors.values())
        assert added.abs().max() > 1e-3
        torch.testing.assert_close(without[task] + added, logits)


def pool_of_rows(make_inputs, kind, rows=40):
    """Rows of which some lack a modality."""
    missing = torch.rand(rows, generator=torch.Generator().manual_seed(0))
    presence = {"image_present": missing > 0.2, "text_present": missing < 0.8}
    return make_inputs(kind, rows, seed=1) | presence


@torch.no_grad()
def answers_alone(model, pool):
    rows = range(len(pool["image_present"]))
    return [{task: v[0] for task, v in model(**row_of(pool, row)).logits.items()} for row in rows]


@torch.no_grad()
def largest_difference(model, pool, alone, pairings, seed):
    """Of a row's logits in random batches of 1 to 64 rows in any order, with repeats and more padding."""
    generator = torch.Generator().manual_seed(seed)
    done, worst = 0, 0.0
    while done < pairings:
        size = int(torch.randint(1, 65, (), generator=generator))
        order = torch.randint(0, len(alone), (size,), generator=generator)
        batch = {name: values[order] for name, values in pool.items()}
        extra = int(torch.randint(0, 4, (), generator=generator))
        if extra and "token_features" in batch:  # at the end of the text
            batch["token_features"] = nn.functional.pad(batch["token_features"], (0, 0, 0, extra), value=5.0)
            batch["attention_mask"] = nn.functional.pad(batch["attention_mask"], (0, extra))
        for task, values in model(**batch).logits.items():
            expected = torch.stack([alone[row][task] for row in order.tolist()])
            worst = max(worst, (values - expected).abs().max().item())
        done += size
    return worst


# Fewer neighbours than references: else everyone has all of them, whatever the search finds.
FEW = {"image_neighbors": 3, "text_neighbors": 2}


@pytest.mark.parametrize(
    ("kind", "pairings"),
    [("features", 8000), ("vision", 200), pytest.param("vision", 2000, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("use_votes", [True, False])
def test_a_row_gets_the_same_answer_in_any_batch(kind, pairings, use_votes, make_known, make_inputs):
    model, pool = make_known(kind, use_votes=use_votes, **FEW), pool_of_rows(make_inputs, kind)
    assert largest_difference(model, pool, answers_alone(model, pool), pairings, seed=0) <= 1e-5


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=60), 2, rank)
    model = MMOrientForMultitaskClassification.from_pretrained(folder)
    given = torch.load(f"{folder}/given.pt", weights_only=True)
    worst = largest_difference(model, given["pool"], given["alone"], 1000, seed=rank)
    torch.save(worst, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_answers_of_one(make_known, make_inputs, tmp_path):
    model, pool = make_known(**FEW), pool_of_rows(make_inputs, "features")
    model.save_pretrained(tmp_path)
    torch.save({"pool": pool, "alone": answers_alone(model, pool)}, tmp_path / "given.pt")
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    assert max(torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)) <= 1e-5


def votes_by_hand(model, found, row, graph, task):
    """The formula, one number after the other, for tasks without class weights."""
    number = ["image", "text"].index(graph)
    sharpness, smoothing = model.votes.log_sharpness[number].exp(), model.votes.log_smoothing[number].exp()
    labels, spec = model.references.labels[task], model.config.task_specs[task]
    classes = range(spec.num_labels)
    known = [label for label in labels.tolist() if label != -100]
    prior = [(known.count(c) + 1) / (len(known) + spec.num_labels) for c in classes]
    places = [place for place in found.indices[row].tolist() if place >= 0]
    nearest = found.similarities[row, 0].item() if places else 0.0
    total, voted = smoothing.item(), [smoothing.item() * p for p in prior]
    for column, place in enumerate(places):
        if labels[place] != -100:
            weight = math.exp(sharpness.item() * (found.similarities[row, column].item() - nearest))
            voted[int(labels[place])] += weight
            total += weight
    learned = model.votes.weights[number, list(model.config.task_specs).index(task)].item()
    return [learned * math.log(v / total / p) for v, p in zip(voted, prior, strict=True)]


@pytest.mark.parametrize("neighbors", [2, 5])
def test_votes_match_plain_python(neighbors, make_known, make_inputs):
    model = make_known(image_neighbors=neighbors, text_neighbors=neighbors, text_threshold=0.1)
    with torch.no_grad():
        found = model(**make_inputs(), output_neighbors=True).neighbors
    for graph in ("image", "text"):
        places = found[graph].indices.tolist()
        assert found[graph].ids == [[IDS[place] for place in row if place >= 0] for row in places]
        for task in ("sentiment", "humour"):
            expected = [votes_by_hand(model, found[graph], row, graph, task) for row in range(6)]
            torch.testing.assert_close(found[graph].votes[task], torch.tensor(expected))
            shares = found[graph].vote_weights[task]
            assert (shares.sum(-1) < 1).all() and not shares[found[graph].indices < 0].any()


ABOUT = {"labels": ["politics", "animals"], "kind": "multilabel"}


def test_votes_on_several_labels_match_plain_python(make_known, make_inputs):
    model = make_known(image_neighbors=4, tasks={"about": {**ABOUT, "class_weights": [3.0, 0.5]}})
    with torch.no_grad():
        found = model(**make_inputs(), output_neighbors=True).neighbors["image"]
    labels = model.references.labels["about"]
    sharpness, smoothing = (v[0].exp().item() for v in (model.votes.log_sharpness, model.votes.log_smoothing))
    learned = model.votes.weights[0, 0].item()
    for row in range(6):
        cosines, places = found.similarities[row].tolist(), found.indices[row].tolist()
        closeness = [math.exp(sharpness * (cosine - cosines[0])) for cosine in cosines]
        shares = [0.0] * 4
        for label, weight in enumerate((3.0, 0.5)):
            column = labels[:, label].tolist()
            having, without = weight * column.count(1) + 1, column.count(0) + 1
            prior = having / (having + without)
            counted = {1: weight, 0: 1.0, -100: 0.0}
            weights = [near * counted[column[place]] for near, place in zip(closeness, places, strict=True)]
            yes, no = smoothing * prior, smoothing * (1 - prior)
            for rank, place in enumerate(places):
                yes += weights[rank] * (column[place] == 1)
                no += weights[rank] * (column[place] == 0)
                shares[rank] += weights[rank] / (sum(weights) + smoothing) / 2
            expected = math.log(yes / no) - math.log(prior / (1 - prior))
            assert found.votes["about"][row, label].item() == pytest.approx(learned * expected, abs=1e-5)
        assert found.vote_weights["about"][row].tolist() == pytest.approx(shares, abs=1e-5)


def test_balanced_classes_vote_alike_however_frequent_they_are(make_known, make_inputs):
    """With the loss's class weights v / p is that of references with as many of each class."""
    tasks = {"side": {"labels": ["left", "right"], "class_weights": [12 / 18, 12 / 6]}}
    model = make_known(tasks=tasks, image_neighbors=12)
    labels = torch.tensor([0] * 9 + [1] * 3)
    model.replace_references(make_inputs("features", 12, seed=7), IDS, {"side": labels})
    with torch.no_grad():
        model.votes.log_sharpness.fill_(-40.0)  # all neighbours count alike
        found = model(**make_inputs(), output_neighbors=True).neighbors["image"]
    torch.testing.assert_close(found.votes["side"], torch.zeros(6, 2), atol=1e-2, rtol=0)


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_a_reference_is_not_its_own_neighbor(threshold, make_known, make_inputs):
    options = {"image_threshold": threshold, "image_neighbors": None if threshold == 0.0 else 2}
    model = make_known(**options)
    inputs = {**make_inputs("features", 12, seed=7), "image_present": torch.arange(12) != 3}
    own = torch.arange(12)
    with torch.no_grad():
        for _ in range(2):  # sought, and remembered
            found = model(**inputs, own_reference=own, output_neighbors=True).neighbors
            assert not (found["text"].indices == own.unsqueeze(-1)).any()
            assert not (found["image"].indices == own.unsqueeze(-1)).any()
            assert (found["image"].indices[3] == -1).all() and not found["image"].similarities[3].any()
        itself = model(**inputs, output_neighbors=True).neighbors
        assert torch.equal(itself["text"].indices[:, 0], own)
        some = own.clone()
        some[5:] = -1
        mixed = model(**inputs, own_reference=some, output_neighbors=True).neighbors["text"]
    assert torch.equal(mixed.indices[:5], found["text"].indices[:5])
    assert torch.equal(mixed.indices[5:], itself["text"].indices[5:])
    with pytest.raises(ValueError, match=r"`own_reference` has the value 12"):
        model(**inputs, own_reference=own + 1)


def test_what_is_remembered_of_a_modality_is_not_taken_for_the_other():
    bank = ReferenceBank(image_embed_dim=6, text_embed_dim=6)
    bank.add(IDS, {"image": torch.randn(12, 6), "text": torch.randn(12, 6)})
    queries, present, own = torch.randn(12, 6), torch.ones(12, dtype=torch.bool), torch.arange(12)
    for modality in ("image", "text"):  # with the same embeddings of a row in both
        found = bank.neighbors(modality, queries, present, 2, None, own)
        sought = bank.search(modality, queries, k=2, exclude=own)
        assert torch.equal(found.indices, sought.indices)


def test_training_sees_the_neighbors_that_evaluation_sees(make_known, make_inputs, make_labels):
    model, inputs = make_known(use_hima_stage2=False), make_inputs()
    with torch.no_grad():
        expected = model(**inputs, output_neighbors=True).neighbors
    output = model.train()(
        **inputs, labels=make_labels(), output_neighbors=True, output_degree_statistics=True
    )
    for graph, found in output.neighbors.items():
        assert torch.equal(found.indices, expected[graph].indices)
        assert torch.equal(output.degree_statistics[graph].degrees, found.degrees())
    output.loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.votes.parameters())


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_in_training_rows_are_no_neighbors_of_references_that_equal_them(dtype, make_known, make_inputs):
    """A plain `Trainer` does not say which references its rows are."""
    model = make_known(reference_dtype=dtype, use_hima_stage2=False, modality_dropout=0.0)
    rows = {**make_inputs("features", 12, seed=7), "image_present": torch.arange(12) != 3}
    model.add_references(row_of(rows, 5), ["copy"])
    own = torch.stack([torch.arange(12), torch.full((12,), -1)], -1)
    own[5, 1] = 12
    rows["text_embeds"][8] = rows["text_embeds"][9]  # with the picture of one and the text of another: none
    own[8] = -1
    with torch.no_grad():
        evaluated = model(**rows, output_neighbors=True).neighbors
        model.train()
        told = model(**rows, own_reference=own, output_neighbors=True).neighbors
        found = model(**rows, output_neighbors=True).neighbors
    assert evaluated["text"].indices[:, 0].tolist() == [*range(8), 9, *range(9, 12)]
    for graph, neighbors in found.items():
        assert torch.equal(neighbors.indices, told[graph].indices)
    assert {5, 12}.isdisjoint(found["image"].indices[5].tolist()) and found["text"].indices[8, 0] == 9


@pytest.mark.parametrize("remembered", [False, True])
def test_health_is_that_of_the_rows_that_have_the_modality(remembered, make_known, make_inputs):
    inputs = {**make_inputs("features", 12, seed=7), "image_present": torch.arange(12) != 3}
    own = torch.arange(12)

    def health(**options):
        model = make_known(**{"image_neighbors": 16, "text_neighbors": 16, **options})
        with torch.no_grad():
            if remembered:
                model(**inputs, own_reference=own)
            return model(**inputs, own_reference=own, output_degree_statistics=True).degree_statistics

    everyone = health()  # each row's neighbours are all others
    for graph, number in (("image", 11), ("text", 12)):
        assert everyone[graph].mean_degree == number - 1
        assert everyone[graph].isolated_share == 0.0 and everyone[graph].complete_share == 1.0
    assert everyone["image"].degrees.tolist() == [10] * 3 + [-1] + [10] * 8
    nobody = health(image_threshold=0.999, text_threshold=0.999)
    for graph in ("image", "text"):
        assert nobody[graph].mean_degree == 0.0
        assert nobody[graph].isolated_share == 1.0 and nobody[graph].complete_share == 0.0
    few = health(image_neighbors=9)["image"]
    assert few.mean_degree == 9.0 and few.isolated_share == few.complete_share == 0.0


def test_without_references_every_parameter_still_gets_a_gradient(
    make_model, make_inputs, make_labels, caplog
):
    model = make_model(graph_scope="references").train()
    model(**make_inputs(), labels=make_labels()).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(parameter.grad.any() for parameter in model.votes.parameters())


def test_missing_modalities_and_zero_vectors_have_no_neighbors(make_known, make_inputs):
    model, inputs = make_known(), make_inputs()
    inputs["image_present"] = torch.arange(6) != 0
    inputs["text_embeds"][1] = 0.0
    inputs["image_embeds"][0] = math.nan
    with torch.no_grad():
        output = model(**inputs, output_neighbors=True)
    assert output.neighbors["image"].degrees().tolist() == [0, 2, 2, 2, 2, 2]
    assert output.neighbors["text"].degrees().tolist() == [2, 0, 2, 2, 2, 2]
    assert output.neighbors["image"].ids[0] == [] and output.neighbors["image"].weights[0].sum() == 0
    assert not output.neighbors["image"].votes["sentiment"][0].any()
    assert all(logits.isfinite().all() for logits in output.logits.values())


def test_g_is_the_exact_softmax_over_the_references(make_known, make_inputs):
    model = make_known()
    inputs = {**make_inputs("features", 12, seed=7), "image_present": torch.arange(12) != 3}

    def expected(rows):
        vectors = model.mmorient.hima.vectors(model.encode(**{n: v[rows] for n, v in inputs.items()}))
        present = {"image": inputs["image_present"][rows], "text": torch.ones(len(rows), dtype=torch.bool)}
        for modality in ("image", "text"):
            attention = getattr(model.mmorient.hima, modality).batch_bias.attention
            yield modality, attention(vectors[modality], present[modality])[0]

    with torch.no_grad():
        for modality, g in expected(torch.arange(12)):
            running = getattr(model.mmorient.hima, modality).batch_bias.running_g
            torch.testing.assert_close(running, g, atol=1e-6, rtol=1e-5)
        model.remove_references(IDS[:5])
        for modality, g in expected(torch.arange(5, 12)):
            running = getattr(model.mmorient.hima, modality).batch_bias.running_g
            torch.testing.assert_close(running, g, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_references_are_saved_and_loaded_with_the_model(kind, dtype, make_known, make_inputs, tmp_path):
    model, inputs = make_known(kind, reference_dtype=dtype), make_inputs(kind)
    model.save_pretrained(tmp_path)
    again = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    base = MMOrientModel.from_pretrained(tmp_path)
    assert again.references.ids == base.references.ids == tuple(IDS)
    assert again.references.dtype == dtype
    with torch.no_grad():
        for task, logits in model(**inputs).logits.items():
            torch.testing.assert_close(again(**inputs).logits[task], logits, atol=1e-6, rtol=1e-6)
        fused = model.mmorient(**inputs).pooler_output
        torch.testing.assert_close(base(**inputs).pooler_output, fused, atol=1e-6, rtol=1e-6)
    again.remove_references(IDS)
    again.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("references*"))) == 2  # of none
    assert len(MMOrientForMultitaskClassification.from_pretrained(tmp_path).references) == 0


def test_altered_references_stop_the_loading(make_known, tmp_path):
    make_known().save_pretrained(tmp_path)
    (path,) = tmp_path.glob("references-*.safetensors")
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:-1] + b"x", b""):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"references-.*(bytes|SHA-256)"):
            MMOrientForMultitaskClassification.from_pretrained(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="put the two files together"):
        MMOrientForMultitaskClassification.from_pretrained(tmp_path)


def test_references_of_another_width_are_refused(make_known, make_model, make_config):
    model = make_known()
    other = MMOrientForMultitaskClassification(
        MMOrientConfig(
            joint_config=None, text_config=None, tasks=make_config().tasks, learner_hidden_sizes=[4]
        )
    )
    with pytest.raises(ValueError, match="image features 7 wide, and the model's are 512 wide"):
        other.references = model.references


def test_labels_of_other_tasks_are_left_out_with_a_warning(make_known, make_config, tmp_path, caplog):
    make_known().save_pretrained(tmp_path)
    tasks = {"sentiment": ["negative", "neutral", "positive"], "humour": ["no", "yes"]}
    model = MMOrientForMultitaskClassification.from_pretrained(
        tmp_path, tasks=tasks, ignore_mismatched_sizes=True
    )
    assert (model.references.labels["sentiment"] != -100).any()
    assert (model.references.labels["humour"] == -100).all() and "about" not in model.references.labels


def test_labelled_examples_teach_without_training(make_model, make_inputs):
    """Near-copies of newly labelled rows get their answers; forgetting the rows takes them back."""
    torch.manual_seed(0)
    model, taught = (
        make_model(graph_scope="references", image_neighbors=4, text_neighbors=4),
        make_inputs(seed=8),
    )
    background = make_inputs("features", 60, seed=9)
    generator = torch.Generator().manual_seed(1)
    model.add_references(
        background,
        [f"b{number}" for number in range(60)],
        {"sentiment": torch.randint(0, 3, (60,), generator=generator)},
    )
    with torch.no_grad():
        model.votes.weights.fill_(2.0)
        near = {
            name: v + 0.01 * torch.randn(v.shape) if v.is_floating_point() else v
            for name, v in taught.items()
        }
        before = model(**near).logits["sentiment"]
        wrong = before.argmin(-1)  # what the model deems least likely is what it is told
        # Two examples of each, as a new template comes in several copies.
        model.add_references(taught, [f"n{row}" for row in range(6)], {"sentiment": wrong})
        model.add_references(near, [f"c{row}" for row in range(6)], {"sentiment": wrong})
        after = model(**near).logits["sentiment"]
        gained = after.log_softmax(-1).gather(1, wrong.unsqueeze(-1)) > before.log_softmax(-1).gather(
            1, wrong.unsqueeze(-1)
        )
        assert gained.all()
        assert (after.argmax(-1) == wrong).float().mean() > 0.6 > (before.argmax(-1) == wrong).float().mean()
        model.remove_references([f"{kind}{row}" for kind in "nc" for row in range(6)])
        torch.testing.assert_close(model(**near).logits["sentiment"], before)


KILLED = """
import sys, torch
sys.path.insert(0, {root!r})
from modeling_mmorient import MMOrientForMultitaskClassification
model = MMOrientForMultitaskClassification.from_pretrained({folder!r})
bank = model.references
print("ready", flush=True)
number = 0
while True:
    number += 1
    bank.add([f"new{{number}}"], {{"text": torch.randn(1, bank.widths["text"])}})
    model.save_references({folder!r})
"""


@pytest.mark.slow
def test_an_edit_that_is_killed_leaves_the_old_or_the_new_references(make_known, tmp_path):
    make_known(use_hima_stage2=False).save_pretrained(tmp_path)
    generator = torch.Generator().manual_seed(0)
    numbers = []
    for _ in range(4):
        script = KILLED.format(root=str(ROOT), folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        delay = 0.2 + float(torch.rand((), generator=generator)) / 3
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        model = MMOrientForMultitaskClassification.from_pretrained(tmp_path)
        assert model.references.ids[:12] == tuple(IDS)
        numbers.append(len(model.references) - 12)
        assert len(list(tmp_path.glob("references*"))) == 2
        model.remove_references(model.references.ids[12:])
        model.save_references(tmp_path)
    assert max(numbers) > 0


def test_scope_and_votes_of_a_configuration():
    assert MMOrientConfig().graph_scope == "references" and MMOrientConfig().use_votes is True
    trained = MMOrientConfig(freeze_encoders=False)
    assert trained.graph_scope == "batch" and trained.use_votes is False
    assert MMOrientConfig(use_in_modal=False, use_cross_modal=False).use_votes is False
    with pytest.raises(ValueError, match=r"`graph_scope` is 'references' but `freeze_encoders` is False"):
        MMOrientConfig(graph_scope="references", freeze_encoders=False)
    with pytest.raises(ValueError, match=r"`use_votes` is True"):
        MMOrientConfig(graph_scope="batch", use_votes=True)
    for field, value in (("graph_scope", "world"), ("reference_dtype", "int4"), ("use_votes", "yes")):
        with pytest.raises(ValueError, match=f"`{field}` is '{value}'"):
            MMOrientConfig(**{field: value})


@pytest.fixture
def heard(monkeypatch):
    """`heard(function)`: the warnings of a call."""
    texts = []
    monkeypatch.setattr(referenced_model.logger, "warning", texts.append)

    def run(function):
        texts.clear()
        function()
        return " ".join(texts)

    return run


@pytest.mark.parametrize("stage2", [True, False])
def test_a_state_dict_says_which_references_it_lacks(make_known, make_model, heard, tmp_path, stage2):
    options = {"use_hima_stage2": stage2}
    known, empty = make_known(**options), make_model(graph_scope="references", **options)
    torch.save(known.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    for load in (weights, known.state_dict()):
        text = heard(lambda load=load: empty.load_state_dict(load))
        assert (
            "saved with 12 references" in text and "has no references" in text and "from_pretrained" in text
        )
    assert "12 references" in heard(
        lambda: torch.nn.ModuleDict({"x": empty}).load_state_dict(
            torch.nn.ModuleDict({"x": known}).state_dict()
        )
    )
    assert not heard(lambda: known.load_state_dict(weights))
    assert not heard(lambda: empty.load_state_dict(empty.state_dict()))
    assert "has 12 references" in heard(lambda: known.load_state_dict(empty.state_dict()))
    known.remove_references(["m3"])
    text = heard(lambda: known.load_state_dict(weights))
    assert "saved with 12 references" in text and "has 11 references" in text


def test_weights_of_a_saved_folder_say_that_references_belong_to_them(
    make_known, make_model, heard, tmp_path
):
    make_known().save_pretrained(tmp_path / "known")
    empty = make_model(graph_scope="references")
    weights = load_file(tmp_path / "known" / "model.safetensors")
    text = heard(lambda: empty.load_state_dict(weights))
    assert "saved with some references" in text and "has no references" in text
    assert not heard(lambda: type(empty).from_pretrained(tmp_path / "known"))
    make_model(graph_scope="references").save_pretrained(tmp_path / "empty")
    assert not heard(lambda: empty.load_state_dict(load_file(tmp_path / "empty" / "model.safetensors")))


def test_degree_statistics_of_references_go_by_their_old_name_too(make_known):
    model = make_known()
    found, expected = model.reference_health(), model.reference_statistics()
    assert set(found) == {"image", "text"}
    assert all(torch.equal(found[graph].degrees, expected[graph].degrees) for graph in expected)
