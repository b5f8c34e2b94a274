"""The references split over two and three processes; what each finds, beside the whole bank's."""

from datetime import timedelta

import pytest
import torch
from torch import distributed, multiprocessing

from modeling_mmorient import MMOrientForMultitaskClassification, searched_references
from modeling_mmorient.features import EncodedFeatures
from modeling_mmorient.reference_bank import ReferenceBank
from modeling_mmorient.reference_embeds import STORAGE_DTYPES
from modeling_mmorient.reference_graph import find_copies
from modeling_mmorient.reference_shards import ShardedReferences
from modeling_mmorient.task_specs import parse_tasks
from tests.modeling_mmorient.test_reference_bank import neighbor_sum

pytestmark = pytest.mark.slow

DIM, SIZE = 5, 101
# Each process's number of queries.
QUERIES = [9, 0, 4]
SEARCHES = {
    "nearest": {"k": 7},
    "nearest above": {"k": 4, "threshold": 0.6},
    "all above": {"threshold": 0.6},
    "none above": {"threshold": 1.0},
    "all": {"k": SIZE + 5},
}


def make_bank(dtype="float32", size=SIZE):
    """Few directions, so that ties are many and cross the parts; a zero vector and missing ones."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(30, DIM, generator=generator)[torch.randint(30, (size,), generator=generator)]
    texts[2:3] = 0.0
    images = torch.randn(size, 3, generator=generator)
    present = {"text": torch.arange(size) % 10 != 4, "image": torch.arange(size) % 7 != 1}
    present["image"] |= ~present["text"]
    tasks = parse_tasks({"humour": ["no", "yes"]})
    bank = ReferenceBank(3, DIM, tasks, dtype)
    labels = {"humour": torch.arange(size) % 2}
    bank.add([f"r{place}" for place in range(size)], {"text": texts, "image": images}, present, labels)
    return bank


def queries_of(rank, bank):
    """Queries, who has them, and the places of those that are references."""
    generator = torch.Generator().manual_seed(100 + rank)
    count = QUERIES[rank]
    queries = torch.randn(count, DIM, generator=generator)
    exclude = torch.full((count,), -1)
    exclude[count // 2 :] = torch.randint(size=(count - count // 2,), high=len(bank), generator=generator)
    queries[count // 2 :] = bank.embeds("text", exclude[count // 2 :])
    present = torch.arange(count) != 1
    queries[~present] = torch.nan
    return queries, present, exclude


def find(bank, rank, whole):
    """All that a process asks of its bank, by name."""
    queries, present, exclude = queries_of(rank, whole)
    found = {}
    for name, options in SEARCHES.items():
        neighbors = bank.search("text", queries, present, **options, exclude=exclude)
        total, number = neighbor_sum(bank, "image", neighbors)
        found[name] = [neighbors.indices, neighbors.similarities, total, number]
    found["without exclude"] = [bank.search("text", queries, present, k=3).indices]
    empty = bank.search("text", queries[:0], k=3)
    found["no queries"] = [empty.indices, *neighbor_sum(bank, "text", empty)]
    places = torch.arange(rank, SIZE, 17)
    found["embeds"] = [bank.embeds("image", places), bank.embeds("text", places)]
    own = bank.embeds("text", places)
    known = bank.present["text"][places]

    def sought(number, among):
        return bank.neighbors("text", own[:number], known[:number], 6, 0.1, among[:number])

    of_references = [sought(number, places) for number in (2, 2, 5)]
    # Some processes say of several references that they are the row, and others of one.
    several = torch.stack([places, *[places.roll(1)] * (rank + 1)], -1)
    of_references += [sought(5, several), sought(5, several)]
    # One process seeks neighbours of references, and the others those of queries.
    if rank == 1:
        mixed = sought(len(places), places)
    else:
        mixed = bank.search("text", queries, present, k=6, threshold=0.1)
    of_references.append(mixed)
    has = {name: values[places] for name, values in bank.present.items()}
    nothing = torch.zeros(len(places), 1, 1), torch.zeros(len(places), 1, dtype=torch.bool)
    embeds = bank.embeds("image", places), own
    equal = find_copies(bank, EncodedFeatures(*embeds, *nothing, *nothing, has["image"], has["text"]))
    found["copies"] = [equal]
    found["references"] = [tensor for each in of_references for tensor in (each.indices, each.similarities)]
    found["facts"] = [
        bank.labels["humour"],
        bank.present["text"],
        bank.searchable("text"),
        bank.indices(["r9"]),
    ]
    found["counts"] = [bank.label_counts["humour"], torch.tensor(len(bank))]
    return found


def complaint(call):
    with pytest.raises(ValueError) as raised:
        call()
    return str(raised.value)


def complaints(bank, rank):
    """What a process is told of calls that do not fit, its own or another's."""
    queries = torch.ones(2, DIM)
    wrong = queries[:, :2] if rank == 1 else queries
    said = {
        "wrong": complaint(lambda: bank.search("text", wrong, k=2)),
        "differ": complaint(lambda: bank.search("text", queries, k=2 + rank)),
        "place": complaint(lambda: bank.embeds("text", torch.tensor([SIZE if rank == 0 else 0]))),
    }
    for name, arguments in {
        "add": (["new"], {"text": torch.ones(1, DIM)}),
        "remove": (["r0"],),
        "replace": (["r0"], {"text": torch.ones(1, DIM)}),
        "with_tasks": ({},),
        "save": ("folder",),
    }.items():
        said[name] = complaint(lambda name=name, arguments=arguments: getattr(bank, name)(*arguments))
    bank.search("text", queries, k=2)  # all of them go on together
    return said


