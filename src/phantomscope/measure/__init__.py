"""Measures of segmentations, images and distributions, with their uncertainty."""
