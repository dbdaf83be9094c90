"""`[callback NAME]`: who is told of works by HTTP, and the keys that sign it."""

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.foundation import guarded
from pipeline.foundation.declared import holds, setting, within
from pipeline.foundation.errors import SettingsError
from pipeline.record.outbox import CallbackEvent
from pipeline.settings.secrets import LOOPBACK
from pipeline.settings.sections import wrong_address

_KEY_BYTES = range(24, 65)  # Standard Webhooks 1.0.0, Signature scheme: 192 to 512 bits
_EVENTS = frozenset(map(str, CallbackEvent))


def _wrong_url(url: str, _: object) -> str:
    """What is wrong with a receiver's address; it may hold a password, so nothing of it is shown."""
    if not url or (wrong := wrong_address(url)):
        return wrong if url else ""
    place = urlsplit(url)
    if "@" in place.netloc or not url.isascii():
        return "holds a user, a password, or what is not ASCII"
    if place.scheme == "http" and place.hostname not in LOOPBACK:
        return "is http: only a receiver on this host may have that"
    return ""


@dataclass(frozen=True)
class Callback:
    """A receiver that is told of works by HTTP, signed as Standard Webhooks 1.0.0 has it."""

    name: str
    url: str = setting("", "where it listens: https, or on this host http", _wrong_url, needed=True)
    secret_file: Path = setting(
        Path(), "a file (mode 600) that holds the key that signs, whsec_…; or two, a while", text="", needed=True
    )
    events: tuple[str, ...] = setting(
        ("home",),
        "what it is told, with commas: home, failed, replicated",
        holds(lambda events, _: _EVENTS.issuperset(events), "are not all of home, failed, replicated"),
        text="home",
    )
    sources: tuple[str, ...] = setting((), "of works from these sources alone, with commas; empty: of all", text="")
    timeout_seconds: float = setting(15.0, "so long may one answer take", within(0.1, 60))
    give_up_days: float = setting(5.0, "after so long what it does not take is given up", within(0, 365))

    def wants(self, event: str, source: str) -> bool:
        """Whether it is told of that event, of works from that source."""
        return event in self.events and (not self.sources or source in self.sources)

    def keys(self) -> list[bytes]:
        """The keys that sign, read when they are needed: lanes have no use for them.

        Raises:
            SettingsError: they cannot be read, others can read them, or they are none.
        """
        where = f"[callback {self.name}] secret_file"
        try:
            words = guarded.read_secret(self.secret_file).decode("ascii").split()
            keys = [base64.b64decode(word.removeprefix("whsec_"), validate=True) for word in words]
        except OSError as error:
            raise SettingsError([f"{where}: {self.secret_file}: {error.strerror}"]) from error
        except ValueError:  # its words would show some of it
            keys = []
        if not keys or not all(word.startswith("whsec_") for word in words) or {*map(len, keys)} - {*_KEY_BYTES}:
            raise SettingsError([f"{where}: {self.secret_file} holds no key: whsec_ and 24 to 64 bytes in base64"])
        return keys
