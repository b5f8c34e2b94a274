"""A repository holds what a stranger needs, and nothing of the training rows beyond what was chosen."""

import json
import re
import shlex
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubError, LocalHub, run_python
from huggingface_hub import HfApi, ModelCard
from transformers import AutoModel, AutoProcessor

from mmorient import train
from mmorient.commands.publish import main, parse
from mmorient.commands.running import run as run_command
from mmorient.publishing.job import PublishingJob
from mmorient.publishing.manifest import MANIFEST, Published, repository_files
from mmorient.publishing.private_contents import check_contents
from mmorient.publishing.publish import publish
from mmorient.samples.memes import draw_memes
from modeling_mmorient.version import __version__

ROOT = Path(__file__).parents[3]
ANSWER = """
import json, sys
sys.modules["modeling_mmorient"] = sys.modules["mmorient"] = None  # not to be imported
from transformers import AutoModel, AutoProcessor
where = dict(trust_remote_code=True, revision=sys.argv[2])
model = AutoModel.from_pretrained(sys.argv[1], **where)
processor = AutoProcessor.from_pretrained(sys.argv[1], **where)
inputs = processor(images=[sys.argv[3], None], text=["what a lovely day", "so sad"], return_tensors="pt")
print(json.dumps({task: values.tolist() for task, values in model(**inputs).logits.items()}))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("run")
    draw_memes(folder / "memes", rows=72)
    fields = {
        "data_dir": str(folder / "memes"),
        "num_train_epochs": 1,
        "disable_tqdm": True,
        "test_share": 0.2,
    }
    return train(
        "quickstart", output_dir=folder / "run", feature_cache=str(folder / "cache"), **fields
    ).folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Hub of its own, which publications of this process go to."""
    with LocalHub() as hub:
        monkeypatch.setattr(
            "mmorient.publishing.upload.HfApi", partial(HfApi, endpoint=hub.endpoint, token="hf_local")
        )
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield hub


def job(finished: Path, **options: Any) -> PublishingJob:
    return PublishingJob(finished, **{"repo_id": "tester/memes", "license": "cc-by-4.0", **options})


def dry(finished: Path, folder: Path, **options: Any) -> Path:
    publish(job(finished, repo_id=None, dry_run=folder, **options))
    return folder


def logits(hub: LocalHub, home: Path, picture: Path, revision: str = "main", **variables: str) -> Any:
    """What a stranger's process without this package gets."""
    environment = hub.environment(home) | variables
    return run_python(ANSWER, "tester/memes", revision, str(picture), env=environment)


def test_a_repository_holds_what_a_stranger_needs_and_nothing_of_the_rows(
    finished: Path, tmp_path: Path
) -> None:
    folder = dry(finished, tmp_path / "pub")
    files = set(repository_files(folder))
    needed = {
        "README.md",
        "config.json",
        "model.safetensors",
        "modeling_mmorient.py",
        "processor_config.json",
    }
    assert needed | {"references.json", "results.json", "tables.json", "handler.py"} <= files
    assert {"serving/server.py", "serving/requirements.txt", "serving/Dockerfile"} <= files
    assert {"space/app.py", "space/README.md", "space/requirements.txt"} <= files
    # At the root, the public toolkit would install it and break.
    assert "requirements.txt" not in files
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        *(".css", ".j2", ".json", ".md", ".png", ".py", ".safetensors", ".svg", ".txt", "")
    }
    assert not [name for name in files if re.search("splits|recipe|run.json|^report|lock|checkpoint", name)]
    everything = b"".join((folder / name).read_bytes() for name in files)
    digests = (finished / "splits.csv").read_text().splitlines()[1:]
    for secret in (str(finished.parent), *(line.rpartition(",")[2] for line in digests)):
        assert secret.encode() not in everything
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["package_version"] == __version__
    assert manifest["files"] == {name: vars(Published.of((folder / name).read_bytes())) for name in files}


def test_a_dry_run_replaces_its_own_folder_and_no_other(finished: Path, tmp_path: Path) -> None:
    folder = dry(finished, tmp_path / "pub")
    before = {name: (folder / name).read_bytes() for name in repository_files(folder)}
    dry(finished, folder)
    assert {name: (folder / name).read_bytes() for name in repository_files(folder)} == before
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds files that no dry run wrote, \['mine.txt'\]"):
        dry(finished, folder)
    assert (folder / "mine.txt").read_text() == "mine"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="other is not empty, and no dry run wrote it"):
        dry(finished, tmp_path / "other")


