"""References on the Hub are those of the model that was pushed last."""

from pathlib import Path

from hub_server import LocalHub, run_python

ROOT = Path(__file__).parents[1]

PUSH = """
import json, sys, tempfile
sys.path.insert(0, sys.argv[1])
import torch
from huggingface_hub import HfApi
from modeling_mmorient import MMOrientConfig, MMOrientForMultitaskClassification as Model

widths = dict(image_embed_dim=4, text_embed_dim=4, region_dim=4, token_dim=4)
widths |= dict(joint_config=None, text_config=None)
sizes = dict(hima_hidden_size=4, graph_hidden_size=4, learner_hidden_sizes=[4])
model = Model(MMOrientConfig(tasks={"humour": ["no", "yes"]}, **widths, **sizes)).eval()
generator = torch.Generator().manual_seed(0)
shapes = {"image_embeds": (3, 4), "text_embeds": (3, 4)}
shapes |= {"region_features": (3, 2, 4), "token_features": (3, 2, 4)}
rows = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
model.add_references(rows, list("abc"))
seen = []

def pushed(push, repository="tester/model"):
    commit = push()
    files = [path for path in HfApi().list_repo_files(repository) if path.startswith("references")]
    known, at_once = (
        list(Model.from_pretrained(repository, revision=name).references.ids) for name in ("main", commit)
    )
    assert known == at_once, at_once
    seen.append([known, len(files)])

def push(**options):
    return model.push_to_hub("tester/model", **options).oid

pushed(push)
model.remove_references(["b"])
pushed(push)
pushed(push)  # as it is there
model.remove_references(["a", "c"])
pushed(lambda: push(commit_message="none"))
model.references = model.new_references()
model.add_references({"text_embeds": torch.ones(1, 4), "token_features": torch.ones(1, 1, 4)}, ["d"])
folder = tempfile.mkdtemp()

def save():
    model.save_pretrained(folder, True, None, True, repo_id="tester/other")
    return "main"

pushed(save, "tester/other")
for options in ({"variant": "fp16"}, {"state_dict": model.state_dict()}):
    try:
        model.save_pretrained(folder, push_to_hub=True, repo_id="tester/other", **options)
    except ValueError as error:
        seen.append(str(error))
print(json.dumps(seen))
"""


def test_superseded_references_do_not_stay(tmp_path: Path) -> None:
    with LocalHub() as hub:
        *pushes, variant, state = run_python(PUSH, str(ROOT), env=hub.environment(tmp_path / "home"))
    assert pushes == [[["a", "b", "c"], 2], [["a", "c"], 2], [["a", "c"], 2], [[], 2], [["d"], 2]]
    assert "['variant']" in variant and "['state_dict']" in state
