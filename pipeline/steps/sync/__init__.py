"""The last step: the work's copy in the archive, made by the site's script, read back here before anything counts."""

from pipeline.steps.sync.home import archive
from pipeline.steps.sync.readback import Comparison, Difference, compare
from pipeline.steps.sync.site import Site, Synced

__all__ = ["Comparison", "Difference", "Site", "Synced", "archive", "compare"]
