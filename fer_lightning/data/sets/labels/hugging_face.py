"""Hugging Face's sets with the images inside: Parquet, and the Arrow files of ``save_to_disk``.

=============================================================  ====================================================
at the path                                                    splits
=============================================================  ====================================================
``x.parquet`` or ``x.arrow``                                   by the name of the file
``train-00000-of-00002.parquet``, ``test-....parquet``         by the names of the files, also in ``data/``
``train/0000.parquet``, ``test/0000.parquet``                  by the folders
``dataset_info.json``, ``state.json``, ``data-....arrow``      none
``dataset_dict.json``, ``train/data-....arrow``, ``test/``     by the folders
=============================================================  ====================================================

A column holds the images, as ``{"bytes": ..., "path": ...}`` or as bytes alone. They are written into the cache once,
as those of an archive are. What the codes of the labels mean is proven by the names of the ``ClassLabel``: in the
metadata of the file, in ``dataset_info.json``, or in the head of ``README.md``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from fer_lightning.data.files.archives import unpacked_once
from fer_lightning.data.files.tree import entries, is_image_name, split_of, split_of_folder, subfolders
from fer_lightning.data.storage.description import need
from fer_lightning.data.table.bad_rows import known_kind
from fer_lightning.data.table.label_columns import LOOKED_AT, Header, place_columns
from fer_lightning.data.table.manifest_file import Columns, ManifestFile, joined
from fer_lightning.data.table.table_rows import holds_many, texts_of
from fer_lightning.emotions import code_key
from fer_lightning.errors import DataError, MissingExtraError
from fer_lightning.files import file_digest
from fer_lightning.text import one_line, short_path, unreadable

__all__ = ["holds_images", "packed_files", "read_packed"]

_SUFFIXES = (".parquet", ".arrow")
_BATCH = 64  # images in memory at once
_INDEX = ".places.json"
_WHAT = "data sets of Hugging Face need"
_KINDS = {"a PNG file": ".png", "a JPEG file": ".jpg", "a GIF file": ".gif", "a BMP file": ".bmp"}


@dataclass(frozen=True)
class _Packed:
    """A file with images inside.

    Attributes:
        path: the file.
        schema: ``pyarrow.Schema``.
        image: name of the column of images.
    """

    path: Path
    schema: Any
    image: str

    def batches(self, columns: list[str]) -> Iterator[Any]:
        """Yield record batches of some columns; a DataError if the file is damaged."""
        try:
            if self.path.suffix.lower() == ".parquet":
                with need("pyarrow.parquet", _WHAT).ParquetFile(self.path, memory_map=True) as file:
                    yield from file.iter_batches(_BATCH, columns=columns, use_threads=False)
            else:
                pa = need("pyarrow", _WHAT)
                with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as stream:
                    for batch in stream:
                        yield batch.select(columns)
        except (OSError, ValueError) as error:  # Arrow's errors are of these kinds
            raise DataError(one_line(f"{short_path(self.path)}: is damaged ({error}); copy it again")) from None


def packed_files(place: Path) -> list[Path]:
    """Return the Parquet and Arrow files of a data set, sorted: a file alone, or those in a folder and its splits."""
    if not place.is_dir():
        return [place] if place.suffix.lower() in _SUFFIXES else []
    inner = [path for path in subfolders(place) if path.name.lower() == "data" or split_of_folder(path.name)]
    files = [path for folder in (place, *inner) for path in entries(folder) if path.suffix.lower() in _SUFFIXES]
    return [path for path in files if not path.name.startswith("cache-") and path.is_file()]


def holds_images(path: Path) -> bool:
    """Tell whether a Parquet or Arrow file has a column of images; not without pyarrow."""
    try:
        _opened(path, None)
    except (DataError, MissingExtraError):
        return False
    return True


def read_packed(
    place: Path, columns: Columns | None = None, cache_dir: Path | None = None
) -> tuple[ManifestFile, Path, tuple[tuple[str, str], ...]]:
    """Read the labels of a set, and write its images into the cache unless they are there.

    Args:
        place: a file or a folder, as in this module's docstring.
        columns: names of the columns that are meant, by their meaning (``path`` for the images, ``label``).
        cache_dir: where the images are written; ``None`` for the user's cache folder.

    Returns:
        The rows; the folder that their paths are relative to; (place, reason) of the rows that are left out.

    Raises:
        DataError: if a file is damaged, or there is no column of labels.
        MissingExtraError: without pyarrow.
    """
    files = [_opened(path, columns) for path in packed_files(place)]
    try:
        digest = hashlib.blake2b("\n".join(map(_digest, files)).encode(), digest_size=16).hexdigest()
    except OSError as error:
        raise DataError(unreadable(place, error)) from None
    folder = unpacked_once(place, digest, cache_dir, lambda part: _write_images(files, part))
    written = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    read = [_rows(file, places, place, columns) for file, places in zip(files, written, strict=True)]
    left_out = [pair for _, without in read for pair in without]
    parts = [part for part, _ in read if len(part.lines)]
    if not parts:
        reason = f" (left out: {left_out[0][1]})" if left_out else ""
        raise DataError(one_line(f"{short_path(place)}: expected images with labels, found none{reason}"))
    whole = parts[0] if len(parts) == 1 else joined(place, parts)
    return replace(whole, remarks=tuple(dict.fromkeys(whole.remarks))), folder, tuple(left_out)


def _digest(file: _Packed) -> str:
    return f"{file.path.name} {file.image} {file_digest(file.path)}"


def _opened(path: Path, columns: Columns | None) -> _Packed:
    """Open a file and find its column of images; a DataError if it has none."""
    pa = need("pyarrow", _WHAT)
    try:
        if path.suffix.lower() == ".parquet":
            schema = need("pyarrow.parquet", _WHAT).read_schema(path)
        else:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
                schema = stream.schema
    except (OSError, ValueError) as error:
        what = "Parquet" if path.suffix.lower() == ".parquet" else "Arrow"
        raise DataError(one_line(f"{short_path(path)}: expected {what}, found something else ({error})")) from None
    images = [field.name for field in schema if _is_image(pa, field.type)]
    given = (columns or {}).get("path")
    if given is not None:
        images = [name for name in images if name.lower() == str(given).strip().lower()]
    if not images:
        found = one_line(", ".join(schema.names), 120)
        raise DataError(one_line(f"{short_path(path)}: expected a column of images, found the columns {found}"))
    return _Packed(path, schema, images[0])


def _is_image(pa: Any, kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(at).name == "bytes" for at in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _images(file: _Packed) -> Iterator[tuple[bytes | None, str]]:
    """Yield the bytes and the path of each image, ``None`` and ``""`` where there are none."""
    for batch in file.batches([file.image]):
        for value in batch.column(0):
            one = value.as_py()
            content, path = (one.get("bytes"), one.get("path")) if isinstance(one, dict) else (one, None)
            yield content, path or ""


def _places(file: _Packed, number: int) -> list[tuple[str, bool]]:
    """Return where each image is written, and whether the row holds one: the name that it had, if all have others."""
    names = [(_name(path, content), content is not None) for content, path in _images(file)]
    told = [name for name, _ in names]
    own = len({name.lower() for name in told}) == len(told) and not any(name.startswith(".") for name in told)
    top = f"{number:05d}-{_plain(file.path.stem)}"
    return [
        (f"{top}/{row // 10_000:03d}/{name if own else f'{row:07d}{Path(name).suffix or name}'}", whole)
        for row, (name, whole) in enumerate(names)
    ]


def _name(path: str, content: bytes | None) -> str:
    """Return the name of an image's file without folders; its suffix alone if it had none."""
    name = _plain(PurePosixPath(path.replace("\\", "/")).name)
    if is_image_name(Path(name)):
        return name
    suffix = _KINDS.get(known_kind((content or b"")[:64]) or "", ".webp" if (content or b"")[:4] == b"RIFF" else ".img")
    return f"{name}{suffix}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.()+ -]", "_", name)[-120:].lstrip(".")


