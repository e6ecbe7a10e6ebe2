"""Finding the faces in a picture."""
