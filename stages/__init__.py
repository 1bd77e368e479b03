"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import sys

from stages import errors

# Set here because Ctrl-C often arrives while PyTorch is imported, before the body of a command begins.
sys.excepthook = errors.unhandled
