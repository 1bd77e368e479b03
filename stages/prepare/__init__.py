"""Stage prepare: turns a data source into images, labels and a test split."""
