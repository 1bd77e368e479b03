"""params.yaml as typed values: its schema, how it is read, what is said of a mistake."""
