"""Benchmarks: what the README claims, measured by `make bench`."""
