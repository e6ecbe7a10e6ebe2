"""Bad image folders and tables, as a user meets them: `fer fit` ends in one line, exit code 2, nothing is written."""

from __future__ import annotations

import io
import os
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.cli import fer
from tests.helpers.folders import SEVEN_NAMES, write_folders, write_table

QUICK = [
    "--data.batch_size=7",
    "--data.num_workers=0",
    "--data.image_size=16",
    "--data.channels=1",
    "--model.backbone=tests.helpers.parts.TinyBackbone",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--report.pictures=false",
]
Build = Callable[[Path], list[str]]


def fit(data: str, root: Path, runs: Path, *options: str) -> int:
    return fer("fit", f"--data={data}", f"--data.root={root}", *QUICK, f"--trainer.default_root_dir={runs}", *options)


def refused(data: str, root: Path, runs: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run ``fer fit``, check that it refuses, and return the only line it says so with."""
    before = sorted(root.parent.rglob("*"))
    assert fit(data, root, runs, *options) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("fer: error:")]
    assert len(lines) == 1
    assert "Union" not in lines[0]  # what the parser tried in vain is nobody's business
    assert said.rstrip().endswith(lines[0])  # no second line to it
    assert not runs.exists()
    assert sorted(root.parent.rglob("*")) == before
    return lines[0]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about bad rows."""
    return [record.getMessage() for record in caplog.records if record.name == "fer_lightning.data.table.bad_rows"]


def encoded(form: str, size: tuple[int, int] = (48, 48), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise(size, 60) if size[0] * size[1] < 10**6 else Image.new("L", size)
    noise.convert(mode).save(buffer, form)
    return buffer.getvalue()


JPEG, PNG = encoded("jpeg"), encoded("png")


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def link_out(path: Path) -> None:
    target = path.parents[2] / "elsewhere.jpg"
    target.write_bytes(JPEG)
    path.symlink_to(target)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "corrupt": (content(JPEG[:200] + bytes(len(JPEG))), "a JPEG file that is damaged or cut off"),
    "cut off": (content(JPEG[: len(JPEG) // 2]), "a JPEG file that is damaged or cut off"),
    "last bytes missing": (content(PNG[:-40]), "a PNG file that is damaged or cut off"),
    "nothing in it": (content(b""), "an empty file (0 bytes)"),
    "an HTML page": (content(b"<!DOCTYPE html><html>404</html>"), "an HTML page"),
    "a Git LFS pointer": (content(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "a Git LFS pointer"),
    "text": (content(b"not an image"), "something else (it starts with 'not an image')"),
    "an archive": (content(b"PK\x03\x04" + bytes(60)), "a ZIP archive"),
    "a HEIC file": (content(b"\0\0\0\x18ftypheic" + bytes(60)), "a HEIC, AVIF or video file"),
    "enormous": (content(encoded("png", (9000, 9000), "1")), "at most 50,000,000 pixels, found one of 9000x9000"),
    "32-bit float": (content(encoded("tiff", mode="F")), "32-bit float"),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere.jpg"), "a link to nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a link out of the tree": (link_out, "leads out of the folder; pass --data.allow_outside true"),
    "a pipe": (os.mkfifo, "no regular file"),
}


def beside_good_ones(write: Callable[[Path], object]) -> Build:
    def build(root: Path) -> list[str]:
        write_folders(root, 2)
        write(root / "happy" / "bad one.jpg")
        return []

    return build


def options(*given: str) -> Build:
    def build(root: Path) -> list[str]:
        write_folders(root, 2)
        return list(given)

    return build


def more_folders(*names: str) -> Build:
    def build(root: Path) -> list[str]:
        write_folders(root, 2)
        for name in names:
            (root / name).mkdir(parents=True)
        return []

    return build


def nothing_but(*names: str) -> Build:
    def build(root: Path) -> list[str]:
        for name in names:
            (root / name).mkdir(parents=True)
        return []

    return build


def emptied_class(root: Path) -> list[str]:
    for path in write_folders(root, 2).glob("sad/*"):
        path.unlink()
    return []


def mostly_bad(root: Path) -> list[str]:
    for path in write_folders(root, 2).glob("[a-h]*/*"):
        path.write_bytes(b"")
    return ["--data.on_error=skip"]


def linked_folder_out(root: Path) -> list[str]:
    write_folders(root, 2)
    (root.parent / "other").mkdir()
    (root / "happy" / "more").symlink_to(root.parent / "other")
    return []


def circle(root: Path) -> list[str]:
    write_folders(root, 2)
    (root / "happy" / "again").symlink_to(root / "happy")
    return []


def keep_others(root: Path) -> list[str]:
    write_folders(root, 2)
    table = write_table(root.parent / "keep.csv", [{"path": "happy/0.png"}, {"path": "happy/77.png"}])
    return [f"--data.keep={table}"]


def archive(change: Callable[[zipfile.ZipFile], object], damage: Callable[[bytes], bytes] = bytes) -> Build:
    """Zip good folders as ``set.zip``, with something added and its bytes changed."""

    def build(root: Path) -> list[str]:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            for name in SEVEN_NAMES:
                file.writestr(f"{name}/0.png", PNG)
            change(file)
        packed = root.with_suffix(".zip")
        packed.write_bytes(damage(buffer.getvalue()))
        return [f"--data.root={packed}"]

    return build


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in every header of a zip file."""
    changed = bytearray(data)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            changed[place + offset] |= 1
            place = data.find(signature, place + 4)
    return bytes(changed)


BAD_TREES: dict[str, tuple[Build, str]] = {
    "unknown class names": (more_folders("joyful", "other, things", "1"), "--data.class_names '[\"1\", angry, "),
    "a split beside classes": (more_folders("train/happy"), "'angry/' stands beside 'train/'; expected splits or"),
    "an empty class folder": (emptied_class, "no training image of sad; pass --data.class_names '[angry, "),
    "no images": (nothing_but(*SEVEN_NAMES), "set: expected images, found none"),
    "no class folders": (nothing_but("."), "set: expected folders named after expressions, found none"),
    "no folder": (lambda root: [], "set does not exist; expected a folder, or a .zip or .tar of it"),
    "a file": (lambda root: [str(root.write_bytes(JPEG))][1:], "set is a file; expected a folder with one folder for"),
    "mostly bad": (mostly_bad, "8 of 14 images are bad, too many to skip; the first: "),
    "a linked folder out of the tree": (linked_folder_out, "happy/more: expected an image, found a path or link that"),
    "links in a circle": (circle, "happy/again: expected a folder, found a link to one that it lies in"),
    "an archive that climbs out": (archive(lambda zipped: zipped.writestr("../out.png", PNG)), "leads out of the"),
    "an encrypted archive": (archive(lambda zipped: None, encrypted), "it is encrypted; unpack the archive by hand"),
    "half an archive": (archive(lambda zipped: None, lambda data: data[: len(data) // 2]), "a whole .zip archive"),
    "keep: other files": (keep_others, "keep.csv: 1 of 2 paths are not in the data set, the first: 'happy/77.png'"),
    "keep: no table": (options("--data.keep=nowhere.csv"), "nowhere.csv: expected a CSV, Parquet or JSON file"),
    "val_fraction": (options("--data.val_fraction=1.5"), "data.val_fraction must be at least 0 and below 1, not 1.5"),
    "test_fraction": (options("--data.test_fraction=-1"), "data.test_fraction must be at least 0 and below 1, not -1"),
    "test_per_class": (options("--data.test_per_class=50"), "data.test_per_class 50: angry has 2 images"),
    "small": (options("--data.small=grow"), "data.small must be reject or upscale, not 'grow'"),
    "on_error": (options("--data.on_error=ignore"), "data.on_error must be raise or skip, not 'ignore'"),
    "min_side": (options("--data.min_side=500"), "every image is below data.min_side (500 pixels)"),
    "max_pixels": (options("--data.max_pixels=10"), "angry/0.png: expected an image of at most 10 pixels, found one"),
    "balance": (options("--data.balance=foo"), "unknown balance 'foo', expected none, cap:<n>"),
    "per_class": (options("--data.per_class=0"), "data.per_class must be at least 1, not 0"),
    "multipliers": (options("--data.class_multipliers={foo: 2}"), "'foo' is none of the classes angry, disgust"),
    "transform": (options("--data.transform=foo"), "there is no transform preset 'foo'; there are none, light, strong"),
    "mapping": (options("--data.mapping={happy: hapy}"), "data.mapping of 'happy': unknown expression 'hapy'; did you"),
    "no mapping": (options("--data.mapping=happy"), "data.mapping must be a mapping as {a: b}"),
    "class_names": (options("--data.class_names=[sad, Sad]"), "data.class_names must be two different names or more"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_in_a_folder(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    beside_good_ones(BAD_FILES[case][0])(root)
    message = refused("ImageFolderDataModule", root, tmp_path / "runs", capsys)
    assert "set/happy/bad one.jpg: expected an image" in message
    assert BAD_FILES[case][1] in message


@pytest.mark.parametrize("case", BAD_TREES)
def test_a_bad_tree_or_option(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    given = BAD_TREES[case][0](root)
    assert BAD_TREES[case][1] in refused("ImageFolderDataModule", root, tmp_path / "runs", capsys, *given)


def test_bad_files_are_left_out_where_that_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_folders(tmp_path / "set", 4)
    for number, (write, _) in enumerate(BAD_FILES.values()):
        write(root / SEVEN_NAMES[number % 7] / f"bad {number}.jpg")
    (root / "sad" / "notes.txt").write_text("left out as well")
    assert fit("ImageFolderDataModule", root, tmp_path / "runs", "--data.on_error=skip") == 0
    assert len(warnings := told(caplog)) == 1
    assert f"set: left out {len(BAD_FILES) + 1} rows: " in warnings[0]
    assert "more reasons" in warnings[0]
    assert list((tmp_path / "runs").rglob("best*.ckpt"))


def test_the_proposed_mapping_works_when_it_is_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_folders(tmp_path / "set", 2)
    for name in ("very joyful", "other, things", "1", "no", "it's", "Ärger"):
        write_folders(root, {name: 2}, seed=len(name))
    message = refused("ImageFolderDataModule", root, tmp_path / "runs", capsys)
    pasted = shlex.split(message[message.index("--data.mapping ") :].split(" after checking it")[0])
    assert fit("ImageFolderDataModule", root, tmp_path / "runs", f"{pasted[0]}={pasted[1]}") == 0
    assert [line for line in told(caplog) if "left out 10 rows: " in line]  # all but "very joyful"


def test_codes_are_mapped_by_a_config_file(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {str(code): 2 for code in range(1, 8)})
    config = tmp_path / "data.yaml"
    names = "".join(f"    {code}: {name}\n" for code, name in enumerate(SEVEN_NAMES, 1))
    config.write_text(f"class_path: ImageFolderDataModule\ninit_args:\n  mapping:\n{names}")
    assert fit(str(config), root, tmp_path / "runs") == 0


def rows(count: int = 2) -> list[dict[str, object]]:
    return [{"path": f"{name}/{i}.png", "label": name, "split": ""} for i in range(count) for name in SEVEN_NAMES]


def table_of(**columns: object) -> Build:
    """Write a table whose fourth row has other values; a column that is ``None`` is missing."""

    def build(root: Path) -> list[str]:
        write_folders(root, 2)
        table = rows()
        for name, value in columns.items():
            for number, row in enumerate(table):
                if value is None:
                    del row[name]
                else:
                    row[name] = value if number == 3 else row.get(name, _USUAL.get(name, ""))
        write_table(root / "set.csv", table)
        return []

    return build


_USUAL = {"x": 2, "y": 2, "w": 20, "h": 20}


def text_of(change: Callable[[str], str | bytes], name: str = "set.csv") -> Build:
    """Write a table whose text is changed."""

    def build(root: Path) -> list[str]:
        write_folders(root, 2)
        changed = change(write_table(root / "good.csv", rows()).read_text())
        (root / name).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        return []

    return build


def bad_image(root: Path) -> list[str]:
    table_of()(root)
    (root / "happy" / "0.png").write_bytes(b"<html>")
    return []


def image_out_of_the_folder(root: Path) -> list[str]:
    table_of(path="../out.png")(root)
    (root.parent / "out.png").write_bytes(PNG)
    return []


BAD_TABLES: dict[str, tuple[Build, str]] = {
    "no label": (table_of(label=None), "set.csv: expected a column 'label', found path, split"),
    "no path": (table_of(path=None), "set.csv: expected a column 'path', found label, split"),
    "empty label": (table_of(label=" "), "column 'label'; fill in or delete such rows (1 line)"),
    "empty path": (table_of(path=""), "set.csv, line 5: nothing stands in column 'path'"),
    "unknown split": (table_of(split="new"), "line 5: unknown split 'new', expected train, val, test or nothing"),
    "unknown label": (table_of(label="hapy"), "unknown class names 'hapy'"),
    "one path twice": (table_of(path="angry/0.png"), "'angry/0.png' stands in line 2 too; delete one of the two"),
    "one column twice": (text_of(lambda text: text.replace("split", "Label", 1)), "column 'label' stands more than"),
    "a long row": (text_of(lambda text: text.replace("sad/0.png", "sad,0.png")), "line 6: expected 3 columns, found 4"),
    "an open quote": (text_of(lambda text: text.replace("sad/0", '"sad/0')), "line 15: unexpected end of data"),
    "not UTF-8": (text_of(lambda text: text.replace("sad", "traurig\xfc").encode("latin-1")), "; save it as UTF-8"),
    "binary": (text_of(lambda text: JPEG), "expected a CSV file, found a JPEG file"),
    "empty": (text_of(lambda text: ""), "expected a CSV file, found an empty file (0 bytes)"),
    "header only": (text_of(lambda text: "path,label\n"), "set.csv: holds no row"),
    "a table of pixels": (text_of(lambda text: "emotion,pixels,Usage\n0,1 2,Training\n"), "found emotion, pixels"),
    "no Parquet": (text_of(lambda text: "PAR1 not", "set.parquet"), "set.parquet: expected a Parquet file"),
    "no table": (nothing_but("."), "set.csv: expected a CSV, Parquet or JSON file, found nothing"),
    "a folder": (nothing_but("set.csv"), "set.csv: expected a table with columns for path and"),
    "a path out of the folder": (image_out_of_the_folder, "../out.png: expected an image, found a path or link"),
    "an absolute path": (table_of(path="/etc/hostname.png"), "/etc/hostname.png: expected an image, found a path"),
    "a zero byte": (text_of(lambda text: text.rstrip() + "\0\n"), "found a zero byte in the text"),
    "a missing file": (table_of(path="happy/9.png"), "happy/9.png: expected an image, found no file"),
    "a bad image": (bad_image, "happy/0.png: expected an image, found an HTML page"),
    "a box of NaN": (table_of(x="nan", y=2, w=20, h=20), "line 5: expected a face box x, y, w, h of at least"),
    "a box without size": (table_of(x=2, y=2, w=0, h=20), "of at least one pixel, found 2, 2, 0, 20"),
    "half a box": (table_of(x=2, y=2, w="", h=20), "of at least one pixel, found 2, 2, nothing, 20"),
    "half the columns of a box": (table_of(x=2, y=2), "a face box needs the columns x, y, w and h, found x, y"),
    "a box outside": (table_of(x=500, y=2, w=20, h=20), "happy/0.png: expected a box (x, y, width, height)"),
    "a gigantic box": (table_of(x=2, y=2, w=1e30, h=20), "expected a face box x, y, w, h"),
    "no number": (table_of(valence="high"), "set.csv, line 5: expected a number in column 'valence', found 'high'"),
    "no images": (lambda root: ["--data.images=nowhere", *table_of()(root)], "nowhere does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    given = BAD_TABLES[case][0](root)
    table = root / ("set.parquet" if (root / "set.parquet").exists() else "set.csv")
    assert BAD_TABLES[case][1] in refused("ManifestDataModule", table, tmp_path / "runs", capsys, *given)


def test_bad_images_of_a_table_are_left_out_where_that_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "set"
    write_folders(root, 4)
    write_table(root / "set.csv", rows(4))
    (root / "happy" / "0.png").write_bytes(b"")
    (root / "sad" / "1.png").unlink()
    assert fit("ManifestDataModule", root / "set.csv", tmp_path / "runs", "--data.on_error=skip") == 0
    assert [line for line in told(caplog) if "set: left out 2 rows: " in line]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_goes_bad_later_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int) -> None:
    root = write_folders(tmp_path / "faces", 5)
    assert fit("ImageFolderDataModule", root, tmp_path / "first") == 0
    for file in root.rglob("*.*"):  # as many bytes, of the same time: the index still trusts them
        times = file.stat()
        file.write_bytes(b"\xff\xd8\xff" + bytes(times.st_size - 3))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    capsys.readouterr()
    assert fit("ImageFolderDataModule", root, tmp_path / "second", f"--data.num_workers={workers}") == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "fer: error:" in line]
    assert len(told) == 1
    assert "expected an image, found" in told[0]
    assert "faces" in told[0]
