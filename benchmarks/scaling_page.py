"""What docs/scaling.md says of the results of `python -m benchmarks.scaling`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import scaling_model
from benchmarks.scaling_model import Cost, Figures

RESULTS = Path(__file__).resolve().parent / "results" / "scaling.json"
_MADE = re.compile(r"(?s)(<!-- Made by python -m benchmarks.scaling[^>]*-->\n).*?(<!-- end of what was made -->)")


def renewed(text: str, found: dict[str, Any]) -> str:
    """The page with these results in place of those that it had."""
    return _MADE.sub(lambda made: f"{made[1]}{made_of(found)}\n{made[2]}", text)


def made_of(found: dict[str, Any]) -> str:
    """Where they are from, what a work costs, what the model says of loads, and what three hosts say of the model."""
    machine = found["machine"]
    where = f"{found['date']}, {machine['cpus']} cores ({machine['cpu']}), Python {machine['python']}"
    where += f", load {machine['load_before']:.0f}"
    if found["lane"] != "here":
        where += f"; what a lane takes is that of a quiet machine, of {found['lane']}"
    raw = found["figures"]
    figures = Figures(**{**raw, **{name: Cost(**raw[name]) for name in ("lane_cpu", "lane_seconds")}})
    lines = [f"Measured on {where}:", "", *_costs(found, figures), "", *scaling_model.tables(figures)]
    return "\n".join([*lines, "", *_growth(found["luigid"]), "", *_hosts(found["three_hosts"])])


def _costs(found: dict[str, Any], figures: Figures) -> Iterator[str]:
    small, large, idle = found["works"].values()
    written = large["written_bytes"] / 1e6
    asked = figures.get_works * figures.luigid_task_cpu * 1_000
    yield "| what it costs | a work | a GB more |"
    yield "|---|--:|--:|"
    yield f"| a lane, CPU-s | {figures.lane_cpu.work:.2f} | {figures.lane_cpu.gb:.2f} |"
    yield f"| a lane, seconds, S3 beside it | {figures.lane_seconds.work:.2f} | {figures.lane_seconds.gb:.2f} |"
    yield f"| … written, MB: staging, then archive | {small['written_bytes'] / 1e6:.1f} | {written:,.0f} |"
    yield f"| luigid, CPU-s, remembering nothing | {figures.luigid_cpu:.3f} | |"
    yield f"| … and for each 1,000 tasks that it remembers | {asked:.3f} | |"
    yield f"| PostgreSQL, CPU-s | {figures.database_cpu:.3f} | |"
    for name, what in (("database", "SQL statements"), ("sqs", "SQS calls"), ("luigid", "luigid calls")):
        yield f"| {what} | {sum(found['calls_a_work'][name].values()):.0f} | |"
    yield f"| start and end of a run, whatever it does: CPU-s | {idle['cpu']['lane']:.1f} | |"


def _growth(asked: list[dict[str, Any]]) -> Iterator[str]:
    yield "| luigid remembers | asked for work, if they wait | if they are done |"
    yield "|--:|--:|--:|"
    for waiting, done in zip(asked[: len(asked) // 2], asked[len(asked) // 2 :], strict=True):
        costs = " | ".join(f"{one['get_work'] * 1e3:.1f} ms" for one in (waiting, done))
        yield f"| {waiting['remembered']:,} tasks | {costs} |"


def _hosts(checks: dict[str, Any]) -> Iterator[str]:
    yield "| three hosts | works a second: predicted | seen | ratio | lanes' CPU: ratio | PostgreSQL's CPU: ratio |"
    yield "|---|--:|--:|--:|--:|--:|"
    for kind, title in (("luigid", "one luigid"), ("local", "`--local-scheduler`")):
        check = checks[kind]
        if "left_out" in check:
            yield f"| {title} | {check['left_out']} | | | | |"
            continue
        ratios = check["seen_to_predicted"]
        told = [check["predicted"]["works_a_second"], check["seen"]["works_a_second"], *ratios.values()]
        yield f"| {title} | {' | '.join(f'{value:.2f}' for value in told)} |"
