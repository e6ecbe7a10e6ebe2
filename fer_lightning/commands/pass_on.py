"""Options that verbs pass on to others."""

from __future__ import annotations

from typing import Annotated

from fer_lightning.cli.verbs import Rest

__all__ = ["OfFit"]

OfFit = Annotated[
    list[str], Rest("options of fer fit", "Options that are not listed are those of fer fit (fer fit --help).")
]
