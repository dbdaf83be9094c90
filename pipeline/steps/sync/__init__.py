"""The last step: the copy in the archive, made by a script or our own copier, read back before anything counts."""

from pipeline.steps.sync.audit import TOOL as AUDIT_TOOL
from pipeline.steps.sync.home import archive
from pipeline.steps.sync.job import audit_logs_of, logs_of
from pipeline.steps.sync.options import BUILT_IN, SITE_FILE, Options, of_site
from pipeline.steps.sync.place import unmarked, unmounted
from pipeline.steps.sync.proof import Proof
from pipeline.steps.sync.readback import Brake, Comparison, Difference, compare
from pipeline.steps.sync.site import BUILTIN, DEFAULT_PATH, Site, Synced
from pipeline.steps.sync.verifying import Verdict, Verified, verify

__all__ = [
    "AUDIT_TOOL",
    "BUILTIN",
    "BUILT_IN",
    "DEFAULT_PATH",
    "SITE_FILE",
    "Brake",
    "Comparison",
    "Difference",
    "Options",
    "Proof",
    "Site",
    "Synced",
    "Verdict",
    "Verified",
    "archive",
    "audit_logs_of",
    "compare",
    "logs_of",
    "of_site",
    "unmarked",
    "unmounted",
    "verify",
]
