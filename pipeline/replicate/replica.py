"""A second copy of every archived work: where it goes, and how it is kept there."""

from dataclasses import dataclass

from pipeline.foundation.declared import at_least, holds, setting

CLASSES = ("DEEP_ARCHIVE", "GLACIER", "GLACIER_IR", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "STANDARD")


@dataclass(frozen=True)
class Replica:
    """A bucket for a second copy of every work that comes home."""

    name: str
    region: str = setting("", "AWS region of the bucket", needed=True)
    bucket: str = setting("", "the bucket", needed=True)
    prefix: str = setting(
        "",
        "begins each key; empty: as BDRC's, `Archive{n}/…`",
        holds(lambda text, _: not text or text.endswith("/"), "is {!r}, which does not end with /"),
    )
    profile: str = setting("", "section of the AWS credentials file; empty: as boto3 finds credentials")
    endpoint_url: str = setting("", "another S3 than Amazon's; for trials")
    storage_class: str = setting("DEEP_ARCHIVE", "S3's class of the objects", choices=CLASSES)
    kms_key: str = setting("", "the KMS key that encrypts them; empty: as the bucket has it")
    lock_days: int = setting(
        0, "nobody may delete a copy for so long (Object Lock, governance); 0: no lock", at_least(0)
    )
    sources: tuple[str, ...] = setting((), "of these sources alone, with commas; empty: of all", text="")

    def wants(self, source: str) -> bool:
        """Whether bags of that source get a copy here."""
        return not self.sources or source in self.sources
