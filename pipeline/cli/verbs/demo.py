"""`run_pipeline.py demo`: the whole pipeline on an embedded stack, with sample bags."""

from pipeline.embedded import demo

main = demo.run
