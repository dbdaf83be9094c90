"""The last step: the work's copy in the archive, made by the site's script, read back here before anything counts."""

from pipeline.steps.sync.audit import TOOL as AUDIT_TOOL
from pipeline.steps.sync.home import archive
from pipeline.steps.sync.options import BUILT_IN, SITE_FILE, Options, of_site
from pipeline.steps.sync.proof import Proof
from pipeline.steps.sync.readback import Brake, Comparison, Difference, compare
from pipeline.steps.sync.site import DEFAULT_PATH, Site, Synced
from pipeline.steps.sync.verifying import Verdict, Verified, verify

__all__ = [
    "AUDIT_TOOL",
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
    "compare",
    "of_site",
    "verify",
]
