"""Which rows belong together, to which split, and which are left out."""
