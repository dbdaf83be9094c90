"""The outside worlds of one process, opened from the settings when they are first needed.

Tasks are made by Luigi from their parameters alone, so what they work with is found here. A lane opens its own site
after it is started; nothing here is ever shared between processes: a client or a connection that crosses a fork
returns other people's bytes and rows.
"""

import logging
import math
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from pipeline import download, intake, record, settings
from pipeline.foundation import aws, failpoints
from pipeline.foundation.errors import LeaseLost, PipelineError
from pipeline.foundation.signals import StopFlag
from pipeline.foundation.work import Bag
from pipeline.record import Leases, Record, outbox, replicas
from pipeline.settings import Replica, Settings, Source
from pipeline.tasks.heartbeat import Heartbeat
from pipeline.tasks.staging import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from sqlalchemy import Engine

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """Why a bag did not come home in the build that just ran, and after how many seconds it may be tried again."""

    error: PipelineError
    retry_seconds: int


@dataclass
class InHand:
    """What a lane works on in one build. The tasks find it here, and leave here what failed.

    Attributes:
        heartbeat: renews the leases.
        bags: their works' leases are ours.
        failures: why bags did not come home, by bag identity.
    """

    heartbeat: Heartbeat
    bags: list[Bag] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)


class _Named(Protocol):
    """What tells which bag is meant: a bag, or a task."""

    @property
    def work_rid(self) -> str: ...  # as of a bag
    @property
    def bag_id(self) -> str: ...  # as above


