"""A recipe's file: what cannot be read, or would be read otherwise than it looks, is said with its place."""

from pathlib import Path

import pytest

from mmorient.recipes.files import MOST_LEVELS, read_recipe


def anchors(levels: int, uses: int) -> str:
    """YAML whose last value comes to uses ** levels words, in a few hundred bytes."""
    lines = [f"a0: &a0 [{', '.join(['x'] * uses)}]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * uses)}]" for level in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no file"),
        ("", "is empty: give arguments"),
        ("# nothing yet\n", "is empty"),
        ("- 1", "holds a list: it is a mapping"),
        ("words", "holds a str: it is a mapping"),
        ("a: [", "is not YAML at line 1, column 5"),
        ("a: 1\n---\nb: 2", "is not YAML at line 2"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: 1\nb: 2\na: 3\n", "gives 'a' twice, in lines 1 and 3"),
        ("tasks:\n  humour: [a, b]\n  humour: [b, a]\n", "gives 'humour' twice, in lines 2 and 3"),
        ("a: [{b: 1, b: 2}]", "gives 'b' twice"),
        (anchors(9, 9), "comes to more than 100,000 values"),
        ("a: &a [*a]", "is nested too deep at line 1"),
        ("a: " + "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1), "is nested too deep at line 1"),
        ("[" * 50_000, "is nested too deep"),
        ("a: " + "9" * 5000, "has a number of 5,000 characters at line 1"),
        ("a: 1\nb: 2020-13-45", "has the timestamp '2020-13-45' at line 2"),
        ("a: !!int x", "has the int 'x' at line 1"),
        ("a: 1\nb: é".encode("latin-1"), r"is not in UTF-8 \(line 2, byte 0xe9\): save it so"),
        ("a: 1".encode("utf-16"), "is in UTF-16, or no text"),
        ("a: 1".encode("utf-16-be"), "is in UTF-16, or no text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is in UTF-16, or no text"),
        ("a: \x07", "is not YAML: unacceptable character #x0007"),
        (b"#" * 11_000_000, "has more than 10,000,000 bytes"),
    ],
)
def test_unreadable_recipes(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    path = tmp_path / "broken.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder: the first argument is the recipe"):
        read_recipe(tmp_path)


def test_a_recipe_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("a: 1")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"recipe\.yaml cannot be read: Permission denied"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("content", "recipe"),
    [
        (b"\xef\xbb\xbfa: 1", {"a": 1}),
        (
            "a: &shared {b: 1}\nc: *shared\nd: {<<: *shared, b: 2}",
            {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 2}},
        ),
        ("a: 1e-3\nb: 0.5\nc: null\nd: [yes, 'no']", {"a": "1e-3", "b": 0.5, "c": None, "d": [True, "no"]}),
        ("a: {1: x, '1': y}", {"a": {1: "x", "1": "y"}}),
    ],
)
def test_what_a_person_writes_is_read(
    tmp_path: Path, content: str | bytes, recipe: dict[str, object]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_recipe(path) == recipe
