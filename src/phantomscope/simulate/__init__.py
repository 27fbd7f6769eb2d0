"""Labelled sketches of cells, and the parameters fitted to real images."""
