"""Scratch: the control arm. A freshly initialised encoder that is trained on nothing.

It goes through the same finetuning and evaluation as every other method, so a gain over it is
what pretraining bought.
"""

from stages.settings.schema import Section


class Params(Section):
    """Nothing is trained, so there is nothing to set."""
