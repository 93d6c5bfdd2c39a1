"""Measurements of speed and memory; the figures in README.md and docs/bench.md come from here."""
