"""`run_pipeline.py restore`: what is wanted back from cold storage is planned, priced, and put in the line."""

from argparse import Namespace
from collections import Counter
from collections.abc import Collection
from itertools import chain

from rich.console import Console

from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import asked_rid, human_bytes, human_count, human_seconds
from pipeline.lanes import processes
from pipeline.operations import restores, show
from pipeline.operations.restores import NOT_THERE, RestorePlan
from pipeline.operations.status import Standing
from pipeline.record import WantState, campaign
from pipeline.tasks import context
from pipeline.tasks.context import Site

_MOVES = {
    "pause": ((WantState.WANTED,), WantState.PAUSED, "is not asked for until it is resumed"),
    "resume": ((WantState.PAUSED,), WantState.WANTED, "is asked for in its turn"),
    "cancel": ((WantState.WANTED, WantState.PAUSED, WantState.FAILED), WantState.CANCELLED, "is not wanted any more"),
}


def main(options: Namespace) -> int:
    """Plan, and put what is wanted in the line if that is agreed to; or list the line, and change it.

    Raises:
        UsageError: nothing or nonsense is wanted, it costs too much, or nobody agreed; nothing was changed.
        PipelineError: S3 or the record is out of reach.
    """
    here, (action, *rids) = context.open_site(lane="restore"), options.targets or [""]
    if action == "list":
        return _list(here, options, [asked_rid(rid) for rid in rids])
    if action in _MOVES:
        return _move(here, options, action, {asked_rid(rid) for rid in rids})
    meant = chain(
        restores.named(here, options.targets),
        restores.listed_in(here, options.list) if options.list else (),
        restores.below(here, options.prefix) if options.prefix else (),
        restores.never_asked(here, options.next) if options.next else (),
    )
    with show.progress("look", counted=True) as pulse:
        plan = restores.plan(here, meant, tier=options.tier or "", days=options.days or 0, pulse=pulse)
    if not plan.objects:
        raise UsageError("nothing is wanted: name works, or give --list, --prefix or --next with something in it")
    out, added = show.console(), 0
    if not options.json:
        _tell(here, out, plan)
    if not options.plan and (plan.to_come or options.first):
        _see_budget(here, plan, over=options.over_budget)
        show.agreed(f"Put {human_count(len(plan.to_come), 'work')} in the line?", yes=options.yes)
        added = restores.put(here, plan, first=options.first)
        if not options.json:
            out.print(f"{human_count(added, 'work')} in the line; `run` asks for them as room comes free")
    if options.json:
        show.as_json({**plan.document(), "currency": here.settings.restore.currency, "put_in_line": added})
    missing = any(one.state == NOT_THERE for one in plan.objects)
    return processes.EXIT_FAILED if missing else processes.EXIT_DONE


def _see_budget(here: Site, plan: RestorePlan, *, over: bool) -> None:
    most, currency = here.settings.restore.most_cost, here.settings.restore.currency
    if not most or over or (plan.cost is not None and plan.cost <= most):
        return
    told = (
        "its cost is not known, as prices are not set" if plan.cost is None else f"it costs {plan.cost:.2f} {currency}"
    )
    limit = f"[restore] most_cost is {most:.2f} {currency}"
    raise UsageError(
        f"{told}, and {limit}; nothing was done", by_hand="name fewer works, or the same with --over-budget"
    )


