"""Files that stages write and read: whole or absent, in formats that run no code."""
