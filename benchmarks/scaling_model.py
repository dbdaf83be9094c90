"""How far it goes: arithmetic from what a work costs to the lanes and hosts that a load needs, and to what bounds it.

Everything that works share is busy for some seconds a work; its share of a day is works x seconds / seconds of a day.
Whatever would be busy for more than `Place.busy` of the day is the bound. Nothing else is in it: no queueing, no nights
without work, no retries; so plan for the busiest day, and leave `busy` well below 1.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

_DAY_SECONDS = 86_400
_LARGE_GB = 17.0


@dataclass(frozen=True)
class Cost:
    """What a work costs: so much whatever its size, and so much more for each GB of it.

    Attributes:
        work: of one work.
        gb: of each GB.
    """

    work: float
    gb: float = 0.0

    def of(self, size_gb: float) -> float:
        """Of a work of this size."""
        return self.work + self.gb * size_gb


@dataclass(frozen=True)
class Figures:
    """What was measured, or is given.

    Attributes:
        lane_cpu: CPU-s of the lane, with the sync script or the built-in copier.
        lane_seconds: for which a lane is busy with a work, S3 being as fast as the lane.
        luigid_cpu: CPU-s of luigid, as long as it remembers nothing.
        luigid_task_cpu: CPU-s more for each task that it remembers, each time that it is asked for work.
        database_cpu: CPU-s of PostgreSQL.
        get_works: how often luigid is asked for work.
        tasks: that luigid remembers.
        luigid_bytes: that it keeps in memory of a work, as long as it remembers it.
    """

    lane_cpu: Cost
    lane_seconds: Cost
    luigid_cpu: float
    luigid_task_cpu: float
    database_cpu: float
    get_works: float = 5
    tasks: float = 4
    luigid_bytes: float = 19_000


@dataclass(frozen=True)
class Place:
    """Where it shall run.

    Attributes:
        link_gbit: from S3, of all hosts together.
        archive_mb: what the archive writes and reads in a second, together: each byte is written once, and read back.
        cores: of a host.
        remember_hours: for how long luigid remembers what is done, `[scheduler] remove_delay`.
        busy: the share of a day for which anything may be busy.
    """

    link_gbit: float = 10.0
    archive_mb: float = 2_000.0
    cores: int = 8
    remember_hours: float = 1.0
    busy: float = 0.7


@dataclass(frozen=True)
class Plan:
    """What a load needs.

    Attributes:
        lanes, hosts: of all, so that lanes' CPU is not the bound.
        shares: of a day for which link, archive, luigid and database are busy; the last two of one core.
        bound: what is busy for longest, of these.
        luigid_bytes: the memory that luigid needs for what it remembers.
    """

    lanes: int
    hosts: int
    shares: Mapping[str, float]
    luigid_bytes: float

    @property
    def bound(self) -> str:
        """What is busy for longest."""
        return max(self.shares, key=lambda name: self.shares[name])


def plan(figures: Figures, place: Place, *, works: float, size_gb: float) -> Plan:
    """What so many works a day of this size need."""
    remembered = works * place.remember_hours / 24
    asked = figures.get_works * figures.luigid_task_cpu * figures.tasks * remembered
    seconds = {
        "link": size_gb * 8 / place.link_gbit,
        "archive": size_gb * 2_000 / place.archive_mb,
        "luigid": figures.luigid_cpu + asked,
        "database": figures.database_cpu,
    }
    # A lane does one step after the other: what the link takes comes on top of what a lane takes with S3 beside it.
    lane = figures.lane_seconds.of(size_gb) + seconds["link"]
    a_day = works / _DAY_SECONDS
    return Plan(
        lanes=max(1, math.ceil(a_day * lane / place.busy)),
        hosts=max(1, math.ceil(a_day * figures.lane_cpu.of(size_gb) / place.cores / place.busy)),
        shares={name: a_day * each for name, each in seconds.items()},
        luigid_bytes=remembered * figures.luigid_bytes,
    )


def most_works(figures: Figures, place: Place, *, size_gb: float) -> float:
    """How many works a day of this size are the most, with as many hosts as it takes."""
    low, high = 0.0, 1e9
    while high - low > 1e-3 * max(low, 1.0):
        middle = (low + high) / 2
        shares = plan(figures, place, works=middle, size_gb=size_gb).shares
        low, high = (middle, high) if max(shares.values()) <= place.busy else (low, middle)
    return low


def works_a_second(
    figures: Figures, *, hosts: int, lanes: int, host_mb: float, zip_gb: float, cores: int, others: float
) -> float:
    """What hosts on one machine bring home, each over a line of its own.

    Args:
        figures: what a work costs.
        hosts: how many.
        lanes: of each host.
        host_mb: what a host's line brings, in MB a second.
        zip_gb: of a work, with what lanes say on that line besides.
        cores: of the machine, which has all: lanes, luigid, database, S3 and SQS.
        others: CPU-s of S3 and SQS for a work.
    """
    cpu = figures.lane_cpu.of(zip_gb) + figures.luigid_cpu + figures.database_cpu + others
    coming = zip_gb * 1_000 / host_mb
    return min(cores / cpu, hosts / coming, hosts * lanes / (coming + figures.lane_seconds.of(zip_gb)))


def tables(figures: Figures) -> Iterator[str]:
    """The tables of docs/scaling.md, as Markdown, line by line."""
    place = Place()
    yield "| works a day | GB each | lanes | hosts | link | archive | luigid | database | most a day |"
    yield "|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for size_gb in (0.1, 1.0):
        most = most_works(figures, place, size_gb=size_gb)
        for works in (1_000, 20_000, 100_000):
            made = plan(figures, place, works=works, size_gb=size_gb)
            shares = (_share(made.shares[name], place) for name in ("link", "archive", "luigid", "database"))
            yield f"| {works:,} | {size_gb:g} | {made.lanes} | {made.hosts} | {' | '.join(shares)} | {_round(most)} |"
    yield ""
    yield "| 17 GB works over | most a day | bound by | lanes | hosts | an archive that fills the link |"
    yield "|--:|--:|---|--:|--:|--:|"
    for link in (1.0, 10.0, 25.0):
        there = replace(place, link_gbit=link)
        most = most_works(figures, there, size_gb=_LARGE_GB)
        made = plan(figures, there, works=most, size_gb=_LARGE_GB)
        needed = link / 8 * 2_000 * place.busy
        yield f"| {link:g} Gbit/s | {_round(most)} | {made.bound} | {made.lanes} | {made.hosts} | {needed:,.0f} MB/s |"
    yield ""
    yield "| luigid remembers | most small works a day | its memory for them |"
    yield "|--:|--:|--:|"
    for hours in (1, 4, 24):
        there = replace(place, remember_hours=hours)
        most = most_works(figures, there, size_gb=0.001)
        memory = plan(figures, there, works=most, size_gb=0.001).luigid_bytes
        yield f"| {hours} h | {_round(most)} | {memory / 1e6:,.0f} MB |"


def _share(share: float, place: Place) -> str:
    return f"{share:.1%}" if share <= place.busy else f"**{share:.0%}**"


def _round(works: float) -> str:
    """To two digits: what is planned is no more exact than that."""
    digits = max(0, math.floor(math.log10(works)) - 1)
    return f"{int(works / 10**digits) * 10**digits:,}"
