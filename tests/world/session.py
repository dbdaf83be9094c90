"""An operator's session at a site of the embedded stack: what she types is typed, what happens in the world happens."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.foundation.work import without_user
from tests.world import warm
from tests.world.console import Chapter, Step, says
from tests.world.stack import ROOT, Site

HOME, CODE = "/srv/bags", "/opt/bag-pipeline"
BUCKET, QUEUE = "glacier.staging.example.org", "ReadyToIntake"

_PLAIN = re.compile(r"run_pipeline\.py(?: [\w./=:,'@-]+)*")  # a line with nothing in it for a shell to do

Happening = Callable[..., None]
"""Does in the world what a sentence of the document says; is given the session, and what the sentence leaves open."""


class Happenings(dict[str, Happening]):
    """What can happen, by the pattern of the sentence that tells it."""

    def when(self, sentence: str) -> Callable[[Happening], Happening]:
        """The function does what the sentence says; the groups of its pattern are the function's arguments."""

        def register(happening: Happening) -> Happening:
            self[sentence] = happening
            return happening

        return register


@dataclass
class Session:
    """One chapter's session.

    Attributes:
        site: a site of this chapter alone; the document knows its folders and queues by the names above.
        folder: for what is not on the site, as bags on their way.
        until_end: what is undone when the session is over.
        names: how the document calls what has another name each time, by its real name.
        told: all that the operator has been told so far.
    """

    site: Site
    folder: Path
    until_end: contextlib.ExitStack
    names: dict[str, str] = field(default_factory=dict)
    told: str = ""
    _wrong: list[str] = field(default_factory=list)

    def play(self, chapter: Chapter, happenings: dict[str, Happening]) -> None:
        """Play a chapter.

        Raises:
            AssertionError: something else was shown than the document shows; it says all that was.
        """
        for step in chapter.steps:
            if step.kind == "#":
                self._happens(step, happenings)
            else:
                self._typed(step)
        assert not self._wrong, "\n".join(["the document is not true:", *self._wrong])

    def _happens(self, step: Step, happenings: dict[str, Happening]) -> None:
        for sentence, happening in happenings.items():
            if found := re.fullmatch(sentence, step.text):
                happening(self, *found.groups())
                return
        self._wrong.append(f"line {step.line}: nothing is known to happen when: {step.text}")

    def _typed(self, step: Step) -> None:
        ended = warm.ended(self._begun(self._real(step.text)))
        said = self._in_words_of_the_document(ended.stdout)
        self.told += said
        if not says(step.shown, said) or ended.returncode != step.status:
            shown = "".join(f"{line}\n" for line in step.shown)
            self._wrong.append(
                f"line {step.line}: $ {step.text}\n-- is shown with exit status {step.status}:\n{shown}"
                f"-- really says, with exit status {ended.returncode}:\n{said}"
            )

    def _begun(self, line: str) -> "subprocess.Popen[str]":
        environment, folder = self.environment, self.site.home
        if _PLAIN.fullmatch(line):
            words = shlex.split(line)[1:]
            return warm.start(words, environment=environment, folder=folder, stderr=subprocess.STDOUT)
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=folder,
            env={**environment, "LC_ALL": "C.UTF-8"},  # for what Debian's programs say
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def environment(self) -> dict[str, str]:
        """In which `run_pipeline.py` is found, and the user is called Dolma."""
        path = os.pathsep.join([str(self.site.home / "bin"), str(Path(sys.executable).parent), str(ROOT)])
        inherited = self.site.environment
        return {**inherited, "PATH": f"{path}{os.pathsep}{inherited['PATH']}", "LOGNAME": "dolma"} | {
            "PIPELINE_PIPELINE_HOST": "line1",
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }

    @property
    def _names(self) -> dict[str, str]:
        return {
            str(self.site.home): HOME,
            str(ROOT): CODE,
            self.site.bucket: BUCKET,
            self.site.queue: QUEUE,
            without_user(self.site.luigid_url): "http://127.0.0.1:8082",
            **self.names,
        }

    def _in_words_of_the_document(self, text: str) -> str:
        for real, name in self._names.items():
            text = text.replace(real, name)
        return text

    def _real(self, text: str) -> str:
        for real, name in self._names.items():
            text = text.replace(name, real)
        return text
