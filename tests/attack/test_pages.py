"""Pages about a run and about single memes: whatever names and texts hold, a page has the same elements and
attributes as that of harmless ones, is of bounded size, and no character changes how it is read."""

import csv
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import LARGE, Case, amount, check
from matplotlib.figure import Figure

from mmorient.commands import explain, train
from mmorient.explanation.page import MemePage, index_entry, render_index, render_meme
from mmorient.report.report import RunReport, ScoredSplit, write_report
from mmorient.tables.records import Record
from modeling_mmorient.explanation import NeighborExplanation
from modeling_mmorient.task_specs import TaskSpec
from tests.mmorient.conftest import draw
from tests.mmorient.explaining import explanation
from tests.mmorient.fitting.test_train import frozen_recipe
from tests.mmorient.predicting import write_rows
from tests.mmorient.predictions_samples import multi_label, single_label

MARKUP = [
    *(
        '"><script>alert(1)</script>',
        "'><img src=x onerror=alert(1)>",
        '" onmouseover="alert(1)',
        "` onclick=x",
    ),
    *(
        "</style><script>x</script>",
        "</title><b>",
        "</textarea></svg>",
        "<!--",
        "-->",
        "]]>",
        "<![CDATA[",
        "<?x",
    ),
    *(
        "javascript:alert(1)",
        "data:text/html,<b>",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{# #}",
        "&lt;b&gt;",
        "&#60;b&#62;",
    ),
    *(
        "<svg onload=x>",
        "<a href=//x>",
        "<meta http-equiv=refresh content=0>",
        "%3Cb%3E",
        "</bdi></p></li></main>",
    ),
    *(
        "</h1><h1>",
        "<base href=//x>",
        "<wbr>",
        "var(--ink)",
        ";background:url(//x)",
        "\\3c b>",
        "$\\alpha^2$",
        "_" * 9,
    ),
]
CONTROLS = [
    "\x00",
    "\x1b[31m",
    "\x08\x7f",
    "\x85\x9b",
    "\r\n\t",
    "\u2028\u2029",
    "\ufeff",
    "\ufffe\uffff",
    "\ud83d",
]
DIRECTIONS = ["\u202e", "\u202d", "\u202b", "\u2067", "\u2066", "\u200f", "שלום", "مرحبا", "\u202c\u2069"]
OTHERS = [
    "",
    " ",
    "mean",
    "items",
    "__class__",
    "0",
    "nan",
    "-1",
    "👩‍👩‍👧‍👦",
    "ё" * 90,
    "a\u0301" * 30,
    "𝕏" * 9,
]
FRAGMENTS = [*MARKUP, *CONTROLS, *DIRECTIONS, *OTHERS]
# Characters that a reader does not see, or that turn round what follows.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e\ufffe\uffff\ud800-\udfff]")
HUGE = 100_000
# Of this data's harmless page, some 100 kB, and a bounded number of names in it.
LARGEST_PAGE = 3_000_000


def harmless(place: str) -> str:
    return f"some {place}"


def hostile(seed: int) -> Callable[[str], str]:
    """By place, a name of its own of some fragments."""
    return lambda place: (
        f"{place} "
        + "".join(random.Random(f"{seed} {place}").choices(FRAGMENTS, k=random.Random(place).randint(1, 5)))
    )


def of_fragment(fragment: str) -> Callable[[str], str]:
    return lambda place: f"{fragment}{place}{fragment}"


def huge(place: str) -> str:
    return f"{place} " + "ab<" * (HUGE // 3)


class Skeleton(HTMLParser):
    """What a page is made of: tags with their attributes, and the text of its styles.

    Of attributes that are read to a person only the name counts. A break after an underscore and code, which
    texts may ask for, are left out.
    """

    spoken = ("title", "aria-label", "alt", "content")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.parts: list[Any] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside.append(tag)
        if tag in ("wbr", "code"):
            assert not attrs
            return
        self.parts.append((tag, [(name, name in self.spoken or value) for name, value in attrs]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("wbr", "code"):
            self.parts.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "style":
            self.parts.append(data)
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.parts.append(("comment", data))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("declaration", decl))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("instruction", data))

    def unknown_decl(self, data: str) -> None:
        self.parts.append(("unknown", data))


def report_page(folder: Path, name: Callable[[str], str]) -> str:
    """A report of a single-label and a multi-label task, every name and text of which is from `name`."""
    labels = tuple(f"{name(f'label {index}')}{index}" for index in range(3))
    tasks = [single_label(name("task a"), labels), multi_label(name("task m"), labels, seed=1)]
    rows = [Record(f"{name('file')}:{row}", name("picture"), name("text") + "x") for row in range(50)]
    scores = {
        task.spec.name: {"macro_f1": 0.5, "macro_f1_interval": (0.4, 0.6), name("score"): 0.25}
        for task in tasks
    }
    mean = {"macro_f1": 0.5, "majority_macro_f1": 0.25, name("score"): 1}
    by_task = {task.spec.name: task for task in tasks}
    splits = [
        ScoredSplit(name(part), by_task, rows, scores, name("note"), name("table"), mean)
        for part in ("validation", "test")
    ]
    history = [
        {
            "loss": 1.0,
            "epoch": 1.0,
            "eval_loss": 1.0,
            **{f"eval_macro_f1_{task.spec.name}": 0.5 for task in tasks},
        }
    ]
    recipe = {"tasks": {name("task"): [name("label")]}, "list": [name("entry")], "value": name("value")}
    run = RunReport(
        name("run"),
        splits,
        recipe={**recipe, name("key"): None},
        history=history,
        degrees={name("graph"): np.array([0, 1, 2]), "image": np.array([0, 0])},
        versions={name("package"): name("version")},
        notes=[name("first note"), f"`{name('quoted')}` and {name('unquoted')}"],
    )
    write_report(folder, run)
    return (folder / "index.html").read_text(encoding="utf-8")


def explanation_pages(picture: str, name: Callable[[str], str]) -> list[str]:
    """The page of a meme and the list of them, every name and text of which is from `name`."""
    labels = tuple(f"{name(f'label {index}')}{index}" for index in range(3))
    tasks = [name("task a"), name("task m")]
    specs = {
        tasks[0]: TaskSpec(tasks[0], labels),
        tasks[1]: TaskSpec(tasks[1], labels, "multilabel", thresholds=(0.3, 0.5, 0.7)),
    }
    neighbors = [
        NeighborExplanation(
            f"{name('reference')}{index}", 0.5, 0.02, {}, {tasks[0]: labels[0], tasks[1]: [*labels]}
        )
        for index in range(40)
    ]
    found = explanation(
        specs, neighbors={"image": neighbors, name("graph"): neighbors[:1]}, **{tasks[1]: labels}
    )
    found = replace(found, words=[(f"{name(f'word {index}')}", 0.1 * index) for index in range(5)])
    for task, answer in found.tasks.items():
        contributions = {name("branch"): answer.contributions["HIMA text"], **answer.contributions}
        found.tasks[task] = replace(answer, contributions=contributions)
    truth = {tasks[0]: [labels[1]], tasks[1]: [*labels]}
    meme = Record(name("meme"), picture, name("text"))
    page = MemePage("m.html", name("title"), meme, truth, found, specs)
    return [
        render_meme(page, None, None, "before.html", "after.html"),
        render_index(name("heading"), [index_entry(page)]),
    ]


def save_nothing(_figure: Figure, file: Any, **_options: Any) -> None:
    file.write('<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable[[str], str]], list[str]]]:
    """From names to all kinds of pages, in the small run without drawings, which take the most time."""
    folder = tmp_path_factory.mktemp("pages")
    picture = str(folder / "picture.png")
    draw(0).save(picture)
    with pytest.MonkeyPatch.context() as patch:
        if not LARGE:
            patch.setattr(Figure, "savefig", save_nothing)
        yield lambda name: [report_page(folder / "report", name), *explanation_pages(picture, name)]


def compare(render: Callable[..., list[str]], name: Callable[[str], str], plain: list[str]) -> None:
    for kind, page, harmless_page in zip(("report", "meme", "list"), render(name), plain, strict=True):
        found, expected = Skeleton(page).parts, Skeleton(harmless_page).parts
        other = next((pair for pair in zip(found, expected, strict=False) if pair[0] != pair[1]), None)
        check(found == expected, f"the {kind} page has other elements: {other}")
        check(not UNSEEN.search(page), f"the {kind} page holds {UNSEEN.search(page)}")
        size = len(page.encode("utf-8"))
        check(size < LARGEST_PAGE, f"the {kind} page has {size:,} bytes")


@pytest.fixture(scope="module")
def page_case(render: Callable[..., list[str]]) -> Callable[..., Case]:
    """`page_case(title, name, seed)`: pages of such names are compared with those of harmless ones."""
    plain = render(harmless)
    assert all(len(Skeleton(page).parts) > 50 for page in plain)

    def case(title: str, name: Callable[[str], str], seed: int = 0) -> Case:
        return Case("pages", title, seed, "page", lambda: compare(render, name, plain), 60.0)

    return case


def test_no_name_or_text_becomes_markup(page_case: Callable[..., Case], attack: Callable[..., None]) -> None:
    attack(page_case("fragments", hostile(seed), seed) for seed in range(amount(2, 300)))


def test_nothing_in_every_place_becomes_markup(
    page_case: Callable[..., Case], attack: Callable[..., None]
) -> None:
    together = ["".join(MARKUP), "".join(CONTROLS + DIRECTIONS)]
    attack(page_case(repr(one[:20]), of_fragment(one)) for one in (FRAGMENTS if LARGE else together))


def test_pages_of_huge_names_stay_small(page_case: Callable[..., Case], attack: Callable[..., None]) -> None:
    attack([page_case("100 kB", huge)])


def kinds_of_elements(page: str) -> set[Any]:
    """Tags with the names of their attributes."""
    tags = [part for part in Skeleton(page).parts if isinstance(part, tuple) and isinstance(part[1], list)]
    return {(tag, tuple(name for name, _ in attributes)) for tag, attributes in tags}


def test_pages_of_a_whole_run_hold_no_markup_of_its_table(
    tmp_path: Path, attack: Callable[..., None]
) -> None:
    """From a table and a recipe to the pages of `train.py` and `explain.py`."""

    def pages(name: Callable[[str], str], folder: Path) -> list[str]:
        folder.mkdir()
        labels = {value: name(value) for value in ("no", "yes")}
        tasks = {name("task"): {"labels": list(labels.values()), "column": "sarcasm"}}
        recipe = frozen_recipe(folder, rows=36, tasks=tasks, run_name=name("run"))
        for table in (folder / "memes").glob("*.csv"):
            with table.open(newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                row.update(text=f"{row['text']} {name('text')}", sarcasm=labels.get(row["sarcasm"], ""))
            write_rows(table, rows)
        recipe += ["--output_dir", str(folder / name("out").replace("/", "")[:80])]
        recipe += ["--feature_cache", str(folder / "cache")]
        train.main(recipe)
        explain.main([recipe[2], str(folder / "pages"), recipe[0], "--rows", "0-3"])
        return [
            path.read_text(encoding="utf-8")
            for path in (Path(recipe[2]) / "report" / "index.html", *sorted((folder / "pages").iterdir()))
        ]

    def whole_run(seed: int) -> None:
        # Neither a table nor a folder can hold a half character or a NUL.
        fragments = random.Random(seed).sample([one for one in MARKUP if one.isprintable()], 3)
        found = pages(of_fragment("".join(fragments)), tmp_path / str(seed))
        check(len(found) == 6, f"{len(found)} pages")
        for page in found:
            check(not UNSEEN.search(page), f"a page holds {UNSEEN.search(page)}")
            new = kinds_of_elements(page) - known
            check(not new, f"elements that no page of a harmless run has: {new}")

    if LARGE:
        known = set().union(*map(kinds_of_elements, pages(harmless, tmp_path / "harmless")))
    attack(
        Case("pages", "a whole run", seed, "page", partial(whole_run, seed), 120.0)
        for seed in range(amount(0, 12))
    )
