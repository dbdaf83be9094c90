"""The rooms hold: imports go down only, never sideways between rooms of a floor, and nothing stands outside a room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "pipeline"
FLOORS = (  # from the top
    {"cli"},
    {"embedded"},
    {"operations", "lanes"},
    {"tasks"},
    {"settings"},
    {"restore", "intake", "download", "debag", "sync", "replicate", "record"},  # the row of steps: they know no sibling
    {"foundation"},
)
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """Whatever a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_room_has_its_floor_and_no_module_stands_outside() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    for imported in imports_of(path):
        top, _, rest = imported.partition(".")
        room = rest.split(".")[0]
        if top == "pipeline" and room not in {own, "__version__"}:
            assert FLOOR_OF[room] > FLOOR_OF[own], f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if FLOOR_OF[path.relative_to(ROOT).parts[0]] >= 5], ids=name_of
)
def test_a_step_knows_no_luigi(path: Path) -> None:
    assert not [imported for imported in imports_of(path) if imported.split(".")[0] == "luigi"]


def test_there_is_no_module_of_odds_and_ends() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_only_the_record_knows_sqlalchemy() -> None:
    users = {name_of(path) for path in MODULES if any(name.startswith("sqlalchemy") for name in imports_of(path))}

    assert {name for name in users if not name.startswith("pipeline.record")} <= {
        "pipeline.tasks.context"  # names the engine's type
    }
