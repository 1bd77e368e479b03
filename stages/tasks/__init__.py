"""The task of a model, classification: draws of labels, classifiers, probes, scores."""