def _write_images(files: list[_Packed], folder: Path) -> None:
    """Write all images, and where each of them is: rows of (path, whether there is an image) for each file."""
    written = [_places(file, number) for number, file in enumerate(files)]
    for file, places in zip(files, written, strict=True):
        for (place, whole), (content, _) in zip(places, _images(file), strict=True):
            if whole:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                (folder / place).write_bytes(content or b"")
    (folder / _INDEX).write_text(json.dumps(written), encoding="utf-8")


def _rows(
    file: _Packed, places: list[tuple[str, bool]], place: Path, given: Columns | None
) -> tuple[ManifestFile, list[tuple[str, str]]]:
    """Return the rows of a file whose images lie at some places, and (place, reason) of those that are left out."""
    kept = [field.name for field in file.schema if not holds_many(field.type)]
    columns: list[list[str]] = [[] for _ in kept]
    for batch in file.batches(kept):
        for column, texts in zip(columns, map(texts_of, batch.columns), strict=True):
            column += texts
    header = Header(tuple(name.strip().lower() for name in kept))
    chosen = {role: name for role, name in (given or {}).items() if role != "path"}
    head = [list(row) for row in zip(*(column[:LOOKED_AT] for column in columns), strict=True)]
    placed = place_columns(short_path(file.path), header, head, ("label",), chosen)
    label = placed.pop("label")
    names, source = _class_names(file, place, kept[label])
    texts = [names.get(code_key(text), text).strip() for text in columns[label]]
    reasons = [
        "" if whole and text and not (names and text.startswith("-")) else "no label" if whole else "no image"
        for text, (_, whole) in zip(texts, places, strict=True)
    ]
    rows = [row for row, reason in enumerate(reasons) if not reason]
    meant = {at: role for role, at in placed.items() if role != "path"}
    arrays = {"path": [path for path, _ in places], "label": texts}
    if split := (split_of_folder(file.path.parent.name) if file.path.parent != place else None) or split_of(
        file.path.stem
    ):
        arrays["split"] = [split] * len(places)
    for at, name in enumerate(header.names):
        if at != label and name:
            arrays.setdefault(meant.get(at, name), columns[at])
    chosen_rows = {name: np.array([column[row] for row in rows], np.str_) for name, column in arrays.items()}
    listed = ", ".join(f"{code} {name}" for code, name in names.items())
    said = (one_line(f"{short_path(place)}: {source} says of '{kept[label]}': {listed}", 600),) if names else ()
    left_out = [(places[row][0], reason) for row, reason in enumerate(reasons) if reason]
    return ManifestFile(file.path, chosen_rows, np.array(rows, np.int64) + 1, said), left_out


