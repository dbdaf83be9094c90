"""The last step: the copy in the archive, made by a script or our own copier, read back before anything counts."""

from pipeline.steps.sync.audit import TOOL as AUDIT_TOOL
from pipeline.steps.sync.home import archive
from pipeline.steps.sync.job import audit_logs_of, logs_of
from pipeline.steps.sync.options import BUILT_IN, SITE_FILE, Options, of_site
from pipeline.steps.sync.place import unmarked, unmounted
from pipeline.steps.sync.proof import Proof
from pipeline.steps.sync.readback import Brake
from pipeline.steps.sync.site import BUILTIN, DEFAULT_PATH, Site, Synced
from pipeline.steps.sync.verifying import Verdict, Verified, verify
