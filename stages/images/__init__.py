"""Image files and small pictures."""
