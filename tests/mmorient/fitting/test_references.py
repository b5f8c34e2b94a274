"""Training fills the references: a saved model knows its training rows, and nothing of the others."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from mmorient.commands.train import main
from mmorient.features.fingerprints import model_fingerprint
from mmorient.fitting.references import calibrate_thresholds, fit_votes
from mmorient.fitting.train import build_run, train
from mmorient.prediction.saved_models import load_saved_model
from mmorient.recipes.recipe import parse_recipe
from modeling_mmorient.reference_bank import ReferenceBank
from tests.mmorient.fitting.test_train import frozen_recipe


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_training_rows_become_the_references(tmp_path: Path) -> None:
    main(frozen_recipe(tmp_path, max_steps=2))
    model, processor = load_saved_model(str(tmp_path / "out"))
    rows = read(tmp_path / "memes" / "train.csv")
    bank = model.references
    assert len(bank) == len(rows) and bank.notes == "training rows of train.csv"
    labels = model.config.task_specs["sentiment"].labels
    assert [labels[label] for label in bank.labels["sentiment"]] == [row["sentiment"] for row in rows]
    for graph, statistics in model.reference_statistics().items():
        # Thresholds are those above which nine of ten have a neighbour.
        assert getattr(model.config, f"{graph}_threshold") is not None
        assert 0.02 <= statistics.isolated_share <= 0.18

    # An interrupted prediction does not go on with other references.
    before = model_fingerprint(model, processor)
    model.remove_references([bank.ids[3]])
    assert model_fingerprint(model, processor) != before


def test_texts_alone_become_references(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, max_steps=2)
    for part in ("train", "validation"):
        path = tmp_path / "memes" / f"{part}.csv"
        write(path, [{**row, "image": ""} for row in read(path)])
    main(recipe)
    bank = load_saved_model(str(tmp_path / "out"))[0].references
    assert bank.present["text"].all() and not bank.present["image"].any()


def test_no_training_row_is_its_own_neighbor(tmp_path: Path) -> None:
    recipe = parse_recipe(frozen_recipe(tmp_path))
    run = build_run(recipe)
    run.trainer.fill_references(run.references, None)
    loader = DataLoader(run.trainer.train_dataset, batch_size=16, collate_fn=run.trainer.data_collator)
    model = run.trainer.model.train()
    for number, batch in enumerate(loader):
        own = batch["own_reference"]
        assert torch.equal(own[:, 0], torch.arange(16 * number, 16 * number + len(own)))
        for found in model(**batch, output_neighbors=True).neighbors.values():
            assert not (found.indices == own).any() and (found.degrees() > 0).all()


def test_no_training_row_meets_an_exact_copy_of_itself(tmp_path: Path) -> None:
    """Copies have the row's picture, under whatever name, and its text; their labels are its own too."""
    recipe = parse_recipe(frozen_recipe(tmp_path))
    path = tmp_path / "memes" / "train.csv"
    rows = read(path)
    shutil.copy(path.parent / rows[0]["image"], path.parent / "copy.png")
    write(path, [*rows, {**rows[0], "image": "copy.png"}, rows[5], rows[0], {**rows[1], "text": "other"}])
    run = build_run(recipe)
    first = len(rows)
    own = [list(run.trainer.train_dataset[row].own_references) for row in range(first + 4)]
    assert own[0] == own[first] == own[first + 2] == [0, first, first + 2]
    assert own[5] == own[first + 1] == [5, first + 1]
    assert own[1] == [1] and own[first + 3] == [first + 3]
    run.trainer.fill_references(run.references, None)
    model = run.trainer.model.train()
    batch = run.trainer.data_collator([run.trainer.train_dataset[row] for row in (0, 1, 5)])
    assert batch["own_reference"].tolist() == [own[0] + [-1], [1, -1, -1, -1], own[5] + [-1, -1]]
    for found in model(**batch, output_neighbors=True).neighbors.values():
        for row, places in enumerate((own[0], own[1], own[5])):
            assert not set(found.indices[row].tolist()) & set(places)
    # Nor do votes begin with a row's own label.
    excluded: list[torch.Tensor] = []
    search = type(model.references).search

    def seen(self: ReferenceBank, *args: Any, exclude: torch.Tensor, **options: Any) -> Any:
        excluded.append(exclude)
        return search(self, *args, exclude=exclude, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.references), "search", seen)
        fit_votes(model, run.references.contents)
    assert all(exclude[0].tolist() == own[0] + [-1] for exclude in excluded) and excluded


