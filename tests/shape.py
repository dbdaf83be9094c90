"""`make shape`: how large the house is, and how its rooms hang together; measured by the code, standard library only.

A room is a folder of pipeline/ with modules in it, or a module that stands in none. A floor is the longest way down
from a room. A line of code is neither blank nor comment nor docstring. Modules of verbs are no doubles.
"""

import ast
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
PIPELINE = ROOT / "pipeline"
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(path: Path) -> int:
    text = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        for one in getattr(node, "body", []) if isinstance(node, _DOCUMENTED) else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                told.update(range(one.lineno, (one.end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        number not in told and bool(line.strip()) and not line.lstrip().startswith("#") for number, line in lines
    )


def modules() -> dict[str, Path]:
    """Each module of the product by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PIPELINE.rglob("*.py"))
    }


def imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in known else node.module


def room_of(name: str, known: dict[str, Path]) -> str:
    return name if known[name].stem == "__init__" else name.rpartition(".")[0] if name.count(".") > 1 else name


def shape() -> list[tuple[str, str, str]]:
    """Each figure with its value and with what it is to be."""
    known = modules()
    imports = {(name, other) for name, path in known.items() for other in imported(path, known) if other != name}
    rooms = {(room_of(name, known), room_of(other, known)) for name, other in imports}
    between = {(own, other) for own, other in rooms if own != other and "pipeline" not in (own, other)}

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for own, other in between if own == room), default=0)

    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in known.values()]
    functions = [
        (node.end_lineno or 0) - node.lineno + 1
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    names.update(path.stem for path in known.values() if path.stem != "__init__" and path.parent.name != "verbs")
    twice = sorted(name for name, count in names.items() if count > 1)
    code = sum(map(code_lines, known.values()))
    tests = sum(map(code_lines, (ROOT / "tests").rglob("*.py")))
    top = [path for path in PIPELINE.iterdir() if path.name != "__pycache__"]
    percentile = statistics.quantiles(functions, n=10)[-1]
    return [
        ("names at the top of pipeline/", f"{len(top)}", "15 at most, fourteen rooms"),
        ("floors", f"{max(floor(room) for room, _ in between)}", "8 at most"),
        ("imports between rooms", f"{len(between)}", "66 at most, see decisions 51 and 58"),
        ("imports of own modules a module", f"{len(imports) / len(known):.1f}", "3.4 at most"),
        ("lines of code in pipeline/", f"{code:,}", "14,300 at most"),
        ("function length, median", f"{statistics.median(functions):.0f}", "8 at most"),
        ("function length, nine of ten", f"{percentile:.0f}", "23 at most"),
        ("function length, the longest", f"{max(functions)}", "45 at most"),
        ("lines of tests a line of code", f"{tests / code:.2f}", "0.95 at least"),
        ("README.md, bytes", f"{(ROOT / 'README.md').stat().st_size:,}", "8,192 at most"),
        ("names that stand twice", f"{len(twice)}", f"4 at most: {', '.join(twice)}"),
    ]


if __name__ == "__main__":
    for figure, value, wanted in shape():
        print(f"{figure:36}{value:>8}   {wanted}")  # noqa: T201  # that is what it is for
