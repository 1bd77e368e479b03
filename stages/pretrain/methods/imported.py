"""Imported: the weights in a file, unchanged. Nothing is trained."""

from stages.settings.schema import Start
from stages.settings.values import Section


class Params(Section):
    """The file of the weights."""

    start: Start
