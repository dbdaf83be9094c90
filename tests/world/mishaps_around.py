"""As `tests.world.mishaps`: what happens in docs/operations.md to all that is around the works."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from sqlalchemy import update

from pipeline import record
from pipeline.embedded import embedded
from pipeline.foundation import guarded
from pipeline.record import tables
from pipeline.record.tables import utc_in
from tests.world import servers
from tests.world.mishaps import announced, run
from tests.world.session import Happenings, Session

HAPPENINGS = Happenings()
when = HAPPENINGS.when
LUIGID_FORGETS_SECONDS = 4
"""After which the embedded luigid takes a lane that it has not heard of for dead."""


# 11. no scheduler


@when(r"luigid does not come up after a restart of the host\.")
def luigid_down(day: Session) -> None:
    day.site.luigid_url = f"http://127.0.0.1:{servers.free_port()}"
    password_file = embedded.password_file(day.folder / "luigid.state")
    guarded.secret_of(password_file)
    day.site.settings["PIPELINE_SCHEDULER_URL"] = day.site.luigid_url
    day.site.settings["PIPELINE_PIPELINE_SCHEDULER_PASSWORD_FILE"] = str(password_file)


@when(r"She starts it\.")
def luigid_up(day: Session) -> None:
    port = int(day.site.luigid_url.rpartition(":")[2])
    child = embedded.start_luigid(state=day.folder / "luigid.state", log=day.folder / "luigid.log", port=port)
    day.until_end.callback(child.end)


# 12. a killed lane


@when(r"(W\w+) comes back from Glacier\. The kernel, short of memory, kills the lane that copies it into the archive\.")
def lane_killed(day: Session, rid: str) -> None:
    announced(day, rid)
    run(day, PIPELINE_TEST_KILL_AT="sync copied, not committed")


@when(r"Eleven minutes pass without a run; the lane's lease ended after 5 of them\.")
def lease_ends(day: Session) -> None:
    engine = record.connect(day.site.database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = '2026-01-01 00:00:00.000000'")
        connection.execute(update(tables.lanes).values(seen_on=utc_in(-11 * 60)))
    engine.dispose()
    time.sleep(LUIGID_FORGETS_SECONDS)


# 14. notifications that do not arrive


class _Mailbox:
    def __init__(self, file: Path) -> None:
        self._file = file

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self._file.write_bytes(envelope.content)
        return "250 kept"


def mail_settings(port: int) -> Mapping[str, str]:
    return {
        "PIPELINE_NOTIFY_SMTP_HOST": "127.0.0.1",
        "PIPELINE_NOTIFY_SMTP_PORT": str(port),
        "PIPELINE_NOTIFY_SMTP_SECURITY": "none",
        "PIPELINE_NOTIFY_MAIL_FROM": "pipeline@example.org",
        "PIPELINE_NOTIFY_MAIL_TO": "dolma@example.org",
    }


@when(r"The mail server has moved\.")
def mail_server_moved(day: Session) -> None:
    day.site.settings.update(mail_settings(servers.free_port()))


@when(r"She sets \[notify\] smtp_host to its new name\.")
def mail_server_found(day: Session) -> None:
    port = servers.free_port()
    server = Controller(_Mailbox(day.site.home / "mail"), hostname="127.0.0.1", port=port)
    server.start()
    day.until_end.callback(server.stop)
    day.site.settings.update(mail_settings(port))


# 15. a setting that is wrong


@when(r"Somebody has edited luigi\.cfg in a hurry\.")
def misspelt(day: Session) -> None:
    with (day.site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write("[debag]\nthread = 4\n[sync]\ncopier = rsync\n")


@when(r"She puts both right\.")
def spelt(day: Session) -> None:
    config = day.site.home / "luigi.cfg"
    text = config.read_text(encoding="utf-8").replace("thread = 4", "threads = 4").replace("= rsync", "= script")
    config.write_text(text, encoding="utf-8")
