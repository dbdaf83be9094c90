"""`run_pipeline.py verify`: match archived works with their kept proof, and second copies with what S3 tells."""

import logging
import math
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from pipeline.foundation import logs
from pipeline.foundation.arguments import command
from pipeline.foundation.errors import Stopping, UsageError
from pipeline.foundation.signals import stopping_on_signals
from pipeline.foundation.work import Pulse, asked_rid, human_bytes, human_count
from pipeline.lanes import processes
from pipeline.operations import repair, replication, show, verify
from pipeline.operations.verify import Checked
from pipeline.record import Archived
from pipeline.sync import Brake, FixityVerdict
from pipeline.tasks import context
from pipeline.tasks.context import Site

_NAMED = 20  # differences of a work that are shown; all are in the JSON
_log = logging.getLogger("pipeline.verify")


def main(options: Namespace) -> int:
    """Check the works; 0: nothing is wrong; 1: something is, or not all could be checked.

    Raises:
        UsageError: it is not clear which works are meant, or one is not archived, or has no alarm to forget.
        ArchiveMissing: the archive is out of reach; what was checked before is told all the same.
        DatabaseUnavailable: the database is out of reach; the same.
    """
    ways = (options.rids, options.all, options.oldest, options.due is not None, options.forget)
    if sum(map(bool, ways)) != 1 or bool(options.forget) != bool(options.reason):
        wanted = "one of RID…, --all, --oldest N, --due DAYS, and --forget RID with --reason TEXT is needed"
        raise UsageError(wanted, go_on=("verify", "--help"))
    here = context.open_site(lane="verify")
    if options.forget:
        return _forget(here, asked_rid(options.forget), options.reason)
    logs.log_to(here.settings.logs, "verify", verbose=options.verbose, json_lines=here.settings.log_json)
    options.due = _days(here, options)
    if options.replica:
        return _look_at_copies(here, options)
    verify.see_archive(here)
    works = _asked_for(here, options)
    run = _Check(here, works, options)
    try:
        with stopping_on_signals(here.stopping.set), show.progress("verify") as pulse:
            run.check(pulse)
    finally:
        run.tell()
    return run.status()


def _forget(here: Site, rid: str, reason: str) -> int:
    verify.forget(here, rid, reason=reason, by=repair.operator())
    show.console().print(f"{rid}: its failed fixity check needs nobody any more; the next one that fails will")
    return processes.EXIT_DONE


def _days(here: Site, options: Namespace) -> int:
    """The days of `--due`, or of the settings where it has no number; 0: it was not asked for.

    Raises:
        UsageError: they are not set.
    """
    if options.due is None:
        return 0
    name = "replica_due_days" if options.replica else "due_days"
    days = int(options.due or getattr(here.settings.fixity, name))
    if not days:
        raise UsageError(f"[fixity] {name} is not set; nothing was checked", by_hand="set it, or say --due DAYS")
    return days


def _asked_for(here: Site, options: Namespace) -> list[Archived]:
    if options.rids:
        return verify.by_name(here, options.rids)
    works = verify.everything(here)
    if options.due:
        return verify.due(works, options.due, looked_on=lambda work: work.checked_on)
    return works[: options.oldest or None]


def _look_at_copies(here: Site, options: Namespace) -> int:
    """Compare second copies with what S3 tells of them."""
    copies = replication.newest(here, rids=[asked_rid(rid) for rid in options.rids])
    if options.due:
        copies = verify.due(copies, options.due, looked_on=lambda copy: copy.looked_on)
    copies, until = copies[: options.oldest or None], _until(options)
    with stopping_on_signals(here.stopping.set):
        looked = list(replication.look(here, copies, until=until))
    counts = Counter(str(one.verdict) for one in looked)
    told = {"asked": len(copies), "verdicts": counts, "copies": [one.as_data() for one in looked]}

    def tell(out: Console) -> None:
        for one in looked:
            if not one.passed:
                out.print(show.safe(f"{one.copy.work_rid}: {one.verdict}: its copy in {one.copy.replica} {one.wrong}"))
        found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        out.print(f"{human_count(len(looked), 'second copy', 'second copies')}: {found or 'nothing to look at'}")

    wrong = counts["failed"] or (len(looked) < len(copies) and time.monotonic() < until)
    return show.result(options, told, tell, status=processes.EXIT_FAILED if wrong else processes.EXIT_DONE)


def _until(options: Namespace) -> float:
    """When the time is over, by the monotonic clock."""
    return time.monotonic() + options.max_hours * 3600 if options.max_hours else math.inf


