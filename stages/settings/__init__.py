"""params.yaml as typed values: what it may contain, how it is read, how mistakes are reported."""
