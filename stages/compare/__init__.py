"""Stage compare: what pretraining bought, with intervals."""
