"""Parallel work: lanes are processes, a lane takes parcels from sources, each bag is brought home by Luigi builds."""
