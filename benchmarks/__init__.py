"""Measurements, side by side with other tools on the same servers: ``python -m benchmarks --help``."""
