"""Drawn faces: who is drawn, what the face does, how it is painted."""
