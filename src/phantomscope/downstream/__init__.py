"""Segmentation tools trained on the synthetic images."""
