"""Labels that stand beside images: in tables, in texts for each image, in the names of the files."""
