"""Measurements beside the pipeline: what was tuned and how fast it is."""
