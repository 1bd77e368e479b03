"""Imported: weights from elsewhere, as they are. Nothing is trained."""

from stages.settings.schema import Section, Start


class Params(Section):
    """Where the weights are."""

    start: Start
