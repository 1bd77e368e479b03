"""Scratch: the control. An encoder with random weights, which is not pretrained.

It is finetuned and evaluated like every other method, so the gain of a method over it is the effect of
pretraining.
"""

from stages.settings.values import Section


class Params(Section):
    """No parameters, because nothing is trained."""
