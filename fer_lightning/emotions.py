"""Names, order and codes of the expressions: the only place that knows them.

Everything downstream reads ``class_names`` from a :class:`LabelScheme`. A data set declares its own raw codes here and
is mapped *by name*, so that no two sets can disagree silently about what "4" means.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from fer_lightning.errors import LabelError

__all__ = [
    "EIGHT",
    "FER2013_CODES",
    "FERPLUS_COLUMNS",
    "SCHEMES",
    "SEVEN",
    "SYNONYMS",
    "LabelScheme",
    "canonical",
    "scheme_of",
]


@dataclass(frozen=True)
class LabelScheme:
    """An ordered set of classes.

    Attributes:
        name: short identifier, stored in checkpoints and output files.
        class_names: canonical names; the position is the label.
    """

    name: str
    class_names: tuple[str, ...]

    def index(self, name: str) -> int:
        """Return the label of an expression given by any known name.

        Raises:
            LabelError: if the name is unknown or not part of this scheme.
        """
        found = canonical(name)
        if found not in self.class_names:
            raise LabelError(f"'{name}' is not part of the label scheme '{self.name}' ({', '.join(self.class_names)})")
        return self.class_names.index(found)


SEVEN = LabelScheme("fer7", ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"))
"""The seven expressions in the code order of FER2013 (Goodfellow et al. 2013, arXiv:1307.0414)."""

EIGHT = LabelScheme("fer8", (*SEVEN.class_names, "contempt"))
"""The seven and contempt, as in FER+ and AffectNet, in this project's order."""

SCHEMES: dict[str, LabelScheme] = {scheme.name: scheme for scheme in (SEVEN, EIGHT)}

SYNONYMS: dict[str, str] = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "calm": "neutral",
    "contemptuous": "contempt",
}
"""Other names in use, mapped to the canonical ones."""

FER2013_CODES: dict[int, str] = dict(enumerate(SEVEN.class_names))
"""``emotion`` column of fer2013.csv."""

FERPLUS_COLUMNS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Vote columns of fer2013new.csv (Barsoum et al. 2016, arXiv:1608.01041); NF means "not a face"."""


def canonical(name: str) -> str:
    """Map any known name of an expression to the canonical one.

    Args:
        name: for example ``"Anger"``, ``"happiness"`` or ``"angry"``; case and surrounding spaces do not matter.

    Raises:
        LabelError: for an unknown name; the message proposes the nearest known one.
    """
    key = name.strip().lower()
    if key in EIGHT.class_names:
        return key
    if key in SYNONYMS:
        return SYNONYMS[key]
    known = [*EIGHT.class_names, *SYNONYMS]
    close = difflib.get_close_matches(key, known, n=1)
    proposal = f"; did you mean '{SYNONYMS.get(close[0], close[0])}'?" if close else ""
    raise LabelError(f"unknown expression '{name}'{proposal} (known: {', '.join(EIGHT.class_names)})")


def scheme_of(class_names: Sequence[str]) -> str:
    """Return the name of the scheme with exactly these classes in this order, or ``"custom"``."""
    for scheme in SCHEMES.values():
        if scheme.class_names == tuple(class_names):
            return scheme.name
    return "custom"
