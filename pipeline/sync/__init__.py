"""The last step: the copy in the archive, made by a script or our own copier, read back before anything counts."""

from pipeline.sync.archive import archive
from pipeline.sync.audit import TOOL as AUDIT_TOOL
from pipeline.sync.call import unmarked, unmounted
from pipeline.sync.fixity_check import FixityVerdict, Verified, verify
from pipeline.sync.job import audit_logs_of, logs_of
from pipeline.sync.narrowing import SITE_FILE, SyncOptions, of_site
from pipeline.sync.one_copy import is_ours, make_place, unpacking_place, why_not
from pipeline.sync.proof import Proof
from pipeline.sync.readback import Brake
from pipeline.sync.site import BUILTIN, DEFAULT_PATH, Synced, SyncSettings
