"""Measurements outside the pipeline: speed, memory, quality, and comparisons with other libraries."""
