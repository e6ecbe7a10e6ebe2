"""AffectNet in its forms."""
