"""Who is drawn: proportions, skin, hair, age and what they wear."""

from __future__ import annotations

from dataclasses import dataclass

from fer_lightning.data.sets.sketch.actions import Dice
from fer_lightning.data.sets.sketch.rendering import RGB, mix

__all__ = ["AGE_GROUPS", "SKIN_TONES", "Person", "sample_person"]

AGE_GROUPS = ("young", "adult", "older")
"""Values of the column ``age_group``."""

SKIN_TONES: dict[str, tuple[RGB, RGB]] = {
    "light": ((245, 220, 202), (228, 190, 160)),
    "medium": ((216, 178, 144), (176, 132, 100)),
    "dark": ((148, 102, 74), (90, 62, 48)),
}
"""Ends of each group's range of skin colours."""

_EXPOSURE: dict[str, tuple[float, float]] = {"light": (0.8, 0.98), "medium": (0.92, 1.2), "dark": (1.22, 1.5)}
"""Range of the camera's gain for each group: photographers expose for the face, so that every skin shows its detail."""
_HAIR: tuple[RGB, ...] = ((28, 23, 22), (46, 32, 26), (84, 54, 34), (124, 78, 44), (176, 134, 82), (140, 62, 34))
_GREY: tuple[RGB, ...] = ((150, 148, 146), (182, 180, 176), (112, 108, 106))
_CLOTH: tuple[RGB, ...] = ((52, 74, 110), (140, 58, 62), (66, 104, 84), (210, 200, 184), (92, 76, 112), (58, 60, 66))
_IRIS: tuple[RGB, ...] = ((58, 38, 26), (78, 50, 32), (96, 104, 70), (88, 116, 142))
_STYLES = ("short", "short", "parted", "curly", "long", "bob", "bun", "scarf", "shaven")
"""Of the hair, ``scarf`` for a covered head; one that stands twice is twice as common."""
_BEARDED = ("short", "parted", "curly", "shaven")


@dataclass(frozen=True)
class Person:
    """A face at rest. Lengths are in face units (half the height of the head).

    Attributes:
        skin_tone: a key of ``SKIN_TONES``.
        age_group: one of ``AGE_GROUPS``.
        glasses: whether the person wears any.
        width: half the width of the head.
        chin: height of the chin below the origin.
        taper: how much the face narrows towards the chin.
        eye_x: distance of an eye from the middle.
        eye_y: height of the eyes.
        eye_w: half the width of an eye.
        eye_open: how far the upper lid stands above the corners.
        canthal: height of the outer corner above the inner one.
        brow_y: height of the brows.
        brow_w: thickness of the brows.
        brow_arch: rise of the brows' middle.
        nose_y: height of the nose's base.
        nose_w: half the width of the nose.
        mouth_y: height of the mouth.
        mouth_w: half the width of the mouth.
        lips: thickness of a lip.
        wrinkles: 0 smooth .. 1, what age has drawn.
        hair: style, or ``shaven``.
        hairline: height of the hair's edge above the forehead.
        beard: ``none``, ``moustache`` or ``full``.
        gaze: of the eyes, along x and y.
        palette: colour of each ink, 0..255.
    """

    skin_tone: str
    age_group: str
    glasses: bool
    width: float
    chin: float
    taper: float
    eye_x: float
    eye_y: float
    eye_w: float
    eye_open: float
    canthal: float
    brow_y: float
    brow_w: float
    brow_arch: float
    nose_y: float
    nose_w: float
    mouth_y: float
    mouth_w: float
    lips: float
    wrinkles: float
    hair: str
    hairline: float
    beard: str
    gaze: tuple[float, float]
    palette: dict[str, RGB]

    @property
    def exposure(self) -> tuple[float, float]:
        """Range of gains with which a photographer would expose for this skin."""
        return _EXPOSURE[self.skin_tone]


