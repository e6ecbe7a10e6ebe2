"""What to say of a network that nobody knows, or that cannot be built."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fer_lightning.text import first_line

__all__ = ["quoted", "unknown_backbone", "why_not"]


def unknown_backbone(name: str, ours: Sequence[str], timms: Iterable[str]) -> str:
    """Return the message for an unknown name, with the three nearest of our names and timm's."""
    known = [*ours, *timms]
    plain = name.rpartition(".")[2].rpartition("/")[2]  # torchvision.models.resnet18, timm/resnet18
    close = [plain] if plain != name and plain in known else difflib.get_close_matches(name, known, n=3)
    close = close or sorted((each for each in known if name and each.startswith(name.lower())), key=len)[:3]
    proposal = "; did you mean " + ", ".join(f"'{each}'" for each in close) + "?" if close else ""
    return (
        f"unknown backbone '{name}'{proposal} (ours: {', '.join(ours)}; timm's: a name of timm.list_models(), "
        "hf-hub:OWNER/NAME or local-dir:PATH; hf:PATH for a folder of transformers)"
    )


def why_not(name: str, pretrained: bool, options: Mapping[str, Any], error: Exception) -> str:
    """Return the message for a network that could not be built."""
    text = first_line(error)
    wrong = [option for option in options if f"'{option}'" in text]
    if isinstance(error, TypeError) and wrong:
        return f"'{name}' has no option {quoted(wrong)} ({text})"
    if pretrained and not isinstance(error, TypeError):
        return f"the pretrained weights of '{name}' could not be loaded ({text}); 'weights: PATH' loads a local file"
    given = ", ".join(f"{option}={value!r}" for option, value in options.items()) or "no options"
    return f"'{name}' cannot be built with {given}: {text}"


def quoted(names: Iterable[str]) -> str:
    """Return names in quotes, with commas between them."""
    return ", ".join(f"'{name}'" for name in names)
