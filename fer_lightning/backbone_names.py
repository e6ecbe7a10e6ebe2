"""What to say of a network's name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["unknown_backbone"]


def unknown_backbone(name: str, ours: Sequence[str], timms: Iterable[str]) -> str:
    """Return the message for an unknown name, with the three nearest of our names and timm's."""
    close = difflib.get_close_matches(name, [*ours, *timms], n=3)
    proposal = "; did you mean " + ", ".join(f"'{each}'" for each in close) + "?" if close else ""
    return (
        f"unknown backbone '{name}'{proposal} (ours: {', '.join(ours)}; timm's: a name of timm.list_models(), "
        "hf-hub:OWNER/NAME or local-dir:PATH; hf:PATH for a folder of transformers)"
    )
