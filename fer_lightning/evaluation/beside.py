"""What lies beside an evaluation and is of the same weights: the calibration, and what other verbs have found.

A run's folder holds its evaluations, ``explain/``, ``embed/``, ``audit/``, ``bench_infer.json`` and
``calibration.json``; a model folder holds its calibration and ``bench_infer.json``.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fer_lightning.errors import CheckpointError, FERError
from fer_lightning.evaluation.calibrated import Calibrated, calibrated, cross_fitted
from fer_lightning.evaluation.calibration_report import PAGE as CALIBRATION_PAGE
from fer_lightning.evaluation.predictions import Predictions
from fer_lightning.evaluation.speeds import BENCH, read_speed, speed_remarks, speed_rows
from fer_lightning.figures import PREVIEW, data_url
from fer_lightning.models.calibration import CALIBRATION, Calibration, calibration_in
from fer_lightning.runs.checkpoint import BEST, CHECKPOINTS, read_checkpoint, run_folder_of, weights_digest
from fer_lightning.runs.model_folder import CONFIG, is_in_model_folder, read_values
from fer_lightning.runs.records import Run
from fer_lightning.text import percent

__all__ = ["PAGE", "Beside", "Finding"]

PAGE = "index.html"
"""The page of an evaluation, a run or a finding, in its folder."""

_TITLES = {"explain": "What it looks at", "embed": "Its features", "audit": "Groups of people"}
_SPLITS = {"val": "the validation part", "test": "the test part"}
_OF_THE_NETWORK = ("model.", "data.")  # options that change what it answers


@dataclass(frozen=True)
class Finding:
    """Something that is known of a model, as a page shows it.

    Attributes:
        title: of it.
        link: its page or file, as seen from the page that shows it; empty for none.
        told: sentences.
        picture: as a data URL, empty for none.
        rows: of a table, the head first.
    """

    title: str
    link: str
    told: tuple[str, ...] = ()
    picture: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


class Beside:
    """What lies beside an evaluation.

    Args:
        folder: of the evaluation.
        page: the file that shows it, in that folder or the one above.
        report: content of its ``report.json``.
    """

    def __init__(self, folder: Path, page: Path, report: Mapping[str, Any]) -> None:
        self.folder, self.page, self.report = folder, page, report
        self.context: Mapping[str, Any] = report.get("context") or {}
        checkpoint = Path(str(self.context.get("checkpoint") or ""))
        self.run = folder.parent if (folder.parent / CHECKPOINTS).is_dir() else run_folder_of(checkpoint)
        self.model = checkpoint.parent if is_in_model_folder(checkpoint) else None

    @cached_property
    def _best(self) -> tuple[int | None, str]:
        """Step and digest of the weights of the run's best checkpoint; nothing if it cannot be read."""
        if self.run is not None:
            with suppress(FERError):
                content = read_checkpoint(self.run / CHECKPOINTS / BEST, mapped=True)
                return content.get("global_step"), weights_digest(content.get("state_dict", {}))
        return None, ""

    @cached_property
    def weights(self) -> str:
        """Digest of the weights that were evaluated, empty if they are not known."""
        return self._weights_of(self.context)

    def _weights_of(self, context: Mapping[str, Any]) -> str:
        if "weights" in context:
            return str(context["weights"])
        step, weights = self._best  # a training tells the step of its best validation
        return weights if step is not None and context.get("step") == step else ""

    @property
    def is_of_best(self) -> bool:
        """Whether the evaluated weights are the run's best ones, of which verbs speak that are given the run."""
        return bool(self.weights) and self.weights == self._best[1]

    @property
    def prefix(self) -> str:
        """Where the files of the evaluation are, as seen from the page: empty, or such as ``val/``."""
        return "" if self.page.parent == self.folder else f"{self.folder.name}/"

    def link(self, path: Path) -> str:
        """Return a path as seen from the page, empty for one that is not there or lies outside of the run."""
        home = (self.folder if self.run is None else self.run).resolve()
        whole, page = path.resolve(), self.page.resolve()
        if not (path.exists() and whole.is_relative_to(home) and page.is_relative_to(home)):
            return ""
        return Path(os.path.relpath(whole, page.parent)).as_posix()

    def calibrated(self, predictions: Callable[[], Predictions]) -> Calibrated | str:
        """Return what the stored calibration makes of the evaluation, or why there is nothing, as a sentence.

        Args:
            predictions: reads those of the evaluation.
        """
        changed = [name for name in self.context.get("settings") or () if name.startswith(_OF_THE_NETWORK)]
        try:
            found = self._of_run() if self.run is not None else self._of_model()
            if not isinstance(found, str) and changed:
                return f"Its calibration was fitted without {', '.join(changed)}, and is not used here."
            if isinstance(found, Mapping):  # the evaluation that it was fitted on
                return cross_fitted(found)
            return found if isinstance(found, str) else calibrated(predictions(), found)
        except (FERError, KeyError, TypeError, ValueError, StopIteration) as error:
            return f"The calibration is damaged: {error}."

    def _of_run(self) -> Mapping[str, Any] | Calibration | str:
        assert self.run is not None
        file, again = self.run / CALIBRATION, f"`fer calibrate {shlex.quote(str(self.run))}`"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return f"Not calibrated: {again} does it." if self.is_of_best else "Not calibrated."
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: {error}") from error
        if not self.is_of_best or found["step"] != self._best[0]:
            return f"The calibration of the run is of other weights{f': {again}' if self.is_of_best else ''}."
        if self._is_fitted_on(found):
            return dict(found)
        return calibration_in(found["calibration"], len(self.report["class_names"]), file)

    def _is_fitted_on(self, found: Mapping[str, Any]) -> bool:
        """Tell whether a calibration was fitted on the images of this evaluation."""
        assert self.run is not None
        if found["calibration"].get("origin") or self.report.get("split") != "val":
            return False
        of = Run(self.run).evaluations.get(Path(found["evaluations"][0]).name, {})
        return found["images"] == self.report["n"] and _fingerprint(of) == _fingerprint(self.report)

    def _of_model(self) -> Calibration | str:
        if self.model is None:
            return "Not calibrated."
        values = read_values(self.model)
        found = calibration_in(values.get("calibration"), len(values["class_names"]), self.model / CONFIG)
        return "The model was not calibrated." if found == Calibration() else found

    @property
    def calibration_page(self) -> str:
        """The page of the calibration, as seen from the page; empty for none."""
        return "" if self.run is None else self.link(self.run / CALIBRATION_PAGE)

    def findings(self) -> list[Finding]:
        """Return what else is known of the same weights; nothing if these are not known."""
        if not self.weights:
            return []
        return [*self._evaluations(), *(each for kind in _TITLES for each in self._pages(kind)), *self._speed()]

    def missing(self) -> list[str]:
        """Return the commands that find what is not known yet."""
        place = self.run if self.run is not None and self.is_of_best else self.model
        if place is None:
            return []
        kinds = [] if self.run is None else [kind for kind in ("explain", "embed") if not any(self._pages(kind))]
        verbs = [*kinds, *([] if any(self._speed()) else ["bench infer"])]
        return [f"fer {verb} {shlex.quote(str(place))}" for verb in verbs]

    def _evaluations(self) -> Iterator[Finding]:
        """Yield the other evaluations; the best validation of a training is on the page of the run."""
        for name, report in ({} if self.run is None else Run(self.run).evaluations).items():
            assert self.run is not None
            folder = self.run / name
            page = folder.parent / PAGE if name == "val" else folder / PAGE
            link = self.link(page)
            if not link or page.resolve() == self.page.resolve():
                continue
            if self._weights_of(report.get("context") or {}) != self.weights:
                continue
            split = _SPLITS.get(str(report.get("split")), "other images")
            with suppress(KeyError, TypeError, ValueError):
                told = f"Accuracy {percent(report['accuracy'])} on {report['n']:,} images."
                title = "The run: its training and best validation" if name == "val" else f"{name}: on {split}"
                yield Finding(title, link, (told,))

    def _pages(self, kind: str) -> Iterator[Finding]:
        """Yield what ``fer explain``, ``embed`` or ``audit`` has found, each in a folder of the run."""
        for file in sorted(self.run.glob(f"{kind}*/{kind}.json")) if self.run is not None else ():
            values: Any = {}
            with suppress(OSError, ValueError):
                values = json.loads(file.read_text(encoding="utf-8"))
            link = self.link(file.parent / PAGE)
            if not link or not isinstance(values, dict) or values.get("weights") != self.weights:
                continue
            if kind == "audit":
                of, told = _SPLITS.get(str(values.get("split")), ""), [values.get("verdict")]
            else:
                of, told = (values.get("made") or {}).get("data", ""), values.get("verdicts") or []
            picture = file.parent / PREVIEW
            shown = data_url(picture.read_bytes(), "webp") if picture.is_file() else ""
            title = f"{_TITLES[kind]}{f': {of}' if of else ''}"
            yield Finding(title, link, tuple(str(each) for each in told[:1]), shown)

    def _speed(self) -> Iterator[Finding]:
        """Yield what ``fer bench infer`` has measured."""
        owner = self.run or self.model
        with suppress(FERError):
            speed = {} if owner is None else read_speed(owner / BENCH, self.weights)
            if speed and owner is not None:
                rows = tuple(row[1:] for row in speed_rows({"": speed}))
                yield Finding(
                    "Size and speed", self.link(owner / BENCH), tuple(speed_remarks([], {"": speed})), "", rows
                )


def _fingerprint(report: Mapping[str, Any]) -> str | None:
    """Return the fingerprint of the split that a report is of."""
    data = (report.get("context") or {}).get("data") or {}
    prints = data.get("fingerprints") or {}
    return prints.get(report.get("split"))
