"""The report of a recognized video: ``summary.json``, a table of windows, pictures and the page that joins them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_lightning.figures import figure_png
from fer_lightning.files import csv_text, json_text, replacing, write_atomically
from fer_lightning.inference.video.plots import heat_figure, share_figure, time_figure
from fer_lightning.inference.video.session import Person, Session
from fer_lightning.inference.video.smoothing import make_smoother
from fer_lightning.inference.video.temporal import deltas, person_summary
from fer_lightning.pages.render import render

__all__ = ["write_session_report"]

_AT_ONCE = 1000  # lines that are written together
_LEAST = 5  # frames of a person that pictures are made of
_MOST = 8  # persons that pictures are made of: those seen longest
NOTE = "An expression is what a face shows, not what a person feels."


def write_session_report(session: Session, folder: Path) -> dict[str, Any]:
    """Write the report of a session and return the content of ``summary.json``.

    Args:
        session: that has run.
        folder: for ``summary.json, windows.csv, frames.csv, time_<k>.png, heat_<k>.png, share_<k>.png, index.html``.

    Returns:
        ``video, model, frames, without_face, problem, window_s`` and by person, ``person_summary``.

    Raises:
        OSError: if a file cannot be written.
    """
    names, window = session.recognizer.model.class_names, session.following.window
    name = Path(session.name).name
    persons = {
        number: person_summary(person.times.tolist(), person.probabilities, names, window)
        for number, person in sorted(session.persons.items())
    }
    summary = {
        "video": name,
        "model": session.recognizer.model.card.name,
        "class_names": list(names),
        "frames": session.frames,
        "without_face": session.without,
        "problem": session.problem,
        "every": session.source.every,
        "window_s": window,
        "smooth": session.following.smooth,
        "neutral_s": session.following.neutral,
        "persons": persons,
    }
    write_atomically(folder / "summary.json", json_text(summary))
    lines = [
        (number, each["start_s"], each["label"], each["share"])
        for number, person in persons.items()
        for each in person["windows"]
    ]
    write_atomically(folder / "windows.csv", csv_text(("face_id", "start_s", "label", "share"), lines))
    with replacing(folder / "frames.csv") as part, part.open("w", encoding="utf-8") as file:
        for text in _frames_csv(session):
            file.write(text)
    pictured = sorted(persons, key=lambda number: -persons[number]["frames"])[:_MOST]
    figures = {
        number: _pictures(number, session.persons[number], persons[number], names, folder, name)
        for number in sorted(pictured)
        if persons[number]["frames"] >= _LEAST
    }
    write_atomically(folder / "index.html", _page(summary, figures, session.rows.path))
    return summary


def _frames_csv(session: Session) -> Iterator[str]:
    """Give the lines of each person's frames: the label after smoothing, and how probabilities have changed."""
    names, following = session.recognizer.model.class_names, session.following
    head = ("face_id", "frame", "time_s", "label", "shown", "shown_value", *(f"d_{name}" for name in names))
    yield csv_text(head, ())
    for number, person in sorted(session.persons.items()):
        values, smoother = person.probabilities, make_smoother(following.smooth, following.window)
        changes = [[""] * len(names), *np.round(deltas(values), 6).tolist()]
        lines = []
        for frame, time, row, change in zip(
            person.frames.tolist(), person.times.tolist(), values, changes, strict=True
        ):
            shown, value = smoother(time, row)
            label = names[int(row.argmax())]
            lines.append((number, frame, f"{time:.15g}", label, names[shown], f"{value:.6g}", *change))
            if len(lines) == _AT_ONCE:
                yield csv_text((), lines).removeprefix("\n")
                lines = []
        yield csv_text((), lines).removeprefix("\n")


def _pictures(
    number: int, person: Person, summary: dict[str, Any], names: Sequence[str], folder: Path, video: str
) -> list[tuple[str, str, str]]:
    """Write the pictures of one person; return the file of each, what it shows, and where the page has it from."""
    times, probabilities, who = person.times, person.probabilities, f"{video}, person {number}"
    time = time_figure(times, probabilities, names, summary["windows"], f"{who}: probabilities")
    heat = heat_figure(times, probabilities, names, f"{who}: the same as strips")
    share = share_figure(summary["share"], f"{who}: most probable")
    made = {
        f"time_{number}.png": (time, "probability of each expression over time, and the majority of each window"),
        f"heat_{number}.png": (heat, "the darker, the more probable; gray where the face was not seen"),
        f"share_{number}.png": (share, "share of the frames in which an expression was the most probable"),
    }
    for file, (figure, _) in made.items():
        write_atomically(folder / file, figure_png(figure))
    return [(file, shows, file) for file, (_, shows) in made.items()]


def _settings(summary: dict[str, Any]) -> list[str]:
    """Return how the numbers were made, where it is not as usual."""
    told = []
    if summary["every"] > 1:
        told.append(f"Of {summary['every']} frames, one was looked at.")
    if summary["neutral_s"]:
        told.append(
            f"The first {summary['neutral_s']:g} s of each person were taken for the person's neutral face; "
            "the frames after them are judged by it."
        )
    if summary["smooth"] != "none":
        told.append(f"The label that was shown is smoothed: {summary['smooth']} of {summary['window_s']:g} s.")
    return told


def _page(summary: dict[str, Any], figures: dict[int, list[tuple[str, str, str]]], table: Path) -> str:
    names = summary["class_names"]
    tables = {}
    for number, person in summary["persons"].items():
        if number in figures:
            dwell, change = person["dwell_s"], person["mean_change"]
            tables[number] = [
                (
                    name,
                    f"{person['share'][name]:.1%}",
                    f"{dwell[name]['mean']:.1f}" if name in dwell else "",
                    f"{dwell[name]['longest']:.1f}" if name in dwell else "",
                    f"{dwell[name]['stretches']}" if name in dwell else "",
                    f"{change[name]:.2f}",
                )
                for name in names
            ]
    sections = {f"person-{number}": f"Person {number}" for number in figures}
    changes = {
        number: [
            (before, *("" if not count else str(count) for count in row))
            for before, row in zip(names, person["transitions"], strict=True)
        ]
        for number, person in summary["persons"].items()
        if number in figures and np.any(person["transitions"])
    }
    return render(
        "session.html",
        summary=summary,
        sections=sections,
        figures=figures,
        tables=tables,
        changes=changes,
        settings=_settings(summary),
        rest=[number for number in summary["persons"] if number not in figures],
        table=table.name,
        note=NOTE,
    )
