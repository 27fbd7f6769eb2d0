"""Typed models of every option, and how they are loaded and documented."""
