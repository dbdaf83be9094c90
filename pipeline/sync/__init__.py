"""The last step: the copy in the archive, made by a script or our own copier, read back before anything counts."""

from typing import TYPE_CHECKING

from pipeline.foundation.faces import later
from pipeline.sync.narrowing import SITE_FILE, SyncOptions, of_site
from pipeline.sync.proof import Proof
from pipeline.sync.site import BUILTIN, DEFAULT_PATH, Synced, SyncSettings

if TYPE_CHECKING:
    from pipeline.sync.archive import archive
    from pipeline.sync.audit import AUDIT_TOOL
    from pipeline.sync.beside_works import leftovers
    from pipeline.sync.call import unmarked, unmounted
    from pipeline.sync.fixity_check import FixityVerdict, Verified, at_sight, kept, verify
    from pipeline.sync.job import audit_logs_of, log_days, logs_of
    from pipeline.sync.one_copy import is_ours, make_place, unpacking_place, why_not
    from pipeline.sync.readback import Brake
else:
    __getattr__ = later(
        __name__,
        archive="archive",
        audit="AUDIT_TOOL",
        beside_works="leftovers",
        call="unmarked unmounted",
        fixity_check="FixityVerdict Verified at_sight kept verify",
        job="audit_logs_of log_days logs_of",
        one_copy="is_ours make_place unpacking_place why_not",
        readback="Brake",
    )
