"""What an operator does to a bag: hand it back to the lanes, or leave it out. Each is one commit of the record."""

import getpass
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import intake
from pipeline.foundation.arguments import command
from pipeline.foundation.errors import FolderUnreachable, UsageError, WorkBusy
from pipeline.foundation.work import asked_rid, printable
from pipeline.record import BagRow, BagState, views
from pipeline.tasks.context import Site


def operator() -> str:
    """Who asks, as the record names her: the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "an operator"


def newest(here: Site, work_rid: str) -> BagRow:
    """The newest bag of a work.

    Raises:
        UsageError: it is no RID, or the record knows no bag of it.
    """
    known = here.record.bags_of(asked_rid(work_rid))
    if not known:
        raise views.not_known(here.engine, work_rid)
    return known[0]


def hand_back(here: Site, row: BagRow, *, reason: str) -> str:
    """Let the lanes take a bag up again, whatever it was, the next time that one is free; what is home stays home.

    Returns:
        what was done, for people.

    Raises:
        WorkBusy: a lane works on it.
    """
    if row.state is BagState.DONE:
        again = command("work", row.bag.work_rid)
        return f"home already, nothing to do; once more: {again} --from download, debag or sync"
    with leased(here, row.bag.work_rid, row.bag.bag_id):
        is_out = row.state is BagState.REFUSED and not Path(row.bag.key).exists()
        if is_out and (refused := moved_out(here, row)) is not None:
            return _put_back(here, row, refused)
        here.record.reopen(row.bag, reason=f"{reason} by {operator()}")
    where = f" on {row.host}" if row.host not in {"", here.host} else ""
    return f"was {row.state}, is unfinished now: the next free lane{where} takes it up"


def hand_back_each(here: Site, rows: Iterable[BagRow], *, reason: str, say: Callable[[str], object]) -> int:
    """Hand back one bag after the other, and say of each what was done; how many of them a lane works on."""
    busy = 0
    for row in rows:
        try:
            say(f"{row.bag.work_rid}: {hand_back(here, row, reason=reason)}")
        except WorkBusy as error:
            busy += 1
            say(printable(str(error)))
    return busy


def moved_out(here: Site, row: BagRow) -> Path | None:
    """The dropped zip that was moved from its folder to the refused ones; None: it is not such a one, or not there."""
    folder = here.settings.folder(row.bag.source)
    if folder is None:
        return None
    found = sorted(folder.refused_dir(row.bag.work_rid, row.bag.bag_id).glob("*.[zZ][iI][pP]"))
    return found[0] if found else None


def _put_back(here: Site, row: BagRow, refused: Path) -> str:
    """Put a refused zip into its folder again, in one rename: its folder takes it from there, as if a person had."""
    try:
        folder = here.settings.folder(row.bag.source)
        root = folder.refused_path if folder else refused.parent
        put = intake.put_again(refused, Path(row.bag.key), root=root)
    except OSError as error:
        raise FolderUnreachable(
            f"{refused} cannot be put back to {row.bag.key}: {error.strerror}", work_rid=row.bag.work_rid
        ) from error
    if not put:
        raise UsageError(f"{row.bag.work_rid}: {row.bag.key} is another zip by now; nothing was changed")
    return f"was refused; its zip is back in {Path(row.bag.key).parent}, which is looked at by the next free lane"


def skip(here: Site, row: BagRow, *, reason: str) -> str:
    """Leave a bag out until somebody hands it back; nothing is deleted, neither here nor in S3.

    Returns:
        what was done, for people.

    Raises:
        WorkBusy: a lane works on it.
        UsageError: it is home.
    """
    if row.state is BagState.DONE:
        raise UsageError(f"{row.bag.work_rid}: it is home already, there is nothing to skip")
    with leased(here, row.bag.work_rid, row.bag.bag_id):
        here.record.skip(row.bag, reason=reason, by=operator())
    return f"was {row.state}, is skipped now; taken up again by: {command('retry', row.bag.work_rid)}"


@contextmanager
def leased(here: Site, work_rid: str, bag_id: str) -> Iterator[None]:
    """While nobody else has the bag.

    Raises:
        WorkBusy: a lane works on it.
    """
    if not here.leases.take(work_rid, bag_id):
        seconds = here.leases.remaining_seconds(work_rid)
        raise WorkBusy(
            f"a lane works on it (had it been killed, its lease would end in {seconds} s)",
            work_rid=work_rid,
            kept="nothing was changed",
            go_on=("explain", work_rid),
        )
    try:
        yield
    finally:
        here.leases.release(work_rid)