def test_copies_among_given_references_are_all_excluded(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path)
    rows = read(tmp_path / "memes" / "train.csv")
    write(tmp_path / "memes" / "known.csv", [rows[5], rows[7], rows[5]])
    run = build_run(parse_recipe([*recipe, "--references_file", "known.csv"]))
    own = [list(run.trainer.train_dataset[row].own_references) for row in (5, 6, 7)]
    assert own == [[0, 2], [], [1]]
    batch = run.trainer.data_collator([run.trainer.train_dataset[row] for row in (6, 7)])
    assert batch["own_reference"].tolist() == [[-1], [1]]


def test_references_of_another_table(tmp_path: Path) -> None:
    recipe = frozen_recipe(tmp_path, max_steps=2)
    rows = read(tmp_path / "memes" / "train.csv")
    write(tmp_path / "memes" / "known.csv", [*rows[20:30], {**rows[3], "sentiment": ""}])
    run = build_run(parse_recipe([*recipe, "--references_file", "known.csv"]))
    places = [list(run.trainer.train_dataset[row].own_references) for row in range(len(rows))]
    assert places[20:30] == [[place] for place in range(10)] and places[3] == [10]
    assert not any(place for row, place in enumerate(places) if row != 3 and not 20 <= row < 30)
    run.trainer.fill_references(run.references, None)
    references = run.trainer.model.references
    assert len(references) == 11 and references.labels["sentiment"][10] == -100
    validation = read(tmp_path / "memes" / "validation.csv")
    write(tmp_path / "memes" / "known.csv", [*rows[20:30], validation[0]])
    with pytest.raises(ValueError, match=r"duplicate\(s\) cross the split"):
        build_run(parse_recipe([*recipe, "--references_file", "known.csv"]))


def test_given_thresholds_stay_and_copies_give_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"image_threshold": 0.25, "use_hima_stage2": False, "learner_hidden_sizes": [8]}
    run = build_run(parse_recipe(frozen_recipe(tmp_path, model_options=options)))
    run.trainer.fill_references(run.references, 0.5)
    config = run.trainer.model.config
    assert config.image_threshold == 0.25 and config.text_threshold is not None
    config.text_threshold = None
    bank = run.trainer.model.references
    embeds = {name: bank.embeds(name, torch.arange(len(bank))) for name in ("image", "text")}
    bank.add([f"copy {name}" for name in bank.ids], embeds)
    calibrate_thresholds(run.trainer.model, 0.5)
    assert config.text_threshold is None  # its number of neighbours is left
    assert "the text graph gets no threshold" in caplog.text


def test_votes_begin_where_they_say_most(tmp_path: Path) -> None:
    run = build_run(parse_recipe(frozen_recipe(tmp_path)))
    run.trainer.fill_references(run.references, None)
    model = run.trainer.model
    before = model.votes.weights.clone()
    # One task that neighbours know everything about, and one that they know nothing about.
    bank = model.references
    nearest = bank.search("text", bank.embeds("text", torch.arange(len(bank))), k=1).indices[:, 0]
    assert len(nearest) == len(bank)
    shuffled = torch.randint(0, 3, (len(bank),), generator=torch.Generator().manual_seed(0))
    bank.labels["sentiment"].copy_(shuffled)
    fit_votes(model, run.references.contents)
    assert not torch.equal(model.votes.weights, before)
    assert model.votes.weights[:, 0].abs().max() < 0.5
    assert all(parameter.grad is None for parameter in model.votes.parameters())


def test_encoders_that_are_trained_fill_the_references_afterwards(tmp_path: Path) -> None:
    options = {"freeze_encoders": False, "learner_hidden_sizes": [8], "hima_hidden_size": 4}
    recipe = parse_recipe(frozen_recipe(tmp_path, model_options=options, max_steps=2))
    run = build_run(recipe)
    assert "own_reference" not in run.trainer.data_collator([run.trainer.train_dataset[0]])
    train(run, recipe)
    model = run.trainer.model.eval()
    assert len(model.references) == len(run.trainer.train_dataset)
    batch = run.trainer.data_collator([run.trainer.train_dataset[row] for row in range(4)])
    batch.pop("labels")
    with torch.no_grad():
        embeds = model.encode(**batch).image_embeds
    torch.testing.assert_close(
        model.references.embeds("image", torch.arange(4)), embeds, atol=1e-5, rtol=1e-4
    )
