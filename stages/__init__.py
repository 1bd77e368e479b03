"""Headstart: self-supervised pretraining, measured honestly, as a DVC pipeline."""

import sys

from stages import errors

# Here, for Ctrl-C often comes while PyTorch is imported, before a command's body begins.
sys.excepthook = errors.unhandled
