"""Pictures that are named a little wrong: what they are called is said."""

from pathlib import Path

import pytest

from mmorient.tables.fingerprint_cache import FingerprintCache
from mmorient.tables.image_hints import near_misses
from mmorient.tables.images import read_images
from mmorient.tables.table import Table
from tests.mmorient.conftest import draw

FILES = ("a.png", "B.JPG", "sub/c.png", "é.png", "twice/d.png", "other/d.png", "a b.png")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("A.PNG", "written a little differently: 'a.png' for 'A.PNG'"),
        ("b.jpg", "written a little differently: 'B.JPG'"),
        ("sub\\c.png", "written a little differently: 'sub/c.png'"),
        (" a.png ", "written a little differently: 'a.png'"),
        ("e\u0301.png", "written a little differently: 'é.png'"),
        ("images/a.png", "without a folder that the name begins with: 'a.png' for 'images/a.png'"),
        ("data/images/sub/c.png", "without a folder that the name begins with: 'sub/c.png'"),
        ("a", "with another suffix: 'a.png' for 'a'"),
        ("a.jpeg", "with another suffix: 'a.png'"),
        ("c.png", "in another folder: 'sub/c.png' for 'c.png'"),
        ("d.png", ""),  # which of the two?
        ("nothing.png", ""),
        ("", ""),
        ("\0", ""),
        ("x" * 5000, ""),
        ("/", ""),
    ],
)
def test_a_near_miss_is_told_with_what_there_is(tmp_path: Path, name: str, found: str) -> None:
    for file in FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    hint = near_misses([name], tmp_path)
    assert hint.startswith(f" 1 are there {found}") if found else not hint


def test_the_problem_of_missing_pictures_has_the_hints(folder: Path) -> None:
    (folder / "images" / "images").mkdir()
    draw(9).save(folder / "images" / "images" / "d.png")
    names = ["A.png", "B.PNG", "images/c.png", "d.png", "zz.png", "a.png"]
    table = Table("t", {"image": names}, range(len(names)))
    (problem,) = read_images(table, "image", folder / "images", FingerprintCache()).problems
    assert "2 are there written a little differently: 'a.png' for 'A.png'." in problem.message
    assert (
        "1 are there without a folder that the name begins with: 'c.png' for 'images/c.png'."
        in problem.message
    )
    assert "1 are there in another folder: 'images/d.png' for 'd.png'." in problem.message
    assert [row.detail for row in problem.rows] == [
        f"there is no {name!r} in {folder / 'images'}" for name in names[:5]
    ]
