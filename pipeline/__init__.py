"""The pipeline that brings a digital library's works home from cold storage."""

__version__ = "0.2.0"
