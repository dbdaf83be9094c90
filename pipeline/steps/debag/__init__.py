"""Debag: verify a bag zip and unpack it, in one pass, into a folder that appears whole or not at all."""

from pipeline.steps.debag.faults import FaultKind
from pipeline.steps.debag.marker import load_marker
from pipeline.steps.debag.policy import Debagged, DebaggedWork, Policy
from pipeline.steps.debag.staging import discard
from pipeline.steps.debag.unpacking import unpack
