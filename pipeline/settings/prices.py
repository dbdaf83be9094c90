"""The sections of `luigi.cfg` that are about restores: `[restore]`, and what S3 takes, `[prices REGION]`."""

from dataclasses import dataclass

from pipeline.foundation.declared import at_least, holds, setting, within

_PAIR = holds(lambda pair, _: len(pair) in {0, 2} and min(pair, default=0) >= 0, "is not two numbers with a comma")


@dataclass(frozen=True)
class Restores:
    """`[restore]`: what S3 is asked to bring out of cold storage, and how much of it at once."""

    at_most_works: int = setting(200, "works that are asked for, restored or on their way, and not home", at_least(1))
    at_most_bytes: int = setting(1 << 40, "bytes of those works", at_least(1))
    tier: str = setting(
        "bulk",
        "how fast S3 is to be; where a class has no such tier: standard",
        choices=("bulk", "standard", "expedited"),
    )
    days: int = setting(14, "how long a restored copy stays", within(1, 365))
    most_attempts: int = setting(
        3, "so often is one object asked for, where its copy ends before it is home", at_least(1)
    )
    most_cost: float = setting(
        0.0,
        "above this a call of `restore` needs --over-budget; 0: no limit",
        holds(lambda cost, _: cost >= 0, "is {}, no sum"),
    )
    currency: str = setting("USD", "of all prices")


_GIB = 1 << 30
_PER_REQUEST = 1000


@dataclass(frozen=True)
class Prices:
    """What S3 takes in a region. What is not set is not known, and nothing is guessed."""

    name: str
    glacier_bulk: tuple[float, ...] = setting(
        (), "S3 Glacier Flexible Retrieval: per GB, per 1,000 requests", _PAIR, text=""
    )
    glacier_standard: tuple[float, ...] = setting((), "the same, standard", _PAIR, text="")
    glacier_expedited: tuple[float, ...] = setting((), "the same, expedited", _PAIR, text="")
    deep_archive_bulk: tuple[float, ...] = setting(
        (), "S3 Glacier Deep Archive: per GB, per 1,000 requests", _PAIR, text=""
    )
    deep_archive_standard: tuple[float, ...] = setting((), "the same, standard", _PAIR, text="")
    copy_gb_month: float | None = setting(None, "the temporary copy, as S3 Standard: per GB and 30 days", text="")
    egress_gb: float | None = setting(None, "what leaves the region: per GB; 0 within it", text="")
    second_copy: tuple[float, ...] = setting(
        (), "second copies, in the class of the replica: per 1,000 requests, per GB and month", _PAIR, text=""
    )

    def asking(self, storage_class: str, tier: str, *, size_bytes: int, days: int) -> float | None:
        """What one restore costs, with its temporary copy; None: its prices are not set.

        What comes back from Intelligent-Tiering's archives has no copy and, but for expedited, no fee.
        """
        if storage_class.endswith("_ACCESS"):
            return None if tier == "expedited" else 0.0
        pair: tuple[float, ...] = getattr(self, f"{storage_class.lower()}_{tier}", ())
        if not pair or self.copy_gb_month is None:
            return None
        size = size_bytes / _GIB
        return size * pair[0] + pair[1] / _PER_REQUEST + size * self.copy_gb_month * days / 30

    def keeping(self, *, requests: int, size_bytes: int) -> tuple[float, float] | None:
        """What it costs to send second copies, and to keep them for a month; None: the price is not set."""
        if not self.second_copy:
            return None
        return requests / _PER_REQUEST * self.second_copy[0], size_bytes / _GIB * self.second_copy[1]

    def leaving(self, size_bytes: int) -> float | None:
        """What it costs that so many bytes leave the region; None: the price is not set."""
        return None if self.egress_gb is None else size_bytes / _GIB * self.egress_gb
