"""A scene: who is drawn, what the face does and how it is photographed, with all dice cast before anything is painted.

So the same person can be painted again under the same light with other actions: what differs between the two pictures
is exactly what the actions have moved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_lightning.data.sets.sketch.actions import Actions, Dice, sample_actions
from fer_lightning.data.sets.sketch.features import feature_strokes, occluder_strokes, soft_strokes
from fer_lightning.data.sets.sketch.head import back_strokes, front_strokes, head_strokes
from fer_lightning.data.sets.sketch.person import Person, sample_person
from fer_lightning.data.sets.sketch.rendering import Drawing, Shot, Stroke, sample_shot

__all__ = ["Scene", "sample_scene"]

_OCCLUDED = 0.12
"""Share of the faces with something before them, at difficulty 1."""


@dataclass(frozen=True)
class Scene:
    """All that is random in a picture but the sensor's noise.

    Attributes:
        person: who is drawn.
        actions: what the face does.
        shot: camera and light.
        back: strokes behind the face.
        front: strokes over the features: hair, glasses, and perhaps something before the face.
    """

    person: Person
    actions: Actions
    shot: Shot
    back: tuple[Stroke, ...]
    front: tuple[Stroke, ...]

    @property
    def about(self) -> dict[str, str]:
        """The person's ``skin_tone``, ``age_group`` and ``glasses``."""
        glasses = "yes" if self.person.glasses else "no"
        return {"skin_tone": self.person.skin_tone, "age_group": self.person.age_group, "glasses": glasses}

    def drawing(self, actions: Actions | None = None) -> Drawing:
        """Return what is to be painted, with other actions if given."""
        person, actions = self.person, self.actions if actions is None else actions
        strokes = [*self.back, *head_strokes(person, actions), *feature_strokes(person, actions), *self.front]
        return Drawing(strokes, soft_strokes(person, actions), person.palette, self.shot)


def sample_scene(name: str, rng: np.random.Generator, difficulty: float) -> Scene:
    """Return a random scene of an expression, a key of ``PROTOTYPES``; the noise comes from ``rng`` afterwards."""
    dice = Dice(rng)
    person = sample_person(dice, difficulty)
    actions = sample_actions(name, dice, difficulty)
    shot = sample_shot(dice, difficulty, person.exposure)
    back, front = back_strokes(person, dice), front_strokes(person, dice)
    if dice.chance(_OCCLUDED * difficulty):
        front += occluder_strokes(dice)
    return Scene(person, actions, shot, tuple(back), tuple(front))