class Site:
    """What one lane works with.

    Args:
        chosen: the settings.
        lane: the lane's name, for the record and the logs.
        local_scheduler: without luigid.
    """

    def __init__(self, chosen: Settings, *, lane: str = "0", local_scheduler: bool = False) -> None:
        self.settings = chosen
        self.local_scheduler = local_scheduler
        self.host = chosen.host
        self.agent = f"{self.host}/{os.getpid()}/{lane}"
        self.stopping = StopFlag()
        self.in_hand: InHand | None = None
        self.replace = False  # an operator's word, for this process alone: nothing that is kept or sent can say it
        self._s3: dict[tuple[str, str, str, bool], S3Client] = {}
        self._sqs: dict[tuple[str, str, str, bool], SQSClient] = {}

    @cached_property
    def engine(self) -> "Engine":
        """The progress database, its tables made where it is empty.

        Raises:
            DatabaseUnavailable: it is out of reach.
            SettingsError: its URL is wrong.
            SchemaOutdated: its tables are of another release.
        """
        engine = record.connect(self.settings.database_url)
        if self.settings.callbacks:
            outbox.set_receivers(engine, self.settings.callbacks_for)
        record.prepare(engine)
        return engine

    @cached_property
    def record(self) -> Record:
        """The record, as this lane writes it: only of what it has leased."""
        return Record(self.engine, agent=self.agent, host=self.host, leases=self.leases)

    @cached_property
    def leases(self) -> Leases:
        """The leases of this lane; the random part keeps a process with a reused number from being taken for it."""
        return Leases(self.engine, owner=f"{self.agent}/{uuid.uuid4().hex[:8]}", seconds=self.settings.lease_seconds)

    @contextmanager
    def leased(self, work_rid: str, bag_id: str) -> Iterator[bool]:
        """Whether a work's lease could be had, for something short; nothing is renamed or deleted once it is lost.

        Then the block ends where it is: who has the lease now does the rest.

        Raises:
            DatabaseUnavailable: the database is out of reach.
        """
        if not self.leases.take(work_rid, bag_id):
            yield False
            return
        kept = self.new_heartbeat(work_rid)  # it does not beat, and looks when it is asked late
        try:
            with failpoints.only_while(lambda: kept.see_held(work_rid)):
                yield True
        except LeaseLost as error:
            _log.warning("%s", error)
        finally:
            self.leases.release(work_rid)

    def is_home(self, bag: Bag) -> bool:
        """Whether every work that the bag holds is home, and has a second copy in every replica that wants one.

        Raises:
            DatabaseUnavailable: the database is out of reach.
        """
        names = [one.name for one in self.settings.replicas_for(bag.source)]
        return self.record.all_synced(bag.bag_id) and not replicas.missing(self.engine, bag.bag_id, names)

    @property
    def silent_seconds(self) -> int:
        """For how long a lane may not be seen until it is taken for gone: two leases."""
        return 2 * self.settings.lease_seconds

    def place(self, bag: "_Named") -> Place:
        """Where the bag's files lie; of a task, those of its bag."""
        chosen = self.settings
        roots = {"staging": chosen.staging, "quarantine": chosen.quarantine}
        return Place.of(bag.work_rid, bag.bag_id, **roots, site=chosen.sync)

    def s3(self, bag: Bag, *, restoring: bool = False) -> "S3Client":
        """The client for the bag's bucket; to ask for restores it is one of its own, where the source says so."""
        source = self.settings.source(bag.source) or self.settings.source_of_bucket(bag.bucket)
        return self.s3_at(source, profile=source.restore_profile if restoring else "")

    def s3_at(self, there: Source | Replica, *, profile: str = "") -> "S3Client":
        """The client for a bucket, with its own profile unless another is named."""
        key = (there.region, profile or there.profile, there.endpoint_url, isinstance(there, Source))
        if key not in self._s3:
            self._s3[key] = aws.s3_client(region=key[0], profile=key[1], endpoint_url=key[2], signs_bodies=key[3])
        return self._s3[key]

    def sqs(self, source: Source, *, hasty: bool = False) -> "SQSClient":
        """The client for the source's queue; a hasty one gives up within seconds."""
        key = (source.region, source.profile, source.endpoint_url, hasty)
        if key not in self._sqs:
            self._sqs[key] = aws.sqs_client(region=key[0], profile=key[1], endpoint_url=key[2], hasty=hasty)
        return self._sqs[key]

    def download_options(self) -> download.FetchOptions:
        """How the download step is to fetch: with the limit that all lanes of this host share."""
        options, limit = self.settings.download, self.settings.download.bandwidth_bytes_per_second
        path = self.settings.staging / ".bandwidth"
        return replace(options, bandwidth=download.Bandwidth(path, limit)) if limit else options

    @property
    def heartbeat(self) -> Heartbeat:
        """The heartbeat of what is in hand; no task runs without one."""
        assert self.in_hand is not None
        return self.in_hand.heartbeat

    def new_heartbeat(self, *held: str, extend_message: Callable[[], None] = lambda: None) -> Heartbeat:
        """A heartbeat that renews the leases of these works, and keeps their message hidden."""
        return Heartbeat(
            self.leases,
            held,
            seconds=self.settings.heartbeat_seconds,
            stopping=self.stopping,
            extend_message=extend_message,
        )

    def backoff_seconds(self, failures: int, *, first: float = math.inf) -> int:
        """Seconds to wait after the n-th failure, as the settings have it; from `first` on where that is less."""
        chosen = self.settings
        first = min(first, chosen.backoff_seconds)
        return intake.backoff_seconds(failures, first=first, limit=chosen.backoff_limit_seconds)


_current: Site | None = None


def open_site(chosen: Settings | None = None, *, lane: str = "0", local_scheduler: bool = False) -> Site:
    """Make the site that the tasks of this process work with, from the settings.

    Raises:
        SettingsError: settings are missing or wrong.
    """
    global _current  # noqa: PLW0603  # Luigi makes tasks from parameters alone: one process, one site
    _current = Site(chosen or settings.load(), lane=lane, local_scheduler=local_scheduler)
    return _current


def current() -> Site:
    """The site of this process; opened from the settings for those who run a task without a lane.

    Raises:
        SettingsError: settings are missing or wrong.
    """
    return _current or open_site()


def is_open() -> bool:
    """Whether this process has a site; one that has must not be forked."""
    return _current is not None
