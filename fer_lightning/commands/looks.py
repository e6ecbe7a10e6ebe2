"""``fer runs looks``: how often each test split was looked at. It only reads files and does not import torch."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fer_lightning.errors import ConfigError, DataError
from fer_lightning.runs.folder import run_folders
from fer_lightning.runs.looks import LOG, Look, broken_links, look_key, read_looks, standing
from fer_lightning.runs.records import Run
from fer_lightning.text import table_lines

__all__ = ["looks"]


def looks(*, root: Path = Path("runs"), json: bool = False) -> None:
    """Show how often each test split was looked at, and check that no line of the log was changed or removed.

    Args:
        root: the folder of all runs; the log in it is evaluations.jsonl.
        json: print JSON.
    """
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}: give the folder of all runs with --root")
    found, reports = read_looks(root), _reports(root)
    if json:
        listed = [{**asdict(look), **asdict(standing(found[: place + 1]))} for place, look in enumerate(found)]
        print(json_module.dumps(listed, indent=1, ensure_ascii=False))
    elif found:
        print("\n".join(_lines(found, reports)))
    else:
        print(f"no look at a test split is noted in {root / LOG}")
    noted = {look.key for look in found}
    lacking = sorted(place for key, (place, _) in reports.items() if key not in noted)
    problems = broken_links(root)
    problems += [f"the look of {', '.join(lacking)} is not in it"] if lacking else []
    if problems:
        raise DataError(f"{root / LOG} is not as it was written: {'; '.join(problems)}")
    if found and not json:
        print(f"\n{root / LOG}: {len(found)} line{'s' * (len(found) > 1)}, none changed or removed")


def _reports(root: Path) -> dict[tuple[str, str, str], tuple[str, Mapping[str, Any]]]:
    """Return folder and content of the reports of tests of all runs, by what ``Look.key`` is of the look."""
    found: dict[tuple[str, str, str], tuple[str, Mapping[str, Any]]] = {}
    for folder in run_folders(root):
        for name, report in Run(folder).evaluations.items():
            context = report.get("context", {})
            if report.get("split") != "test" or "weights" not in context:
                continue  # of older versions, which noted no looks
            fingerprint = context.get("data", {}).get("fingerprints", {}).get("test", "")
            place = (folder / name).relative_to(root).as_posix()
            found[look_key(fingerprint, context["weights"], context.get("settings", {}))] = place, report
    return found


def _lines(found: Sequence[Look], reports: Mapping[tuple[str, str, str], tuple[str, Mapping[str, Any]]]) -> list[str]:
    rows = [("split", "images", "look", "repeats", "time", "accuracy", "checkpoint", "settings")]
    for place, look in enumerate(found):
        _, report = reports.get(look.key, ("", {}))
        accuracy, stands = report.get("accuracy"), standing(found[: place + 1])
        settings = ", ".join(f"{name} {value}" for name, value in look.settings.items())
        rows.append(
            (
                f"{look.split} {look.fingerprint[:8]}",
                f"{look.n:,}",
                str(stands.number),
                str(stands.repeats or "-"),
                look.time[:16].replace("T", " "),
                "-" if accuracy is None else f"{accuracy:.4f}",
                look.checkpoint,
                settings or "-",
            )
        )
    return table_lines(rows, left=(0, 4, 6, 7))
