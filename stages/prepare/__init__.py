"""Stage prepare: images in, three separate outputs."""
