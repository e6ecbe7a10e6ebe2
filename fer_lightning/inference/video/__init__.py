"""Faces over time: reading videos, following persons, smoothing and summing up what their faces show."""
