"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import gc
import sys

from stages import errors

# Imports make a million objects that stay: Python's own thresholds would look through all of them again and
# again, which takes half a second of each command.
gc.set_threshold(50_000, 20, 50)

# Set here because Ctrl-C often arrives while PyTorch is imported, before the body of a command begins.
sys.excepthook = errors.unhandled
