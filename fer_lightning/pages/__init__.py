"""Pages for a browser: templates and the one function that fills them in."""

from fer_lightning.pages.render import render

__all__ = ["render"]
