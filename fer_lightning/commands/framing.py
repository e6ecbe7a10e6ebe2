"""``fer data framing``: how faces sit in training images, so that new ones are cut the same way.

What needs torch is imported inside of the functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fer_lightning.commands.data import OfData
from fer_lightning.errors import CheckpointError, ConfigError, DataError
from fer_lightning.runs.checkpoint import BEST, find_checkpoint, run_folder_of
from fer_lightning.text import table_lines

if TYPE_CHECKING:
    from fer_lightning.inference.framing import Framing

__all__ = ["framing"]


def framing(
    path: str | None = None,
    *,
    model: Annotated[str | None, "RUN_OR_FOLDER"] = None,
    out: Annotated[Path, "DIR"] = Path("framing"),
    images: int = 500,
    detector: Annotated[tuple[str, ...], "NAME"] = (),
    seed: int = 0,
    of_data: OfData,
) -> None:
    """Measure how faces sit in the training images, as each detector sees them, and keep it for a model.

    A model cuts the faces of new pictures so that they sit as in its training images. fer fit measures that by itself;
    this verb is for models that were trained before, for further detectors, and for a look at the picture.

    Args:
        path: where the data set lies, see below; the data that the run was trained with, if not given.
        model: also keep it for this model: a run folder or a model folder.
        out: folder to write into: framing.json, framing.png.
        images: training images that are looked at.
        detector: name of a detector, see fer recognize --help; several times for several. All that are there if not
            given.
        seed: chooses the images.
        of_data: options of the data set.
    """
    from fer_lightning.commands.data_sets import checked_folder, name_of, names_data, opened
    from fer_lightning.figures import figure_png
    from fer_lightning.files import write_atomically
    from fer_lightning.inference.faces.choice import detectors_named
    from fer_lightning.inference.framing import FEWEST, write_framing
    from fer_lightning.inference.framing_picture import framing_figure
    from fer_lightning.inference.measuring import measure_framings, training_sample

    if images < FEWEST:
        raise ConfigError(f"fer data framing: --images must be at least {FEWEST}, not {images}")
    place = None if model is None else _Place(model)
    with ExitStack() as stack:
        if place is not None and path is None and not names_data(of_data):
            path = stack.enter_context(place.data_file())
        data = stack.enter_context(opened("framing", path, of_data))
        folder, detectors = checked_folder(str(out), data), detectors_named(detector)
        sample = training_sample(data.table, images, seed)
        framings, counts = measure_framings(sample, detectors, progress=True)
        print("\n".join(_lines(framings, counts, len(sample))))
        if not framings:
            raise DataError(f"no detector finds a face in {FEWEST} of {len(sample)} training images: are they faces?")
        about = {"data": name_of(data), "images": len(sample), "found": counts, "seed": seed}
        write_framing(folder, framings, **about)
        mean = sample.mean(axis=0).round().astype("uint8")
        print(f"picture: {write_atomically(folder / 'framing.png', figure_png(framing_figure(mean, framings)))}")
        if place is not None:
            print(f"kept for the model: {place.keep(framings, about)}")
        else:
            print("keep it for a model: add --model RUN_OR_FOLDER")


class _Place:
    """The run folder or model folder that a framing is kept for."""

    def __init__(self, model: str) -> None:
        from fer_lightning.runs.model_folder import is_model_folder

        self.folder = Path(model).expanduser()
        self.checkpoint: Path | None = None
        if is_model_folder(self.folder):
            return
        if self.folder.suffix == ".onnx":
            raise ConfigError(f"{model} stays as it is: measure for the run that it is from, and export that again")
        self.checkpoint = find_checkpoint(model, Path("runs"), None, BEST)
        run = run_folder_of(self.checkpoint)
        if run is None:
            raise CheckpointError(f"{model} lies in no run folder, where the framing could be kept: export it first")
        self.folder = run

    def data_file(self) -> AbstractContextManager[str]:
        """Give a YAML file that names the data which the run was trained with."""
        from fer_lightning.commands.data_sets import data_file_of

        if self.checkpoint is None:
            raise ConfigError(f"name the data set as well: fer data framing DATA --model {self.folder}")
        return data_file_of(self.checkpoint)

    def keep(self, framings: Mapping[str, Framing], about: Mapping[str, Any]) -> Path:
        """Write framings where the model is read from, beside those of other detectors, and return the file."""
        from fer_lightning.inference.framing import read_framing, write_framing
        from fer_lightning.inference.model_folder import add_framings

        if self.checkpoint is None:
            return add_framings(self.folder, framings)
        return write_framing(self.folder, {**read_framing(self.folder), **framings}, **about)


def _lines(framings: Mapping[str, Framing], counts: dict[str, int], images: int) -> list[str]:
    """Return the table of the medians."""
    rows: list[tuple[str, ...]] = [("detector", "faces", "box / side", "x", "y", "eyes", "tilt")]
    for name, count in counts.items():
        medians = framings.get(name)
        values: tuple[str, ...] = ("too few",)
        if medians is not None:
            values = (f"{medians.size:.3f}", f"{medians.x:.3f}", f"{medians.y:.3f}")
        if medians is not None and medians.eyes is not None:
            values += (f"{medians.eyes:.3f}", f"{medians.tilt:.1f}°")
        rows.append((name, f"{count:,} of {images:,}", *values))
    return table_lines(rows)
