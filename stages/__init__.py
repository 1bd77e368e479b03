"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""
