"""Stage baselines: simple classifiers on the same draws of labels, to compare every method with."""
