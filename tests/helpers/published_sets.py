"""Tiny fake AffectNet, RAF-DB and CK+ data sets in every layout they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

AFFECTNET = (
    "neutral",
    "happy",
    "sad",
    "surprise",
    "fear",
    "disgust",
    "angry",
    "contempt",
    "none",
    "uncertain",
    "no face",
)
"""Meaning of the codes 0..10, as the authors give it."""

RAF_DB = ("", "surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
CK_PLUS = ("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
CK48 = {"anger": 1, "contempt": 2, "disgust": 3, "fear": 4, "happy": 5, "sadness": 6, "surprise": 7}
SUBJECTS = ("S005", "S010", "S011", "S014", "S022", "S026")
LISTS = "Manually_Annotated_file_lists"
LIST_HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


def picture(seed: int, noise: int = 0, width: int = 40, height: int = 40) -> NDArray[np.uint8]:
    """Draw a picture, uint8 ``(height, width, 3)``: coarse patches from ``seed``, a little noise from ``noise``."""
    patches = np.random.default_rng(seed).integers(0, 255, (5, 5, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC))
    grain = np.random.default_rng([seed, noise]).integers(-6, 7, smooth.shape)
    return (smooth.astype(np.int64) + grain).clip(0, 255).astype(np.uint8)


def write_picture(path: Path, seed: int, noise: int = 0, width: int = 40, height: int = 40) -> None:
    """Write such a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, noise, width, height)).save(path)


def affect(code: int, row: int) -> tuple[str, str]:
    """Return valence and arousal of an image; -2 where there is no expression."""
    return ("-2", "-2") if code > 7 else (f"{code / 10 - 0.4:.6f}", f"{0.01 * (row % 100):.6f}")


def write_affectnet(root: Path, form: str = "annotations", train: int = 5, val: int = 2, codes: int = 11) -> Path:
    """Write a fake AffectNet and return ``root``.

    Args:
        root: folder, made if it does not exist.
        form: ``annotations`` (train_set/, val_set/), ``lists`` (CSV, the second without header) or ``folders``, named
            by code, with a table that says what the codes are.
        train: training images of each code.
        val: validation images of each code.
        codes: the first so many codes.
    """
    row = 0
    for part, count in (("training", train), ("validation", val)):
        lines = [LIST_HEADER] if part == "training" else []
        for code in [code for code in range(codes) for _ in range(count)]:
            row += 1
            valence, arousal = affect(code, row)
            if form == "annotations":
                top = root / ("train_set" if part == "training" else "val_set")
                write_picture(top / "images" / f"{row}.jpg", row)
                write_npy(top / "annotations" / f"{row}_exp.npy", str(code))
                write_npy(top / "annotations" / f"{row}_val.npy", valence)
                write_npy(top / "annotations" / f"{row}_aro.npy", arousal)
                write_npy(top / "annotations" / f"{row}_lnd.npy", np.zeros(136))
            elif form == "lists":
                name = f"{row % 3 + 1}/{row:04}ab.jpg"
                write_picture(root / "Manually_Annotated_Images" / name, row, width=60, height=50)
                box = "NULL,NULL,NULL,NULL" if code > 7 else f"{row % 9},5,40,{40 + row % 3}"
                lines.append(f"{name},{box},{';'.join(['1.5'] * 136)},{code},{valence},{arousal}")
            else:
                write_picture(root / ("train" if part == "training" else "val") / str(code) / f"image{row}.jpg", row)
        if form == "folders":
            (root / "classes.csv").write_text("".join(f"{code},{AFFECTNET[code]}\n" for code in range(codes)))
        if form == "lists":
            (root / LISTS).mkdir(exist_ok=True)
            (root / LISTS / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return root


def write_npy(path: Path, value: object) -> None:
    """Write a value as numpy does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(value), allow_pickle=True)


def write_raf_db(root: Path, form: str = "official", train: int = 5, test: int = 2) -> Path:
    """Write a fake RAF-DB and return ``root``; ``form`` is ``official`` (in ``basic/``) or ``folders`` (``DATASET/``).

    Args:
        root: folder, made if it does not exist.
        form: the layout.
        train: training images of each class.
        test: test images of each class.
    """
    basic = root / "basic"
    lines = []
    for part, count, digits in (("train", train, 5), ("test", test, 4)):
        for row in range(7 * count):
            code, name, seed = row % 7 + 1, f"{part}_{row + 1:0{digits}}", 1000 * len(part) + row
            if form == "folders":
                write_picture(root / "DATASET" / part / str(code) / f"{name}_aligned.jpg", seed)
                continue
            lines.append(f"{name}.jpg {code}")
            write_picture(basic / "Image" / "aligned" / f"{name}_aligned.jpg", seed)
            write_picture(basic / "Image" / "original" / f"{name}.jpg", seed, width=70, height=60)
            write_text(
                basic / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt", f"{row % 5}.4 3.0 50.0 51.5 \n"
            )
            attributes = [*["12.5\t30.25"] * 5, row % 3, row % 3, row % 5]
            write_text(basic / "Annotation" / "manual" / f"{name}_manu_attri.txt", "\n".join(map(str, attributes)))
    if form == "official":
        write_text(basic / "EmoLabel" / "list_patition_label.txt", "\n".join(lines) + "\n")
    return root


def write_text(path: Path, text: str) -> None:
    """Write a text file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_ck_plus(root: Path, form: str = "official", subjects: int = 6, frames: int = 5) -> Path:
    """Write a fake CK+ and return ``root``: each subject shows the codes 1..7, and something unlabelled.

    Args:
        root: folder, made if it does not exist.
        form: ``official`` or ``ck48`` (``CK+48/``).
        subjects: number of subjects.
        frames: frames of a sequence, nearly the same image.
    """
    for number, subject in enumerate(SUBJECTS[:subjects]):
        for session in range(1, 9):
            code = session if session < 8 else None
            sequence, seed = f"{subject}_{session:03}", 100 * number + session
            for frame in range(1, frames + 1):
                name = f"{sequence}_{frame:08}.png"
                if form == "official":
                    folder = root / "cohn-kanade-images" / subject / f"{session:03}"
                    write_picture(folder / name, seed, frame, width=48)
                elif code is not None and frame > frames - 3:
                    folder = root / "CK+48" / next(name for name, value in CK48.items() if value == code)
                    write_picture(folder / name, seed, frame)
            if form == "official" and code is not None:
                label = f"Emotion/{subject}/{session:03}/{sequence}_{frames:08}_emotion.txt"
                write_text(root / label, f"   {code:.7e}\n")
        if form == "official":
            (root / "Emotion" / subject / "008").mkdir()  # unlabelled sequences have empty folders
    return root
