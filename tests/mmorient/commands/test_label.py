"""Labelling one meme: the answers are the model's decisions, for tasks of every kind."""

import re
from pathlib import Path

import pytest
import torch

from mmorient.commands.label import main
from mmorient.commands.running import run
from mmorient.prediction.saved_models import load_saved_model
from tests.mmorient.conftest import draw
from tests.mmorient.predicting import broken_model, save_model, texts


def test_answers_are_the_models_decisions(saved_model: Path, tmp_path: Path) -> None:
    model, processor = load_saved_model(str(saved_model))
    seen = set()
    for seed, text in enumerate(texts(12)):
        draw(seed).save(tmp_path / "meme.png")
        answers = model.label(processor, str(tmp_path / "meme.png"), text)[0]
        inputs = processor(images=[tmp_path / "meme.png"], text=[text], return_tensors="pt")
        with torch.no_grad():
            probabilities = model.probabilities(model(**inputs).logits)
        decisions = model.decisions(probabilities)
        for task, spec in model.config.task_specs.items():
            chosen, shares = answers[task].labels, answers[task].probabilities
            assert list(shares) == list(spec.labels)
            assert list(shares.values()) == pytest.approx(probabilities[task][0].tolist())
            if spec.kind == "multilabel":
                expected = [
                    label for label, holds in zip(spec.labels, decisions[task][0], strict=True) if holds
                ]
            else:
                expected = [spec.labels[int(decisions[task])]]
            assert chosen == expected
            seen.add((task, *chosen))
    assert len(seen) > 3  # one answer for everything would prove little


def test_every_task_is_printed_in_a_line(saved_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(saved_model), "--text", "the cat votes"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["mood", "about", "funny"]
    share = r"\S+ \d\.\d\d( (>|<=) \d\.\d{3})?"
    assert all(re.fullmatch(rf"\w+: .+  \(({share}, )*{share}\)", line) for line in lines)


def test_labels_stand_beside_the_thresholds_that_decide_them(
    saved_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(saved_model), "--text", "the cat votes"])
    about = capsys.readouterr().out.splitlines()[1]
    found = re.findall(r"(\w+) (0\.\d\d) (>|<=) (0\.\d{3})", about)
    assert [(label, limit) for label, _, _, limit in found] == [("politics", "0.490"), ("animals", "0.510")]
    chosen = about.partition(":")[2].partition("  (")[0]
    assert all((sign == ">") == (label in chosen) for label, _, sign, _ in found)
    # Of two labels a fitted threshold decides about the second; without one there is nothing to show.
    fitted = save_model(tmp_path / "fitted", {"funny": {"labels": ["no", "yes"], "thresholds": [0.3]}})
    main([str(fitted), "--text", "the cat votes"])
    assert re.search(r"\(no \d\.\d\d, yes \d\.\d\d (>|<=) 0\.300\)", capsys.readouterr().out)
    plain = save_model(tmp_path / "plain", {"about": {"labels": ["a", "b"], "kind": "multilabel"}})
    main([str(plain), "--text", "the cat votes"])
    assert capsys.readouterr().out.count("0.500") == 2


def test_what_is_not_a_number_is_no_answer(tmp_path: Path) -> None:
    model = broken_model(tmp_path / "model")
    with pytest.raises(ValueError, match="logits of task 'mood' are not finite"):
        main([str(model), "--text", "the cat votes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "give --image, --text or both"),
        (["MODEL", "--image", "nowhere.png"], "nowhere.png"),
        (["nowhere", "--text", "words"], "nowhere"),
    ],
)
def test_errors_are_short(
    saved_model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, [str(saved_model) if argument == "MODEL" else argument for argument in arguments])
    said = f"{caught.value}\n{capsys.readouterr().err}"
    assert message in said and "Traceback" not in said