class _Check:
    """One call: the works asked for, and what was found so far."""

    def __init__(self, here: Site, works: Sequence[Archived], options: Namespace) -> None:
        self._here = here
        self._works = works
        self._options = options
        self._checked: list[Checked] = []
        self._elsewhere = 0
        self._started, self._until = time.monotonic(), _until(options)

    def check(self, show_progress: Pulse) -> None:
        """Check one work after the other, each with all threads, until all are, the time is over or a signal comes."""
        brake = Brake(self._options.max_rate) if self._options.max_rate else None
        total = sum(work.bytes for work in self._works)
        before, shared = 0, bool(self._options.oldest or self._options.due)

        def pulse(done: int, _of: int) -> None:
            if self._here.stopping.is_set():
                raise Stopping("stopped as asked")
            if time.monotonic() > self._until:
                raise Stopping("the time is over")
            show_progress(before + done, max(total, before + done))

        try:
            for work in self._works:
                pulse(0, 0)
                given = {"brake": brake, "threads": self._options.threads, "pulse": pulse, "shared": shared}
                checked = verify.check_work(self._here, work, **given)
                if checked is None:
                    self._elsewhere += 1
                    continue
                before += max(work.bytes, checked.result.bytes)
                self._checked.append(checked)
                _log_line(checked)
        except Stopping as why:
            _log.warning("%s; checked %d of %s", why, len(self._checked), human_count(len(self._works), "work"))

    @property
    def _left(self) -> int:
        return len(self._works) - len(self._checked) - self._elsewhere

    def status(self) -> int:
        """The exit status: a work named by hand that could not be checked is no success either."""
        counts = Counter(checked.verdict for checked in self._checked)
        cut = self._left and time.monotonic() < self._until
        wrong = counts[FixityVerdict.FAILED] or cut or (self._options.rids and counts[FixityVerdict.NO_PROOF])
        return processes.EXIT_FAILED if wrong else processes.EXIT_DONE

    def tell(self) -> None:
        """The report of all works, on stdout."""
        counts = Counter(checked.verdict for checked in self._checked)
        if self._options.json:
            show.as_json(
                {
                    "asked": len(self._works),
                    "not_reached": self._left,
                    "elsewhere": self._elsewhere,
                    "verdicts": {str(verdict): counts[verdict] for verdict in FixityVerdict},
                    "seconds": round(time.monotonic() - self._started, 3),
                    "works": [
                        {"work_rid": one.work_rid, "verdict": one.verdict, "last": one.before, **one.facts()}
                        for one in self._checked
                    ],
                }
            )
            return
        out = show.console()
        shown = [one for one in self._checked if self._options.rids or one.verdict is not FixityVerdict.PASSED]
        show.tell(out, [_row(one) for one in shown])
        for one in shown:
            for difference in one.result.wrong[:_NAMED]:
                out.print(f"{one.work_rid}: {show.safe(str(difference))}")
            if len(one.result.wrong) > _NAMED:
                out.print(f"{one.work_rid}: and {len(one.result.wrong) - _NAMED} more; all of them: --json")
            if one.verdict is FixityVerdict.FAILED:
                out.print(f"{one.work_rid}: go on with: {command('explain', one.work_rid)}")
        size = sum(one.result.bytes for one in self._checked)
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in FixityVerdict if counts[verdict])
        left = f"; not reached: {self._left}" if self._left else ""
        left += f"; left to another verify: {self._elsewhere}" if self._elsewhere else ""
        seconds = time.monotonic() - self._started
        works = human_count(len(self._checked), "work")
        out.print(f"{works}: {told or 'nothing to check'}; {human_bytes(size)} in {seconds:.0f} s{left}")


def _row(checked: Checked) -> dict[str, str]:
    result = checked.result
    why = {
        FixityVerdict.BUSY: "is being worked on; try again later",
        FixityVerdict.NO_PROOF: "neither digests nor manifests are kept with it",
        FixityVerdict.FAILED: f"{len(result.wrong)} wrong",
        FixityVerdict.PASSED: f"all as in {result.against}",
    }[checked.verdict]
    return {
        "work": checked.work_rid,
        "verdict": str(checked.verdict),
        "files": str(result.found.matched),
        "bytes": human_bytes(result.bytes),
        "last looked at": f"{checked.before:%F}" if checked.before else "never",
        "what": f"{why}: {checked.path}",
    }


def _log_line(checked: Checked) -> None:
    facts = checked.facts(most=0)
    if checked.verdict is FixityVerdict.FAILED:
        named = ", ".join(show.safe(str(one)) for one in checked.result.wrong[:3])
        _log.error("%s: %d wrong in %s: %s", checked.work_rid, facts["wrong_files"], checked.path, named)
    else:
        _log.info(
            "%s: %s, %s, %s in %.1f s%s",
            *(
                checked.work_rid,
                checked.verdict,
                human_count(facts["files"], "file"),
                human_bytes(facts["bytes"]),
                facts["seconds"],
            ),
            "" if facts["cache_dropped"] else " (the page cache could not be dropped)",
        )
