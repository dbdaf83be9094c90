"""Debag: verify a bag zip and unpack it, in one pass, into a folder that appears whole or not at all."""

from typing import TYPE_CHECKING

from pipeline.debag.policy import Debagged, DebaggedWork, Policy
from pipeline.foundation.faces import later

if TYPE_CHECKING:
    from pipeline.debag.faults import FaultKind
    from pipeline.debag.result import discard, load_marker
    from pipeline.debag.unpack import unpack
else:
    __getattr__ = later(__name__, faults="FaultKind", result="discard load_marker", unpack="unpack")