def _class_names(file: _Packed, place: Path, column: str) -> tuple[dict[str, str], str]:
    """Return the name of each code of a column, and which file says it; none where nothing does."""
    metadata = (file.schema.metadata or {}).get(b"huggingface")
    candidates: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        (file.path.name, lambda: json.loads(metadata or b"{}").get("info", {}).get("features", {}))
    ]
    info = file.path.parent / "dataset_info.json"
    if info.is_file():
        candidates.append((info.name, lambda: json.loads(info.read_text(encoding="utf-8")).get("features", {})))
    for folder in (place, place.parent):
        readme = folder / "README.md"
        if readme.is_file():
            candidates.append((readme.name, partial(_features_of, readme)))
    for name, features in candidates:
        try:
            listed = _listed((features() or {}).get(column) or {})
        except (ValueError, AttributeError, LookupError, TypeError, OSError, yaml.YAMLError):
            continue  # whatever is wrong with it, it says nothing
        if listed:
            return listed, name
    return {}, ""


def _listed(feature: dict[str, Any]) -> dict[str, str]:
    names = feature.get("names") or {}
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    return {str(code): str(name) for code, name in pairs}


def _features_of(readme: Path) -> dict[str, Any]:
    """Return the features that the head of a README lists, by column."""
    head = re.match(r"---\n(.*?)\n---", readme.read_text(encoding="utf-8"), re.DOTALL)
    info = (yaml.safe_load(head[1]) if head else {}).get("dataset_info", {})
    info = info[0] if isinstance(info, list) else info
    kinds = {one["name"]: one["dtype"] for one in info["features"]}
    return {name: kind["class_label"] for name, kind in kinds.items() if "class_label" in kind}
