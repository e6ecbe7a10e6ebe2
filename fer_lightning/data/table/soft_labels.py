"""Soft labels beside the data: probabilities from files, and votes that an auxiliary head learns.

A file of soft labels gives each training image the probabilities of its classes, as networks give them that have not
seen it: out-of-fold predictions, the usual way to distil a network's knowledge without running it. Read are

- ``.csv``: a column ``file`` (also called ``path``) or ``digest``, and a column ``p_<class>`` for each class; others
  are ignored, so that the tables ``predictions.csv`` of this program can be given as they are;
- ``.npz``: arrays ``files`` (texts) or ``digests`` (uint8 ``(N, 8)`` or longer, or hexadecimal texts),
  ``probabilities`` ``(N, K)`` and ``class_names``; perhaps ``own_label``, digests of images that keep their label.
  ``write_soft_labels`` writes such a file.

``checkpoints/fer2013_soft_labels.npz`` is found wherever the program is called: it comes with the package.

A file is the name of a row in the samples table, a digest the hash of its pixels. Rows with the same image get the mean
of all entries of this image.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.emotions import canonical
from fer_lightning.errors import ConfigError, DataError, LabelError
from fer_lightning.files import json_text, write_atomically
from fer_lightning.runs.trained_on import TrainedOn, digest_numbers
from fer_lightning.shipped import shipped_file
from fer_lightning.text import excerpt, one_line, short_path

__all__ = ["Role", "declared", "read_soft_labels", "read_teachers", "with_soft_labels", "write_soft_labels"]

Role = Literal["target", "votes"]
"""What the soft labels of a data set are for: the network's targets in place of labels, or those of a head beside."""

_SUM_TOLERANCE = 0.01  # tables round
_DIGITS = 16  # of a digest, which suffice; tables of predictions have no more
_NUMBER = ">u8"  # the same digits as a number


@dataclass(frozen=True)
class _Stored:
    """What a file says.

    Attributes:
        path: the file.
        key: ``file`` or ``digest``.
        names: what each row is about, texts.
        probabilities: float32 ``(N, K)``, in the order of the data's classes.
        own_label: digests, texts, of images that keep their label.
    """

    path: Path
    key: str
    names: list[str]
    probabilities: NDArray[np.float32]
    own_label: frozenset[str] = frozenset()


