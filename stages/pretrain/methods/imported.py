"""Imported: the weights in a file, unchanged. Nothing is trained."""

from stages.settings.schema import Section, Start


class Params(Section):
    """The file of the weights."""

    start: Start
