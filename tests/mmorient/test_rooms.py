"""Rooms of the toolkit: each imports from rooms below it, and no modules import each other in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the ground floor up. Rooms of one floor do not import each other.
FLOORS = (
    {"files", "samples"},
    {"kinds"},
    {"recipes"},
    {"tables"},
    {"features"},
    {"prediction"},
    {"scoring"},
    {"report", "serving"},
    {"explanation", "export", "fitting"},
    {"demo"},
    {"publishing"},
    {"commands"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "mmorient").rglob("*.py")
}


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in (ROOT / "mmorient").iterdir() if list(path.glob("*.py"))}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") == 2])
def test_a_room_imports_from_rooms_below(name: str) -> None:
    room = name.split(".")[1]
    for imported in imports(MODULES[name]):
        parts = imported.split(".")
        if parts[0] == "mmorient" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
            assert FLOOR[parts[1]] < FLOOR[room], f"{name} imports {imported}, which is not below it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: imports(path) & set(MODULES) - {name} for name, path in MODULES.items()}
    # Raises where there is one.
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_model_package_is_flat_and_below_the_toolkit() -> None:
    for path in (ROOT / "modeling_mmorient").rglob("*.py"):
        assert path.parent.name == "modeling_mmorient"
        assert not any(name.split(".")[0] in ("mmorient", "training") for name in imports(path)), path
