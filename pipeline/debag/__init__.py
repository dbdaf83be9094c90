"""Debag: verify a bag zip and unpack it, in one pass, into a folder that appears whole or not at all."""

from pipeline.debag.faults import FaultKind
from pipeline.debag.policy import Debagged, DebaggedWork, Policy
from pipeline.debag.result import discard, load_marker
from pipeline.debag.unpack import unpack
