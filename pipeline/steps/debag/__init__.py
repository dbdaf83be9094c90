"""Debag: verify a bag zip and unpack it, in one pass, into a folder that appears whole or not at all."""

from pipeline.steps.debag.faults import FaultKind

__all__ = ["FaultKind"]