def sample_person(dice: Dice, difficulty: float = 1.0) -> Person:
    """Return a random person; the difficulty scales how far the eyes wander, people differ at any."""
    tone, age = dice.pick(tuple(SKIN_TONES)), dice.pick(AGE_GROUPS)
    young, older = age == "young", age == "older"
    hair = dice.pick(_STYLES)
    bearded = not young and hair in _BEARDED and dice.chance(0.35)
    eye_y = dice.between(-0.09, -0.02) + 0.04 * young
    hairline = dice.between(-0.72, -0.58) - 0.08 * (older and hair in _BEARDED)
    return Person(
        skin_tone=tone,
        age_group=age,
        glasses=dice.chance(0.25),
        width=dice.between(0.69, 0.80) + 0.03 * young,
        chin=dice.between(0.94, 1.05) - 0.04 * young,
        taper=dice.between(0.10, 0.30),
        eye_x=dice.between(0.31, 0.36),
        eye_y=eye_y,
        eye_w=dice.between(0.145, 0.175) * (1.08 if young else 1.0),
        eye_open=dice.between(0.078, 0.098) * (1.1 if young else 0.92 if older else 1.0),
        canthal=dice.between(-0.005, 0.03) - 0.02 * older,
        brow_y=eye_y - dice.between(0.225, 0.265),
        brow_w=dice.between(0.03, 0.055),
        brow_arch=dice.between(0.02, 0.05),
        nose_y=dice.between(0.31, 0.37) - 0.04 * young,
        nose_w=dice.between(0.12, 0.18) - 0.015 * young,
        mouth_y=dice.between(0.56, 0.61) - 0.01 * young,
        mouth_w=dice.between(0.23, 0.28),
        lips=dice.between(0.045, 0.085) * (0.75 if older else 1.0),
        wrinkles=dice.between(0.4, 0.8) if older else 0.0 if young else dice.between(0.0, 0.2),
        hair=hair,
        hairline=hairline,
        beard=dice.pick(("moustache", "full", "full")) if bearded else "none",
        gaze=(difficulty * dice.between(-0.035, 0.035), difficulty * dice.between(-0.012, 0.012)),
        palette=_sample_palette(dice, tone, older),
    )


def _scaled(colour: RGB, red: float, green: float, blue: float) -> RGB:
    return min(255.0, colour[0] * red), min(255.0, colour[1] * green), min(255.0, colour[2] * blue)


def _sample_palette(dice: Dice, tone: str, older: bool) -> dict[str, RGB]:
    skin = mix(*SKIN_TONES[tone], dice.between(0.0, 1.0))
    natural = dice.pick(_HAIR if tone == "light" else _HAIR[:3] if tone == "medium" else _HAIR[:2])
    hair = mix(natural, dice.pick(_GREY), dice.between(0.5, 1.0)) if older else natural
    rosy = _scaled(skin, 0.88, 0.62, 0.62)
    wall = dice.between(40.0, 235.0)
    tint = (dice.between(0.9, 1.1), dice.between(0.94, 1.06), dice.between(0.9, 1.1))
    walls = {f"wall{corner}": _scaled((wall,) * 3, *tint) for corner in range(4)}
    for corner, colour in walls.items():
        walls[corner] = _scaled(colour, *((dice.between(0.8, 1.15),) * 3))
    return {
        **walls,
        "thing": _scaled(walls["wall0"], *((dice.between(0.6, 1.3),) * 3)),
        "skin": skin,
        "shade": _scaled(skin, 0.82, 0.76, 0.73),
        "crease": _scaled(skin, 0.46, 0.37, 0.34) if tone == "dark" else _scaled(skin, 0.55, 0.45, 0.42),
        "lip": mix(rosy, (150, 50, 60), dice.between(0.0, 0.35)),
        "cavity": (52, 18, 20),
        "teeth": (248, 244, 236),
        "tongue": (176, 84, 88),
        "white": (246, 244, 240),
        "iris": dice.pick(_IRIS if tone == "light" else _IRIS[:2]),
        "pupil": (14, 12, 12),
        "lash": (26, 20, 20),
        "hair": hair,
        "strand": mix(hair, (255, 240, 220), 0.12),
        "brow": _scaled(mix(natural, hair, 0.5), 0.8, 0.8, 0.8),
        "cloth": dice.pick(_CLOTH),
        "fold": (40, 36, 40),
        "frame": dice.pick(((30, 28, 30), (96, 60, 40), (60, 70, 90))),
        "glint": (255, 255, 255),
    }
