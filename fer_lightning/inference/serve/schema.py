"""What the server answers and is asked, for OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from fer_lightning.inference.serve.body import FIELD

__all__ = ["ERRORS", "REFUSALS", "REQUEST", "Answer", "FaceAnswer", "Health", "ImageAnswer", "Labels", "Problem"]


class FaceAnswer(BaseModel):
    """A face and its expression."""

    x: float = Field(description="left edge of the face's box in pixels")
    y: float = Field(description="its upper edge")
    w: float = Field(description="its width")
    h: float = Field(description="its height")
    det_score: float | None = Field(description="how sure the detector is, in 0..1; null where nobody looked")
    label: str = Field(description="the most probable class")
    confidence: float = Field(description="its probability")
    uncertain: bool = Field(description="whether the confidence is below the model's threshold")
    probabilities: dict[str, float] = Field(description="of each class; they sum to 1")


class ImageAnswer(BaseModel):
    """The faces in one image, the surest first."""

    faces: list[FaceAnswer]


class Answer(BaseModel):
    """The images of a request, in its order."""

    images: list[ImageAnswer]


class Labels(BaseModel):
    """What the model tells apart."""

    labels: list[str] = Field(description="the classes in order")
    scheme: str = Field(description="name of the label scheme")
    model: str = Field(description="name of the model")
    notice: str = Field(description="what the answers are not for")


class Health(BaseModel):
    """How the server is."""

    status: str
    waiting: int = Field(description="requests that are worked on or wait")
    version: str


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def _described(texts: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": text, "model": Problem} for code, text in texts.items()}


REFUSALS = _described(
    {
        401: "the token is missing or wrong",
        403: "asked by a page of another site, or under a name that is not this server's",
    }
)
"""By what any request may be refused."""
ERRORS = REFUSALS | _described(
    {
        400: "malformed, or the client went away",
        408: "the body came too slowly",
        413: "too large: the body, an image, or their number",
        415: "neither a form nor JSON",
        422: "no image, or one that cannot be read",
        429: "too many requests at once; Retry-After says when to come back",
    }
)
"""By what a request for recognition may be refused."""


def _content(name: str, form: str) -> dict[str, Any]:
    images = {"type": "array", "minItems": 1, "items": {"type": "string", "format": form}}
    return {"schema": {"type": "object", "required": [name], "properties": {name: images}}}


_ONE_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNoAAAAggCB2kUIOwAAAABJRU5ErkJggg=="
REQUEST: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": _content(FIELD, "binary"),
        "application/json": {**_content("images", "byte"), "example": {"images": [_ONE_PIXEL]}},
    },
}
"""The body of a request for recognition."""