def test_a_dry_run_that_ends_early_leaves_the_folder_as_it_was(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dry(finished, tmp_path / "pub")
    before = {name: (folder / name).read_bytes() for name in repository_files(folder)}
    copy = shutil.copytree

    def fails(source: Any, target: Any, *args: Any, **options: Any) -> Any:
        if Path(target).name == "new":
            copy(source / "space", target, *args, **options)
            raise OSError("no space left on device")
        return copy(source, target, *args, **options)

    monkeypatch.setattr(shutil, "copytree", fails)
    with pytest.raises(OSError, match="no space"):
        dry(finished, folder)
    assert {name: (folder / name).read_bytes() for name in repository_files(folder)} == before
    assert [path.name for path in tmp_path.iterdir()] == ["pub"]


@pytest.mark.slow
def test_a_space_is_published_beside_the_model(finished: Path, hub: LocalHub) -> None:
    said = publish(job(finished, space="tester/demo")).splitlines()
    assert said[-2].startswith("published: ") and said[-1].startswith("Space: ")
    space = hub.repos["space", "tester/demo"]
    assert len(space.commits) == 2
    files = {path: blob.data for path, blob in space.commits[space.resolve("main")].items()}
    beside = hub.files("tester/memes")
    assert files == {
        name.removeprefix("space/"): data for name, data in beside.items() if name.startswith("space/")
    }
    assert b'MODEL = "tester/memes"' in files["app.py"] and b"license: cc-by-4.0" in files["README.md"]
    assert b"https://huggingface.co/spaces/tester/demo" in beside["README.md"]
    # Again: its own files are replaced, others stay.
    HfApi(endpoint=hub.endpoint, token="hf_local").upload_file(
        path_or_fileobj=b"mine", path_in_repo="mine.txt", repo_id="tester/demo", repo_type="space"
    )
    publish(job(finished, space="tester/demo"))
    assert space.commits[space.resolve("main")]["mine.txt"].data == b"mine"
    with pytest.raises(ValueError, match="--space is 'a/b/c'"):
        publish(job(finished, space="a/b/c"))


def test_the_card_s_metadata_is_what_was_measured(finished: Path, tmp_path: Path) -> None:
    options = {"datasets": ["drawn"], "language": ["en", "de"]}
    folder = dry(finished, tmp_path / "pub", **options)
    card, results = ModelCard.load(folder / "README.md"), json.loads((folder / "results.json").read_text())
    data = card.data
    assert results["training"]["device"] == "CPU" and "minutes on CPU, with" in card.text
    assert (data.library_name, data.pipeline_tag, data.license) == (
        *("transformers", "image-classification", "cc-by-4.0"),
    )
    assert (data.language, data.datasets, data.metrics) == (["en", "de"], ["drawn"], ["accuracy", "f1"])
    assert data.get("base_model") is None
    measured = {(result.task_name, result.metric_type): result.metric_value for result in data.eval_results}
    for task, scores in results["test"]["tasks"].items():
        assert measured[task, "f1"] == round(scores["macro_f1"], 4)
        assert f"| {task} | {scores['macro_f1']:.3f} |" in card.text
        without = [
            results["published"][name]["tasks"][task]["macro_f1"]
            for name in ("without_image", "without_text")
        ]
        row = " | ".join(f"{value:.3f}" for value in (scores["macro_f1"], *without))
        assert f"| {task} | macro-F1 | {row} |" in card.text
        linear, interval = results["published"]["linear"][task], scores["macro_f1_interval"]
        beside = f"{scores['macro_f1']:.3f} | {interval[0]:.3f} to {interval[1]:.3f} | {linear:.3f}"
        assert f"| {task} | macro-F1 | {beside} |" in card.text
    model = AutoModel.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    for example in data.widget:
        (answers,) = model.label(processor, images=[folder / example["src"]], text=[None])
        shares = {
            f"{task}: {label}": share
            for task, found in answers.items()
            for label, share in found.probabilities.items()
        }
        assert {entry["label"]: entry["score"] for entry in example["output"]} == pytest.approx(
            shares, abs=1e-4
        )
    for path in re.findall(r"!\[.*?\]\((.*?)\)", card.text):
        assert (folder / path).read_text().startswith("<svg xmlns=")


@pytest.mark.parametrize("references", ["embeddings", "none"])
def test_with_fewer_references_the_scores_are_those_of_what_is_published(
    references: str, finished: Path, tmp_path: Path
) -> None:
    folder = dry(finished, tmp_path / "pub", references=references)
    model, whole = (AutoModel.from_pretrained(path).eval() for path in (folder, finished))
    if references == "none":
        assert not len(model.references)
    else:
        assert model.references.ids == whole.references.ids
        assert all((labels == -100).all() for labels in model.references.labels.values())
    results = json.loads((folder / "results.json").read_text())["published"]
    assert results["references"] == references
    card = (folder / "README.md").read_text()
    for task, scores in results["test"]["tasks"].items():
        assert f"| {task} | {scores['macro_f1']:.3f} |" in card and scores["rows"] > 0
    assert "scored again with what is published" in card
    assert ("None: the model answers without neighbours" in card) == (references == "none")


def test_rows_that_are_gone_are_missed_only_where_they_are_needed(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(finished, moved)
    recipe = (moved / "recipe.yaml").read_text()
    (moved / "recipe.yaml").write_text(recipe.replace(str(finished.parent / "memes"), "nowhere"))
    (note, _) = publish(job(moved, repo_id=None, dry_run=tmp_path / "pub")).splitlines()
    assert "was not measured: the rows are not at hand" in note
    assert note in " ".join((tmp_path / "pub" / "README.md").read_text().split())
    with pytest.raises(
        ValueError, match=r"scores are to be measured again, and the rows .* cannot be read again"
    ):
        dry(moved, tmp_path / "other", references="none")
    (moved / "recipe.yaml").write_text(recipe.replace("seed: 1", "seed: 2"))
    with pytest.raises(ValueError, match=r"test rows that .*recipe.yaml names are others now"):
        dry(moved, tmp_path / "other", references="none")
    (moved / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match=r"there is no .*recipe.yaml, which tells where the rows are"):
        dry(moved, tmp_path / "other", references="embeddings")
    assert not (tmp_path / "other").exists()


def test_training_rows_are_shown_only_where_that_is_asked_for(finished: Path, tmp_path: Path) -> None:
    folder = dry(finished, tmp_path / "pub", examples_from_training=True)
    assert (folder / "report" / "index.html").is_file()


@pytest.mark.slow
def test_a_stranger_loads_it_and_an_old_revision_answers_as_it_did(
    finished: Path, hub: LocalHub, tmp_path: Path
) -> None:
    picture = next((finished.parent / "memes" / "images").iterdir())
    publish(job(finished))
    first = list(hub.repos["model", "tester/memes"].commits)[-1]
    assert len(hub.repos["model", "tester/memes"].commits) == 2  # the Hub's own, and one
    HfApi(endpoint=hub.endpoint, token="hf_local").upload_file(
        path_or_fileobj=b"mine", path_in_repo="mine.txt", repo_id="tester/memes"
    )
    answered = logits(hub, tmp_path / "home", picture)
    model, processor = AutoModel.from_pretrained(finished).eval(), AutoProcessor.from_pretrained(finished)
    inputs = processor(images=[picture, None], text=["what a lovely day", "so sad"], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits
    for task, values in expected.items():
        torch.testing.assert_close(torch.tensor(answered[task]), values, atol=1e-5, rtol=1e-4)
    before = hub.files("tester/memes")
    publish(job(finished, references="none"))
    files = hub.files("tester/memes")
    assert files["mine.txt"] == b"mine"
    assert files.keys() & before.keys() >= {"README.md", "config.json"}
    assert not [name for name in before if name.startswith("references-") and name in files]
    assert logits(hub, tmp_path / "home", picture) != answered
    assert logits(hub, tmp_path / "home", picture, first) == answered
    assert logits(hub, tmp_path / "home", picture, first, HF_HUB_OFFLINE="1") == answered


@pytest.mark.slow
def test_the_code_on_the_card_runs(finished: Path, hub: LocalHub, tmp_path: Path) -> None:
    publish(job(finished))
    (tmp_path / "home").mkdir()
    shutil.copy(next((finished.parent / "memes" / "images").iterdir()), tmp_path / "home" / "meme.png")
    card = hub.files("tester/memes")["README.md"].decode()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        alone = 'import sys\nsys.modules["modeling_mmorient"] = sys.modules["mmorient"] = None\n'
        code = f"{alone}{block}\nprint(1)"
        assert run_python(code, env=hub.environment(tmp_path / "home")) == 1


@pytest.mark.parametrize(("page", "number"), [("publishing", 2), ("demo", 2)])
def test_the_commands_of_the_docs_run(
    page: str, number: int, finished: Path, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(finished)
    text = (ROOT / "docs" / f"{page}.md").read_text()
    commands = re.findall(r"^mmorient publish (.*)$", text, re.MULTILINE)
    for command in commands:
        main(shlex.split(command, comments=True))
    assert (tmp_path / "published" / MANIFEST).is_file() and len(commands) == number
    files = hub.files("me/mmorient-quickstart")
    assert set(files) == {MANIFEST, *repository_files(tmp_path / "published")}
    assert (("space", "me/mmorient-demo") in hub.repos) == (page == "demo")


@pytest.mark.slow
def test_files_of_others_are_not_lost(finished: Path, hub: LocalHub) -> None:
    api = HfApi(endpoint=hub.endpoint, token="hf_local")
    api.create_repo("tester/memes")

    def put(name: str, content: bytes) -> None:
        api.upload_file(path_or_fileobj=content, path_in_repo=name, repo_id="tester/memes")

    put("README.md", b"my own card")
    with pytest.raises(ValueError, match=r"that this one would lose: \['README.md'\]. Rename them there, or"):
        publish(job(finished))
    assert set(hub.files("tester/memes")) == {"README.md"}
    publish(job(finished, replace=True))
    publish(job(finished))
    put("config.json", b"{}")
    with pytest.raises(ValueError, match=r"\['config.json'\]"):
        publish(job(finished))
    put(MANIFEST, b"[]")
    with pytest.raises(ValueError, match=r"published.json in tester/memes is not what a publication writes"):
        publish(job(finished))


def test_who_commits_meanwhile_is_not_overwritten(
    finished: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = HfApi(endpoint=hub.endpoint, token="hf_local")
    publish(job(finished))

    def meanwhile(*arguments: Any) -> None:
        api.upload_file(path_or_fileobj=b"theirs", path_in_repo="theirs.txt", repo_id="tester/memes")

    monkeypatch.setattr("mmorient.publishing.upload._check_ownership", meanwhile)
    before = hub.files("tester/memes")
    with pytest.raises(ValueError, match="was not published, and is as it was: somebody else changed it"):
        publish(job(finished, references="none"))
    assert hub.files("tester/memes") == {**before, "theirs.txt": b"theirs"}


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["lfs_upload", "commit", "preupload"])
def test_a_hub_that_fails_in_the_middle_keeps_the_old_revision(
    failing: str, finished: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(job(finished))
    before, refused = hub.files("tester/memes"), []

    def fail(*arguments: Any, **values: Any) -> Any:
        refused.append(values)
        raise HubError(400, "no room left")

    monkeypatch.setattr("hub_server._Handler." + failing, fail)
    routes = [
        (methods, path, fail if route.__name__ == failing else route) for methods, path, route in _routes()
    ]
    monkeypatch.setattr("hub_server.ROUTES", routes)
    with pytest.raises(ValueError, match=r"was not published, and is as it was: .* Try again"):
        publish(job(finished, references="embeddings"))
    assert refused and hub.files("tester/memes") == before


def _routes() -> Any:
    import hub_server

    return hub_server.ROUTES


def test_what_must_not_be_published_stops_it(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    results = json.loads((run / "results.json").read_text())
    results["arguments"]["vision"] = str(tmp_path / "weights" / "vit")
    (run / "results.json").write_text(json.dumps(results))
    folder = dry(run, tmp_path / "pub")
    assert json.loads((folder / "results.json").read_text())["arguments"]["vision"] == "vit"
    results["arguments"]["tasks"]["note"] = "hf_" + "a" * 34
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"results.json holds what looks like a token of the Hub"):
        dry(run, folder)
    assert json.loads((folder / "results.json").read_text())["arguments"]["vision"] == "vit"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sub/weights.pt", "", "sub/weights.pt may be a pickle"),
        (
            "config.json",
            '{"text": {"_name_or_path": "/home/me/bert"}}',
            "'/home/me/bert' in text._name_or_path",
        ),
        ("a.json", '{"a": ["C:\\\\Users\\\\me\\\\bert"]}', r"names a folder of this machine, .* in a\[0\]"),
        ("README.md", f"hf_{'a' * 34}", "README.md holds what looks like a token"),
    ],
)
def test_what_must_not_be_published_is_found(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"labels": ["/s", "a/b", "https://a.b/c"]}')
    (tmp_path / "tokenizer.json").write_text('{"vocab": {"/usr/lib": 1}, "merges": ["/usr/lib/x"]}')
    check_contents(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        check_contents(tmp_path)


def test_a_model_that_nobody_scored_says_so(finished: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(finished).save_pretrained(tmp_path / "model")
    AutoProcessor.from_pretrained(finished).save_pretrained(tmp_path / "model")
    folder = dry(tmp_path / "model", tmp_path / "pub")
    assert "Nothing was scored" in (folder / "README.md").read_text()
    assert ModelCard.load(folder / "README.md").data.eval_results is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["run", "--license", "mit"],
            "nowhere to publish to: give --repo_id OWNER/NAME, or --dry_run FOLDER",
        ),
        (["run", "--repo_id", "a/b"], "the following arguments are required: --license"),
        (["run", "--license", " ", "--repo_id", "a/b"], "--license is empty"),
    ],
)
def test_arguments_that_do_not_fit(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(argv)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing", "--license", "mit", "--repo_id", "a/b"], "error: there is no folder nothing"),
        (["tests", "--license", "mit", "--repo_id", "a/b/c"], "error: --repo_id is 'a/b/c'"),
    ],
)
def test_runs_and_repositories_that_cannot_be(
    argv: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=re.escape(message)):
        run_command(main, argv)