def _tell(here: Site, out: Console, plan: RestorePlan) -> None:
    for one in plan.objects:
        if one.state == NOT_THERE:
            looked = f", looked for at {', '.join(one.looked_at)}" if one.looked_at else ": no source has a bucket"
            out.print(show.safe(f"{one.name}: not there{looked}"))
    counts = Counter(one.state for one in plan.objects)
    tiers = Counter(one.tier for one in plan.to_ask)
    chosen = here.settings.restore
    asking = ", ".join(f"{count:,} {tier}" for tier, count in tiers.items())
    ends = [one.found.expires_on for one in plan.objects if one.found and one.found.expires_on]
    lines = {
        "wanted": ", ".join(f"{count:,} {state}" for state, count in counts.items()),
        "to come home": f"{human_count(len(plan.to_come), 'work')}, {human_bytes(plan.bytes)}",
        "requests": f"{len(plan.to_ask):,} ({asking}), copies for {human_count(plan.days, 'day')}"
        if asking
        else "none",
        "ready": f"the first within {human_seconds(plan.ready_seconds)}" if asking else "nothing to wait for",
        **({"restored": f"copies that are there end from {min(ends):%F %H:%M}Z on"} if ends else {}),
        "at once": f"at most {human_count(chosen.at_most_works, 'work')} and {human_bytes(chosen.at_most_bytes)}",
        "home": f"in {human_seconds(plan.home_seconds)} of work, at the rate measured lately"
        if plan.home_seconds is not None
        else "not known: no rate was measured lately",
        "disk": _disk(here, plan),
        "cost": _cost(here, plan),
    }
    width = max(map(len, lines))
    for name, text in lines.items():
        out.print(f"{name.ljust(width)}  {text}")
    if large := [one for one in plan.to_ask if one.found and one.found.bag.size_bytes > chosen.at_most_bytes]:
        out.print(
            f"{human_count(len(large), 'work')} larger than [restore] at_most_bytes: not asked for until that is raised"
        )


def _disk(here: Site, plan: RestorePlan) -> str:
    largest = max((one.found.bag.size_bytes for one in plan.to_come if one.found), default=0)
    needed = {"archive_root": plan.bytes, "staging": 2 * largest * here.settings.lanes}
    free = {disk["what"]: human_bytes(disk["free_bytes"]) for disk in Standing(here).disks if "free_bytes" in disk}
    return ", ".join(
        f"{name.removesuffix('_root')} {human_bytes(size)} ({free.get(name, 'nothing known of what is')} free)"
        for name, size in needed.items()
    )


def _cost(here: Site, plan: RestorePlan) -> str:
    def told(cost: float | None) -> str:
        return "not known" if cost is None else f"{cost:.2f} {here.settings.restore.currency}"

    if plan.cost is not None:
        return f"{told(plan.cost)}: restore {told(plan.restore_cost)}, egress {told(plan.egress_cost)}"
    parts = f"restore {told(plan.restore_cost)}, egress {told(plan.egress_cost)}"
    return f"{parts}: set the prices of the region, [prices REGION] (docs/settings.md)"


def _list(here: Site, options: Namespace, rids: Collection[str]) -> int:
    found = campaign.wanted(here.engine, work_rids=rids or None)
    if not (rids or options.all):
        found = [one for one in found if one.state not in {WantState.HOME, WantState.CANCELLED}]
    rows = [
        {
            "work": one.bag.work_rid,
            "state": str(one.state),
            "bytes": human_bytes(one.bag.size_bytes),
            "tier": one.tier,
            "asked for": human_count(one.attempts, "time") if one.attempts else "",
            "copy until": f"{one.expires_on:%F %H:%M}Z" if one.expires_on else "",
            "cost": "" if one.cost is None else f"{one.cost:.4f}",
            "from, or why not": one.error or one.bag.address,
        }
        for one in found
    ]

    def tell(out: Console) -> None:
        show.tell(out, rows)
        if not rows:
            out.print("nothing is wanted")

    return show.result(options, {"wants": [restores.facts(one) for one in found]}, tell)


def _move(here: Site, options: Namespace, action: str, rids: Collection[str]) -> int:
    states, to, what = _MOVES[action]
    if action == "cancel" and not rids:
        show.agreed("Cancel everything that was not asked for yet?", yes=options.yes)
    moved = campaign.move(here.engine, states, to=to, work_rids=rids)
    others = sorted(set(rids) - set(moved))

    def tell(out: Console) -> None:
        for rid in moved:
            out.print(f"{rid}: {what}")
        for rid in others:
            out.print(f"{rid}: nothing of it is {' or '.join(states)}; what S3 was asked for comes home all the same")
        if not (moved or others):
            out.print(f"nothing is {' or '.join(states)}")

    status = processes.EXIT_FAILED if others else processes.EXIT_DONE
    return show.result(options, {action: moved, "others": others}, tell, status=status)
