"""Torture: lanes, their parents and the scheduler are killed at random instants; then everything is counted.

    python -m tests.line.torture --kills 200 --works 60        (or: make torture)

Prints its seed, so that a failure can be tried again, and its figures. The short form is part of the test suite.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy
from sqlalchemy.exc import OperationalError

from pipeline import record
from pipeline.embedded import embedded
from pipeline.foundation.work import archive_dir, staging_key
from pipeline.record import tables
from tests.world import servers
from tests.world.bags import bag_members, write_zip
from tests.world.stack import RUN_PIPELINE, Site, tree

LEASE_SECONDS = 3
RECOVERY_SECONDS = LEASE_SECONDS + 60
_SETTINGS = {
    "PIPELINE_SOURCE_TEST_SEVERAL_WORKS": "true",
    "PIPELINE_QUEUE_LEASE_SECONDS": str(LEASE_SECONDS),
    "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "0.5",
    "PIPELINE_QUEUE_BACKOFF_SECONDS": "1",
    "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "2",
    "PIPELINE_QUEUE_WAIT_SECONDS": "1",
    "PIPELINE_DEBAG_THREADS": "1",
}


@dataclass
class Figures:
    """What was done to it, and how it took it."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    takeovers: int = 0
    redeliveries: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """For a person."""
        slowest = max(self.recovery_seconds, default=0.0)
        kills = ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items()))
        return (
            f"seed {self.seed}: killed {kills}; {self.redeliveries} redeliveries, {self.takeovers} works taken over; "
            f"{len(self.recovery_seconds)} leases of killed lanes, the slowest free after {slowest:.1f} s; "
            f"{self.seconds:.0f} s in all"
        )


@dataclass
class Load:
    """What is put in, and so what has to come out."""

    works: dict[str, dict[str, bytes]] = field(default_factory=dict)
    syncs: int = 0
    poison: set[str] = field(default_factory=set)