def process(rank, processes, folder):
    """One of the processes; it leaves what it found in a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", timedelta(seconds=60), processes, rank)
    found = {}
    for dtype in STORAGE_DTYPES:
        whole = make_bank(dtype)
        found[dtype] = find(ShardedReferences(whole), rank, whole)
    sharded = ShardedReferences(make_bank())
    found["own rows"] = len(sharded._references.embeds["text"])
    found["complaints"] = complaints(sharded, rank)
    sharded.build_index("text", "Flat")
    found["index"] = sharded.search("text", queries_of(rank, make_bank())[0].nan_to_num(), k=5).indices
    tiny = ShardedReferences(make_bank(size=1))
    found["tiny"] = tiny.search("text", torch.ones(QUERIES[rank], DIM), k=2).indices
    searched_references.BLOCK_NODES = 14
    found["blocks"] = find(ShardedReferences.load(f"{folder}/bank"), rank, make_bank())
    model = MMOrientForMultitaskClassification.from_pretrained(f"{folder}/model")
    model.references = ShardedReferences(model.references)
    inputs = torch.load(f"{folder}/inputs.pt", weights_only=True)
    with torch.no_grad():
        logits = model(**{name: values[rank : rank + 2] for name, values in inputs.items()}).logits
    found["logits"] = dict(logits)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def run(request, tmp_path_factory, make_model, make_inputs):
    """What each process found, and the model's answers in this one."""
    folder = tmp_path_factory.mktemp("processes")
    make_bank().save(folder / "bank")
    model = make_model("features", graph_scope="references")
    # A number that leaves the parts beginning anywhere in memory.
    model.add_references(make_inputs("features", 37, seed=5), [f"m{place}" for place in range(37)])
    model.save_pretrained(folder / "model")
    inputs = make_inputs("features", 5, seed=6)
    torch.save(inputs, folder / "inputs.pt")
    multiprocessing.spawn(process, (request.param, str(folder)), request.param)
    found = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]
    with torch.no_grad():
        parts = [{name: values[rank : rank + 2] for name, values in inputs.items()} for rank in range(3)]
        return found, [model(**part).logits for part in parts[: request.param]]


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        for own, wanted in zip(found[name], values, strict=True):
            assert own.shape == wanted.shape and own.dtype == wanted.dtype, name
            # To the last bit, of zero's sign too.
            assert own.numpy().tobytes() == wanted.numpy().tobytes(), name


@pytest.mark.parametrize("dtype", STORAGE_DTYPES)
def test_every_process_finds_what_the_whole_bank_finds(run, dtype):
    whole = make_bank(dtype)
    for rank, found in enumerate(run[0]):
        assert_equal(found[dtype], find(whole, rank, whole))


def test_a_saved_bank_is_split_and_blocks_of_queries_do_not_matter(run):
    whole = make_bank()
    for rank, found in enumerate(run[0]):
        assert_equal(found["blocks"], find(whole, rank, whole))


def test_each_process_keeps_its_part_of_the_embeddings(run):
    parts = [found["own rows"] for found in run[0]]
    assert sum(parts) == SIZE and max(parts) - min(parts) <= 1


def test_processes_may_have_indexes_and_no_references(run):
    for rank, found in enumerate(run[0]):
        queries = queries_of(rank, make_bank())[0].nan_to_num()
        assert torch.equal(found["index"], make_bank().search("text", queries, k=5).indices)
        assert found["tiny"].tolist() == [[0, -1]] * QUERIES[rank]


def test_the_model_answers_as_with_the_whole_bank(run):
    for found, expected in zip(run[0], run[1], strict=True):
        assert all(torch.equal(found["logits"][name], values) for name, values in expected.items())


def test_calls_that_do_not_fit_are_refused_by_all_processes(run):
    for rank, found in enumerate(run[0]):
        said = found["complaints"]
        wrong = "`queries` has the shape (2, 2)" if rank == 1 else "process 1 was given arguments that do not"
        assert wrong in said["wrong"]
        assert f"search('text', k={2 + rank}, threshold=None), and others" in said["differ"]
        assert ("they are 0 to 100" if rank == 0 else "process 0 was given") in said["place"]
        for edit in ("add", "remove", "replace", "with_tasks", "save"):
            assert "edit or save the whole, and make ShardedReferences of it again" in said[edit]


def test_a_single_process_keeps_all():
    whole = make_bank()
    sharded = ShardedReferences(whole)
    assert_equal(find(sharded, 0, whole), find(whole, 0, whole))
    assert "ShardedReferences(101 references, float32" in repr(sharded) and "range(0, 101)" in repr(sharded)
