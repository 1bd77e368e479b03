"""Stage evaluate: the only reader of the test split."""
