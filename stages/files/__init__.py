"""Files that stages write and read: written whole or not at all, in formats that run no code."""