class Torture:
    """One run of it, on a site of its own.

    Args:
        home: the folder for everything.
        moto_url: S3 and SQS, which are spared: they forget everything when they are killed.
        seed: of every random choice.
        works: how many works, some of them two in a zip, some in one message, some corrupt.
        kills: how many processes are killed before everything is left to finish.
        database_url: of an empty database; SQLite if there is none. A server's connections are killed as well.
    """

    def __init__(self, home: Path, moto_url: str, *, seed: int, works: int, kills: int, database_url: str = "") -> None:
        self._dice = random.Random(seed)
        self._copier = {host: self._dice.choice(["script", "builtin"]) for host in ("one", "two")}
        self._home = home
        self._kills = kills
        self._works = works
        self._scheduler = embedded.start_luigid(state=home / "luigid.pickle", log=home / "luigid.log")
        self._site = Site.make(home / "site", moto_url, self._scheduler.url, database_url=database_url)
        self._load = Load()
        self._runs: list[subprocess.Popen[bytes]] = []
        self._waiting: dict[str, tuple[str, float]] = {}
        self._before = {process.pid for process in psutil.process_iter()}
        self.figures = Figures(seed)

    def run(self) -> Figures:
        """Do it, and check everything in the end.

        Raises:
            AssertionError: a promise was broken.
        """
        started = time.monotonic()
        self._engine = record.connect(self._site.database_url)
        record.prepare(self._engine)
        try:
            self._put_everything_in()
            self._runs = [self._start(host) for host in ("one", "two")]
            for _ in range(self._kills):
                self._pause(self._dice.uniform(0.1, 1.2))
                self._kill_something()
            self._let_it_finish()
            self._stop()
            self._check()
        finally:
            self._end()
        logs = [path.read_text(encoding="utf-8") for path in self._home.glob("run-*.log")]
        self.figures.redeliveries = sum(text.count(": delivery number ") for text in logs)
        self.figures.seconds = time.monotonic() - started
        return self.figures

    def _put_everything_in(self) -> None:
        """Bags of all sizes, several in a message, several works in a zip, duplicates, corrupt ones, and nonsense."""
        self._allow_many_receives()
        bags = self._home / "bags"
        pending: list[Path] = []
        number = 0
        while len(self._load.works) < self._works:
            number += 1
            rids = [f"W{number}T{number % 100:02d}"]
            if self._dice.random() < 0.15:
                rids.append(f"W{number}U{number % 100:02d}")
            members: dict[str, bytes] = {}
            for rid in rids:
                files = {
                    f"images/I1/I{image:04d}.jpg": self._dice.randbytes(int(10 ** self._dice.uniform(1, 5.5)))
                    for image in range(self._dice.randint(1, 12))
                }
                self._load.works[rid] = files
                self._load.syncs += 1
                members |= bag_members(rid, files=files)
            pending.append(write_zip(bags / f"{rids[0]}.bag.zip", members))
        poison = [self._poison(bags, f"W9{n}P{n:02d}") for n in range(max(1, self._works // 12))]
        pending += poison
        self._load.poison = {staging_key(path.name.split(".")[0]) for path in poison} | {"nonsense"}
        self._dice.shuffle(pending)
        pending += self._dice.sample([path for path in pending if path not in poison], k=len(pending) // 6)
        while pending:
            together = [pending.pop() for _ in range(min(len(pending), self._dice.choice([1, 1, 1, 2, 3])))]
            # A poisoned bag travels alone, so that which messages end as dead letters is known beforehand.
            for path in [path for path in together if path in poison]:
                self._site.announce(path)
            if others := [path for path in together if path not in poison]:
                self._site.announce(*dict.fromkeys(others))
        self._site.send("nonsense")

    def _allow_many_receives(self) -> None:
        """Every kill costs a delivery: with the usual five, healthy works would end as dead letters by design."""
        sqs, site = self._site.sqs, self._site
        arn = sqs.get_queue_attributes(QueueUrl=site.dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1000"})
        sqs.set_queue_attributes(QueueUrl=site.queue_url, Attributes={"RedrivePolicy": policy})

    def _poison(self, bags: Path, rid: str) -> Path:
        members = bag_members(rid)
        name = next(name for name in members if "/data/" in name)
        return write_zip(bags / f"{rid}.bag.zip", {**members, name: members[name] + b"!"})

    def _start(self, host: str) -> "subprocess.Popen[bytes]":
        settings = {
            **self._site.environment,
            **_SETTINGS,
            "PIPELINE_PIPELINE_HOST": host,
            "PIPELINE_SYNC_COPIER": self._copier[host],
            "PIPELINE_PIPELINE_STAGING": str(self._home / f"staging-{host}"),
            "PIPELINE_PIPELINE_LOGS": str(self._home / f"logs-{host}"),
        }
        with (self._home / f"run-{host}.log").open("ab") as sink:
            return subprocess.Popen(
                [sys.executable, str(RUN_PIPELINE), "run", "--watch", "--lanes", "2"],
                env=settings,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def _pause(self, seconds: float) -> None:
        """Wait, and look meanwhile when the leases of killed lanes come free."""
        over = time.monotonic() + seconds
        while True:
            self._watch_leases()
            if time.monotonic() >= over:
                return
            time.sleep(0.1)

    def _owners(self) -> dict[str, str]:
        with self._engine.connect() as connection:
            rows = connection.execute(sqlalchemy.select(tables.leases.c.work_rid, tables.leases.c.owner)).all()
        return {row.work_rid: row.owner for row in rows}

    def _watch_leases(self) -> None:
        owners = self._owners()
        for rid, (owner, killed_at) in list(self._waiting.items()):
            if owners.get(rid) != owner:
                self.figures.recovery_seconds.append(time.monotonic() - killed_at)
                del self._waiting[rid]

    def _kill_something(self) -> None:
        number = self._dice.randrange(len(self._runs))
        run = self._runs[number]
        lanes = psutil.Process(run.pid).children() if run.poll() is None else []
        what = self._dice.choices(["lane", "parent", "luigid", "connections"], weights=[8, 1, 1, 2])[0]
        if what == "lane" and lanes:
            victim = self._dice.choice(lanes)
            now = time.monotonic()
            held = {rid: owner for rid, owner in self._owners().items() if f"/{victim.pid}/" in owner}
            victim.send_signal(signal.SIGKILL)
            self._waiting |= {rid: (owner, now) for rid, owner in held.items()}
            self.figures.takeovers += len(held)
            self.figures.kills["lanes"] += 1
        elif what == "connections" and self._kill_connections():
            self.figures.kills["database connections"] += 1
        elif what == "parent":
            run.kill()
            run.wait()
            psutil.wait_procs(lanes, timeout=20)
            self._runs[number] = self._start(("one", "two")[number])
            self.figures.kills["parents"] += 1
        else:
            port = int(self._scheduler.url.rsplit(":", 1)[1])
            self._scheduler.process.kill()
            self._scheduler.end()
            time.sleep(self._dice.uniform(0, 1))
            self._scheduler = embedded.start_luigid(
                state=self._home / "luigid.pickle", log=self._home / "luigid.log", port=port
            )
            self.figures.kills["schedulers"] += 1

    def _kill_connections(self) -> bool:
        """Every connection to the database server but our own; False where there is no server."""
        dialect = self._engine.dialect.name
        if dialect == "sqlite":
            return False
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if dialect == "postgresql":
                connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                return True
            own = connection.exec_driver_sql("SELECT connection_id()").scalar()
            for number in connection.exec_driver_sql(
                "SELECT id FROM information_schema.processlist WHERE db = database()"
            ).scalars():
                if number != own:
                    with contextlib.suppress(OperationalError):  # it has ended by itself
                        connection.exec_driver_sql(f"KILL {int(number)}")
        return True

    def _let_it_finish(self) -> None:
        over = time.monotonic() + 120 + 3 * self._works
        while True:
            self._pause(0.5)
            done = {rid for rid, work in self._site.works().items() if work.stage == "done"}
            everything = done == set(self._load.works) and self._site.depth() == 0 and not self._waiting
            if everything and not self._staged():
                return
            if any(work.error_kind == "lane-died" for work in self._site.works().values()):
                self._site.call("retry", "--kind", "lane-died")  # as an operator would
            missing = set(self._load.works) - done
            assert time.monotonic() < over, (
                f"not home: {missing}; {self._site.depth()} messages; {self._waiting}; staged: {self._staged()}"
            )

    def _stop(self) -> None:
        for run in self._runs:
            # Python itself, while it starts, knows no better than to die of a signal; before its lanes a run knows.
            over = time.monotonic() + 60
            while run.poll() is None and not psutil.Process(run.pid).children() and time.monotonic() < over:
                time.sleep(0.05)
            run.terminate()
        for run in self._runs:
            assert run.wait(30) == 0, f"run ended with {run.returncode}"

    def _check(self) -> None:
        site, load = self._site, self._load
        archive = site.home / "archive"
        for rid, files in load.works.items():
            found = tree(archive_dir(archive, rid))
            assert {name: found.get(name) for name in files} == files, f"{rid} is not what was put in"
        homes = {path.name for path in archive.glob("Archive*/*/*") if not path.name.startswith(".")}
        assert homes == set(load.works), f"archived: {homes ^ set(load.works)}"
        litter = sorted(path.relative_to(archive) for path in archive.rglob(".*"))
        assert not litter, f"litter in the archive: {litter}"
        assert len(site.rows("syncs")) == load.syncs, "a work has not exactly one sync row"
        bodies = [dead["Body"] for dead in self._all_dead_letters()]
        poison = {key for key in load.poison if any(key in body for body in bodies)}
        assert poison == load.poison, f"not dead-lettered: {load.poison - poison}"
        assert all(any(key in body for key in load.poison) for body in bodies), "a healthy work is a dead letter"
        assert self._staged() == [], f"left in staging: {self._staged()}"
        assert site.rows("leases") == [], "a lease is left"
        assert self._processes() == [], "a process is left"
        assert max(self.figures.recovery_seconds, default=0.0) <= RECOVERY_SECONDS

    def _staged(self) -> list[Path]:
        return [path for host in ("one", "two") for path in (self._home / f"staging-{host}").glob("*")]

    def _all_dead_letters(self) -> list[dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for _ in range(50):
            answer = self._site.sqs.receive_message(
                QueueUrl=self._site.dead_url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=60,
                MessageAttributeNames=["ErrorKind"],
            )
            messages: list[Any] = list(answer.get("Messages", []))
            if not messages:
                break
            # A work of which three lanes were killed was set aside, until `_let_it_finish` asked for it again.
            found |= {
                message["MessageId"]: {"Body": message["Body"]}
                for message in messages
                if message.get("MessageAttributes", {}).get("ErrorKind", {}).get("StringValue") != "lane-died"
            }
        return list(found.values())

    def _processes(self) -> list[str]:
        """Whatever still runs and has to do with this home, the scheduler apart."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "environ", "status"]):
            facts = process.info
            mine = str(self._home) in " ".join(facts["cmdline"] or ()) + str(facts["environ"] or {})
            if mine and facts["pid"] not in {*self._before, os.getpid(), self._scheduler.process.pid}:
                found.append(" ".join(facts["cmdline"] or ()))
        return found

    def _end(self) -> None:
        for run in self._runs:
            if run.poll() is None:
                family = psutil.Process(run.pid).children(recursive=True)
                run.kill()
                run.wait()
                psutil.wait_procs(family, timeout=10)
        self._scheduler.end()
        self._engine.dispose()


def main() -> int:
    """The long form, by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--works", type=int, default=60)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "mariadb"], default="sqlite")
    options = parser.parse_args()
    tell: Callable[[str], object] = sys.stdout.write
    tell(f"seed {options.seed}\n")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, and what was made goes
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        url = stack.enter_context(embedded.moto(log=home / "moto.log"))
        database_url = ""
        if options.database != "sqlite":
            folder = home / "database"
            folder.mkdir()
            home.chmod(0o755)
            server = stack.enter_context(getattr(servers, options.database)(folder))
            assert server, f"{options.database} is not installed"
            database_url = stack.enter_context(servers.empty_database(server))
        figures = Torture(
            home, url, seed=options.seed, works=options.works, kills=options.kills, database_url=database_url
        ).run()
    tell(f"{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
