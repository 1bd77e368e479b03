"""Random views of whole batches of images."""
