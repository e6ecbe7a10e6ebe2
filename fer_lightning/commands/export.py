"""``fer export``: a trained model in the forms of other programs.

What needs torch is imported inside of the function.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from fer_lightning.extras import need_extra

__all__ = ["export"]


def export(
    model: Annotated[tuple[str, ...], "MODEL"],
    *,
    out: Annotated[Path, "DIR"],
    int8: Annotated[str | None, "DATA"] = None,
    images: int = 512,
    pt2: bool = True,
    licence: str = "",
    digests: bool = True,
    views: Literal["none", "flip", "flip_shift"] | None = None,
) -> None:
    """Write a model as a folder: weights without pickle, ONNX, a program of torch.export, and int8 if data is given.

    Each form is compared with the original; one that differs too much is refused.

    Args:
        model: a run folder, a checkpoint, or a model folder; several are written as one that averages their
            probabilities.
        out: folder to write.
        int8: also 8-bit ONNX, with ranges from the training images of this data set (as for fer data inspect); the
            forms are then compared on its validation images.
        images: training images for the ranges.
        pt2: also write a program of torch.export.
        licence: under which the weights may be used, for the card.
        digests: write the digests of the training images, by which an evaluation knows what the model has seen; who has
            them and an image can tell whether it was among them.
        views: average the probabilities of several views of each face, in all forms: flip takes twice as long,
            flip_shift ten times; as the model was trained if not given.
    """
    need_extra("export", "fer export needs", "onnx", "onnxscript", "onnxruntime")
    from fer_lightning.inference.export.package import export as exported
    from fer_lightning.inference.export.package import export_table
    from fer_lightning.inference.facts import model_with_facts
    from fer_lightning.runs.trained_on import without_digests

    loaded = model_with_facts(",".join(model), name=out.name, licence=licence)
    if loaded.trained_on is not None and not digests:
        loaded.trained_on = without_digests(loaded.trained_on)
    if views is not None:
        before = loaded.calibration
        loaded.set_views(views)
        if loaded.calibration != before:
            print("the calibration is left out: fer calibrate measured it with other views", file=sys.stderr)
    samples = None
    if int8 is not None:
        from fer_lightning.cli.data_set import data_module
        from fer_lightning.inference.export.samples import samples_of  # with Lightning

        samples = samples_of(data_module("fer export --int8", int8, []), loaded, images)
    for line in export_table(exported(loaded, out, samples, pt2)):
        print(line)
    print(f"model folder: {out}")
