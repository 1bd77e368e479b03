"""Reading image files and making thumbnails."""
