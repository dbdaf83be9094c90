"""The layout holds: imports go downward only, steps know no sibling, no settings, no Luigi, and there is no cycle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "pipeline"

# From the top down; a module may import only modules further down.
LAYERS = [
    "demo_feed",
    "cli",
    "verbs",
    "manual",
    "usage",
    "metrics",
    "notices",
    "letters",
    "messengers",
    "report",
    "services",
    "local_postgresql",
    "demo",
    "samples",
    "trial",
    "show",
    "debag_cli",
    "story",
    "sync_logs",
    "standing",
    "attention",
    "repairs",
    "quarantine",
    "fixity_checks",
    "lanes",
    "lane",
    "sources",
    "verdicts",
    "building",
    "own_work",
    "tasks",
    "step_task",
    "progress",
    "room",
    "facts",
    "targets",
    "presence",
    "site",
    "heartbeat",
    "settings",
    "embedded",
    "door",
    "daemon",
    "staging",
    "migrations",
    "steps",
    "aws",
    "fixity",
    "abilities",
    "durable",
    "plug",
    "signals",
    "beginning",
    "log_lines",
    "guarded",
    "owners",
    "work",
    "errors",
]
MODULES = sorted(ROOT.rglob("*.py"))


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module of ours that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward_only(path: Path) -> None:
    own = layer(name_of(path))
    if not own:
        return  # the package itself, which imports nothing of ours
    for imported in imports_of(path):
        if not imported.startswith("pipeline.") or layer(imported) in {own, "__version__"}:
            continue
        assert LAYERS.index(layer(imported)) > LAYERS.index(own), f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", sorted((ROOT / "steps").rglob("*.py")), ids=name_of)
def test_a_step_imports_no_sibling_no_settings_no_luigi(path: Path) -> None:
    step = [*name_of(path).split("."), ""][2]
    for imported in imports_of(path):
        assert not imported.startswith(("luigi", "pipeline.settings"))
        if imported.startswith("pipeline.steps."):
            assert imported.split(".")[2] == step, f"{name_of(path)} imports {imported}"


def test_every_module_has_its_layer() -> None:
    assert {layer(name_of(path)) for path in MODULES} - {""} <= set(LAYERS)


def test_there_is_no_module_of_odds_and_ends() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_only_the_database_s_step_knows_sqlalchemy() -> None:
    users = {name_of(path) for path in MODULES if any(name.startswith("sqlalchemy") for name in imports_of(path))}

    assert {name for name in users if not name.startswith(("pipeline.steps.record", "pipeline.migrations"))} <= {
        "pipeline.site"  # names the engine's type
    }
