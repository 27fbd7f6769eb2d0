"""Annotated synthetic microscopy, from unannotated images to a measured model."""

__version__ = "0.1.0"
