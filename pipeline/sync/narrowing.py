"""Sync options as BDRC has them: those of the site, which a work's own `config/sync.yml` may narrow and never widen.

A payload is anyone's. What its file asks for beyond the site's options is not granted, and said so; what it asks for in
words that are not understood stops the work, because a misspelt `web: false` must not end in a publication.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pipeline.foundation.arguments import Command, command
from pipeline.foundation.errors import OptionsNotUnderstood
from pipeline.sync.options_file import Asked, Unreadable, read

WORK_FILE = Path("config", "sync.yml")
SITE_FILE = Path(".config", "bdrc", "site-sync.yml")
"""Relative to the home folder of the user who runs the pipeline."""

logger = logging.getLogger(__name__)

_TESTS = re.compile(r"\w+(?:,\w+)*")


@dataclass(frozen=True)
class SyncOptions:
    """What a sync does, besides proving.

    Attributes:
        audit_pre: words for the audit tool's command line, before the copy; empty = all tests.
        audit_post: the same after the copy.
        archive: whether the archive may be written.
        web: whether the web copy is made, where the site has a place for it.
        update_web: whether a web copy that is there is refreshed.
        source: where they come from: `built in`, or the files.
        not_granted: what the work's file asked for in vain, each with its reason.
    """

    audit_pre: tuple[str, ...] = ()
    audit_post: tuple[str, ...] = ()
    archive: bool = True
    web: bool = True
    update_web: bool = True
    source: str = "built in"
    not_granted: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The variables by which a sync script is told; what is at its default is not set."""
        variables = {"LOCAL_AUDIT_OPTIONS": " ".join(self.audit_pre), "REPO_AUDIT_OPTIONS": " ".join(self.audit_post)}
        return {
            **{name: value for name, value in variables.items() if value},
            **({} if self.update_web else {"NO_REFRESH_WEB": "Yes"}),
        }

    def arguments(self, *, archive_parent: str, web_parent: str) -> list[str]:
        """The arguments `-a` and `-w` of a sync script, each where it is wanted."""
        archive = ["-a", archive_parent] if self.archive else []
        return [*archive, "-w", web_parent] if self.web and web_parent else archive

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {
            "from": self.source,
            "audit": {"pre": list(self.audit_pre), "post": list(self.audit_post)},
            "sync": {"archive": self.archive, "web": self.web, "replace": False, "update_web": self.update_web},
            "not_granted": list(self.not_granted),
        }


BUILT_IN = SyncOptions()


def of_site(path: Path) -> SyncOptions:
    """The site's options: those of its file over those built in; those built in where there is no file.

    Raises:
        OptionsNotUnderstood: `facts['problems']` names all that is wrong.
    """
    problems: list[str] = []
    try:
        asked = read(path)
    except Unreadable as error:
        problems = error.problems
    except OSError as error:
        problems = [str(error.strerror)]
    else:
        if asked is None:
            return BUILT_IN
        problems = [
            text
            for name, unwanted, text in (
                ("sync.archive", False, "sync.archive is false: no work would ever come home"),
                (
                    "sync.replace",
                    True,
                    "sync.replace is true: other content in the archive is never replaced in passing",
                ),
            )
            if asked.get(name) is unwanted
        ]
        if not problems:
            return _merged(asked, source=str(path))
    raise OptionsNotUnderstood(f"{path}: {'; '.join(problems)}", go_on=("check",), facts={"problems": problems})


def by_site_alone(work_rid: str) -> Command:
    """Brings a work home whatever its own options say."""
    return Command(f"PIPELINE_SYNC_WORK_OPTIONS=ignore {command('work', work_rid)}")


def of_work(work_dir: Path, *, work_rid: str, site: SyncOptions) -> SyncOptions:
    """The site's options as far as the work's own file leaves them.

    Args:
        work_dir: the unpacked work, verified, without links.
        work_rid: the work, for the error.
        site: what the site has; the work's file can take from it, and add nothing.

    Raises:
        OptionsNotUnderstood: the file has words that are not known; what it wanted to keep from happening is not known.
        OSError: the disk failed.
    """
    path = work_dir / WORK_FILE
    try:
        asked = read(path)
    except Unreadable as error:
        raise OptionsNotUnderstood(
            f"its own {WORK_FILE} is not understood: {error}",
            work_rid=work_rid,
            kept=f"nothing was written; staging kept at {work_dir}",
            go_on=by_site_alone(work_rid),
            by_hand="mend the bag, or go by the site's options alone, as follows",
            facts={"problems": error.problems, "staging": str(work_dir)},
        ) from error
    chosen = site if asked is None else _narrowed(site, asked)
    for wish in chosen.not_granted:
        logger.warning("%s: its own %s asks in vain for %s", work_rid, WORK_FILE, wish)
    return chosen


def _merged(asked: Asked, *, source: str) -> SyncOptions:
    """The defaults, but for what a file asks for; `replace` is no option of a site."""
    told = {key.replace("audit.", "audit_").removeprefix("sync."): value for key, value in asked.items()}
    told.pop("replace", None)
    return replace(BUILT_IN, source=source, **cast("Mapping[str, Any]", told))


def _narrowed(site: SyncOptions, asked: Asked) -> SyncOptions:
    refused: list[str] = []
    changes: dict[str, Any] = {}
    for name in ("archive", "web", "update_web"):
        wanted, has = asked.get(f"sync.{name}"), getattr(site, name)
        changes[name] = has and wanted is not False
        if wanted is True and not has:
            refused.append(f"sync.{name}: true (the site says false)")
    if asked.get("sync.replace") is True:
        refused.append("sync.replace: true (a bag replaces nothing in the archive)")
    for name in ("pre", "post"):
        words = asked.get(f"audit.{name}")
        if isinstance(words, tuple) and words:
            had = getattr(site, f"audit_{name}")
            changes[f"audit_{name}"], why = _fewer_tests(had, words)
            refused += [f"audit.{name}: {' '.join(words)[:200]} ({why})"] if why else []
    source = f"{site.source}, narrowed by {WORK_FILE}"
    return replace(site, **changes, source=source, not_granted=tuple(refused))


def _fewer_tests(had: tuple[str, ...], asked: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The site's words with fewer tests, as a work asks for; and why it was not granted (in full), if so.

    Only `-T tests` can be asked for: any other option changes what the tool does or where it writes.
    """
    if len(asked) != 2 or asked[0] != "-T" or not _TESTS.fullmatch(asked[1]):
        return had, "only fewer tests can be asked for: -T and their names"
    place = had.index("-T") if "-T" in had[:-1] else -1
    if place < 0:
        return (*had, *asked), ""
    tests = had[place + 1].split(",")
    fewer = [name for name in asked[1].split(",") if name in tests]
    more = [name for name in asked[1].split(",") if name not in tests]
    why = f"the site does not run {', '.join(more)}" if more else ""
    return (*had[: place + 1], ",".join(fewer or tests), *had[place + 2 :]), why
