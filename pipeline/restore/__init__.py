"""Restore: how an object stands, and the request to bring it out of cold storage. Touches S3, and nothing else."""

from pipeline.restore.objects import Asked, Copy, Found, ask, listed, look
from pipeline.restore.tiers import ready_seconds, tier_for
