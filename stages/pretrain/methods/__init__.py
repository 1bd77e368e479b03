"""Pretraining methods: one file each, imported by its name."""
