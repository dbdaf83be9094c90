"""The tiers of a restore by storage class, and how long each takes.

Amazon S3 User Guide, "Understanding archive retrieval options"; the longest of what it says is counted on.
"""

_MINUTE, _HOUR = 60, 3600
_FLEXIBLE = {"bulk": 12 * _HOUR, "standard": 5 * _HOUR, "expedited": 5 * _MINUTE}
_DEEP = {"bulk": 48 * _HOUR, "standard": 12 * _HOUR}
_SECONDS = {
    "GLACIER": _FLEXIBLE,
    "DEEP_ARCHIVE": _DEEP,
    "ARCHIVE_ACCESS": _FLEXIBLE,
    "DEEP_ARCHIVE_ACCESS": _DEEP,
}
FROZEN_CLASSES = frozenset(_SECONDS)


def tier_for(storage_class: str, wanted: str) -> str:
    """The tier that was wanted, or the fastest that the class has: deep archives have no expedited one."""
    return wanted if wanted in _SECONDS.get(storage_class, _FLEXIBLE) else "standard"


def ready_seconds(storage_class: str, tier: str) -> int:
    """After how long S3 has restored an object, at the latest."""
    return _SECONDS.get(storage_class, _DEEP)[tier]
