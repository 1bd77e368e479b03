"""What is asked of a model: classification. Draws of labels, classifiers, probes, scores."""