def write_soft_labels(
    path: Path,
    digests: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
    class_names: Sequence[str],
    own_label: NDArray[np.uint8],
    teachers: TrainedOn,
    provenance: Mapping[str, Any],
) -> Path:
    """Write soft labels as one ``.npz`` file and return it: 22 bytes for each image with seven classes.

    Args:
        path: the file, replaced if it is there.
        digests: of the labelled images, uint8 ``(N, 16)``; the first 8 bytes are stored.
        probabilities: ``(N, K)``, stored as float16.
        class_names: of the columns.
        own_label: digests of images that keep their label, uint8 ``(M, 16)``.
        teachers: which images the networks have seen that the probabilities are of.
        provenance: plain values that say where the probabilities come from, stored as JSON text.

    Raises:
        OSError: if it cannot be written.
    """
    labelled = digest_numbers(np.concatenate([digests, own_label]))
    arrays: dict[str, NDArray[Any]] = {
        "class_names": np.array(list(class_names)),
        "digests": digests[:, : _DIGITS // 2],
        "probabilities": probabilities.astype(np.float16),
        "own_label": own_label[:, : _DIGITS // 2],
        "further_train": np.setdiff1d(teachers.train, labelled),
        "further_val": np.setdiff1d(teachers.val, np.union1d(teachers.train, labelled)),
        "provenance": np.array(json_text({**provenance, "unknown": list(teachers.unknown)})),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for `allow_pickle`
    return write_atomically(path, buffer.getvalue())


def read_teachers(path: Path) -> TrainedOn | None:
    """Return which images the networks have seen that the soft labels in a file are of; ``None`` if it does not say."""
    try:
        with np.load(_file(path), allow_pickle=False) as stored:
            digests = [np.ascontiguousarray(stored[name]).view(_NUMBER).ravel() for name in ("digests", "own_label")]
            train = np.unique(np.concatenate([*digests, stored["further_train"]]).astype(np.uint64))
            unknown = json.loads(str(stored["provenance"]))["unknown"]
            return TrainedOn(train, stored["further_val"], tuple(map(str, unknown)))
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # made by another program


def with_soft_labels(
    table: SamplesTable, role: Role, files: Sequence[str], weight: float = 1.0
) -> tuple[SamplesTable, NDArray[np.float32] | None]:
    """Return the table with the soft labels to train on, and the votes for an auxiliary head, if any.

    Args:
        table: the samples, splits assigned.
        role: of the soft labels that the data set itself has.
        files: files of soft labels for the training rows; empty for none.
        weight: share of the files' probabilities in a row's target, the rest of which is its label.

    Raises:
        ConfigError: if there are two sources of targets, votes are asked of data without any, or ``weight`` is not
            above 0 and at most 1, or is given without files.
        DataError: if a file is malformed or does not cover the training rows.
    """
    if not 0 < weight <= 1:
        raise ConfigError(f"data.soft_label_weight must be above 0 and at most 1, not {weight:g}")
    if weight < 1 and not files:
        raise ConfigError(
            "data.soft_label_weight is the share of the probabilities in --data.soft_label_file: name that file too"
        )
    votes = None
    if role == "votes":
        if table.soft_labels is None:
            raise ConfigError(
                "data.soft_label_role votes: these data have no soft labels (FER2013: --data.soft_labels true)"
            )
        votes, table = table.soft_labels, replace(table, soft_labels=None)
    if not files:
        return table, votes
    if table.soft_labels is not None:
        raise ConfigError(
            "both data.soft_label_file and the data themselves give soft labels: choose one, or keep the latter as "
            "votes (--data.soft_label_role votes)"
        )
    soft = _matched(table, [read_soft_labels(Path(file), table.class_names) for file in files])
    if weight < 1:
        labels = np.eye(len(table.class_names), dtype=np.float32)[table.labels]
        soft = weight * soft + (1 - weight) * labels
    return replace(table, soft_labels=soft), votes


def declared(votes: NDArray[np.float32] | None, files: Sequence[str], weight: float = 1.0) -> dict[str, Any]:
    """Return what a report must say of annotation beyond the labels, under ``further_annotation``; empty without any.

    Votes are float32 ``(N, K)``, those that an auxiliary head learns; files those of soft labels that are trained on,
    with their ``weight`` in the target.
    """
    further = ["votes of the training rows, for an auxiliary head"] if votes is not None else []
    share = f", {weight:g} of the target beside the label" if weight < 1 else ""
    further += [f"probabilities of the training rows from {', '.join(files)}{share}"] if files else []
    return {"further_annotation": further} if further else {}


def read_soft_labels(path: Path, class_names: Sequence[str]) -> _Stored:
    """Read the probabilities of the data's classes in a file, ``.csv`` or ``.npz``.

    Raises:
        DataError: if it is missing or malformed; the message names the row.
    """
    place, path = f"soft labels {short_path(path)}", _file(path)
    try:
        if path.suffix.lower() == ".npz":
            key, names, columns, values, own_label = _read_npz(path)
        elif path.suffix.lower() == ".csv":
            key, names, columns, values = _read_csv(path)
            own_label = []
        else:
            raise DataError("expected a .csv or .npz file")
        order = _order(columns, class_names)
        return _Stored(path, key, names, _checked(values, names)[:, order], frozenset(own_label))
    except OSError as error:
        raise DataError(one_line(f"{place}: cannot be read ({error.strerror or error})")) from None
    except (UnicodeDecodeError, csv.Error, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DataError(one_line(f"{place}: is damaged or of another kind ({error})")) from None
    except DataError as error:
        raise DataError(one_line(f"{place}: {error}")) from None


def _file(path: Path) -> Path:
    return shipped_file(path, "checkpoints")


def _read_csv(path: Path) -> tuple[str, list[str], list[str], NDArray[np.float64]]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        header = [name.strip() for name in next(reader, [])]
        at = {name.lower(): position for position, name in enumerate(header)}
        key = next((name for name in ("digest", "file", "path") if name in at), None)
        columns = [name for name in header if name.lower().startswith("p_")]
        if key is None or not columns:
            raise DataError(
                f"expected a column 'file' or 'digest' and columns 'p_<class>', found {', '.join(header) or 'nothing'}"
            )
        places = [header.index(name) for name in columns]
        names, values = [], []
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(f"line {reader.line_num}: expected {len(header)} columns, found {len(fields)}")
            names.append(fields[at[key]].strip())
            try:
                values.append([float(fields[place]) for place in places])
            except ValueError as error:
                raise DataError(f"line {reader.line_num}: a probability is no number ({error})") from None
    stripped = [name[2:] for name in columns]
    return _kind(key), names, stripped, np.array(values, np.float64).reshape(len(names), len(columns))


def _read_npz(path: Path) -> tuple[str, list[str], list[str], NDArray[np.float64], list[str]]:
    with np.load(path, allow_pickle=False) as stored:
        arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
    key = next((name for name in ("digests", "files") if name in arrays), None)
    if key is None or "probabilities" not in arrays or "class_names" not in arrays:
        raise DataError(
            f"expected arrays 'files' or 'digests', 'probabilities' and 'class_names', found {', '.join(arrays)}"
        )
    columns = [str(name) for name in arrays["class_names"].tolist()]
    named, values = arrays[key], arrays["probabilities"].astype(np.float64)
    if values.shape != (len(named), len(columns)):
        raise DataError(f"probabilities are {values.shape}, expected ({len(named)}, {len(columns)})")
    return _kind(key), _texts(named), columns, values, _texts(arrays.get("own_label", np.array([])))


def _texts(named: NDArray[Any]) -> list[str]:
    """Return texts, or digests uint8 ``(N, D)`` as hexadecimal texts of as many digits as are compared."""
    if named.dtype == np.uint8 and named.ndim == 2:
        return [bytes(row).hex()[:_DIGITS] for row in named]
    return [str(name) for name in named.tolist()]


def _kind(key: str) -> str:
    return "digest" if key.startswith("digest") else "file"


def _order(columns: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Return the column of each class; raise a DataError unless the columns are the classes."""
    found: dict[str, int] = {}
    for position, column in enumerate(columns):
        try:
            found[column if column in class_names else canonical(column)] = position
        except LabelError as error:
            raise DataError(str(error)) from None
    if set(found) != set(class_names) or len(columns) != len(class_names):
        raise DataError(f"has the classes {', '.join(columns)}; the data has {', '.join(class_names)}")
    return [found[name] for name in class_names]


def _checked(values: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float32]:
    """Return probabilities whose rows sum to 1; raise a DataError if they are none."""
    totals = values.sum(axis=1)
    wrong = np.flatnonzero(~((values >= 0).all(axis=1) & (np.abs(totals - 1) < _SUM_TOLERANCE)))  # NaN is wrong too
    if len(wrong):
        row = wrong[0]
        raise DataError(
            f"row {row + 1}, {excerpt(names[row])}: expected probabilities of 0 or more that sum to 1, found "
            f"{', '.join(f'{value:g}' for value in values[row])}"
        )
    probabilities: NDArray[np.float32] = (values / totals[:, None]).astype(np.float32)
    return probabilities


def _matched(table: SamplesTable, stored: Sequence[_Stored]) -> NDArray[np.float32]:
    """Return soft labels ``(N, K)``: for training rows the mean of their entries in the files, else their labels."""
    soft: NDArray[np.float32] = np.eye(len(table.class_names), dtype=np.float32)[table.labels]
    own_label = frozenset[str]().union(*(part.own_label for part in stored))
    rows = table.rows("train")
    own = {
        "file": [str(table.files[row]) for row in rows],
        "digest": [bytes(table.digests[row]).hex()[:_DIGITS] for row in rows],
    }
    total = np.zeros((len(rows), len(table.class_names)), np.float64)
    found = np.zeros(len(rows), np.int64)
    for part in stored:
        positions: dict[str, list[int]] = {}
        for position, name in enumerate(part.names):
            positions.setdefault(name.lower()[:_DIGITS] if part.key == "digest" else name, []).append(position)
        for at, name in enumerate(own[part.key]):
            for position in positions.get(name, ()):
                total[at] += part.probabilities[position]
                found[at] += 1
    keeps = np.array([name in own_label for name in own["digest"]], bool) & (found == 0)
    missing = np.flatnonzero((found == 0) & ~keeps)
    if len(missing):
        first = own[stored[0].key][missing[0]]
        example = f", the file has {excerpt(stored[0].names[0], 40)}" if stored[0].names else ", the file is empty"
        raise DataError(
            one_line(
                f"data.soft_label_file: no probabilities for {len(missing):,} of {len(rows):,} training rows (first: "
                f"{excerpt(first, 40)}{example}): give the files of all folds, made from these data"
            )
        )
    total[keeps], found[keeps] = soft[rows[keeps]], 1
    soft[rows] = (total / found[:, None]).astype(np.float32)
    return soft
