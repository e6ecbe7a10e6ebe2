from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fer_lightning.commands import COMMANDS, Group
from tests.helpers.cli import fer
from tests.helpers.fer2013 import write_fer2013
from tests.helpers.folders import SEVEN_NAMES, draw, save, write_folders, write_people
from tests.helpers.published_sets import write_affectnet, write_ck_plus, write_raf_db

DATA = COMMANDS["data"]
assert isinstance(DATA, Group)
VERBS = {name: command.help for name, command in DATA.verbs.items()}
SMALL = "--data.image_size=32"
FORMS = ("arrow", "shards", "folders", "parquet", "csv")


def files_in(folder: Path) -> list[str]:
    """Return all files below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def one_line_error(captured: Any) -> str:
    """Return the complaint, after checking that it is one line."""
    error: str = captured.err
    assert error.startswith("fer: error: ")
    assert error.count("\n") == 1
    return error


class TestOverview:
    """``fer data`` and ``fer data VERB --help``."""

    @pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["help"]])
    def test_verbs_are_listed(self, args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert fer("data", *args) == 0
        out = capsys.readouterr().out
        assert all(f"  {verb:<8} {text}" in out for verb, text in VERBS.items())

    def test_overview_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from fer_lightning.__main__ import main; main(['data', '--help']);"
            "sys.exit(', '.join({'torch', 'lightning', 'jsonargparse', 'numpy'} & set(sys.modules)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("verb", VERBS)
    def test_help_is_short(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert fer("data", verb, "--help") == 0
        out = capsys.readouterr().out
        assert f"usage: fer data {verb} [PATH] [options]" in out
        assert "--out " in out
        assert "ImageFolderDataModule\n" in out
        assert "--data.OPTION VALUE" in out
        assert "fer_lightning.data" not in out
        assert len(out.splitlines()) < 70

    def test_help_on_the_class_that_a_path_needs(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            fer("data", "inspect", str(write_folders(tmp_path, 1)), "--data.help")
        assert ended.value.code == 0
        assert "--data.mapping" in capsys.readouterr().out


class TestPath:
    """A path alone is enough."""

    @staticmethod
    def layouts(root: Path) -> list[tuple[Path, str]]:
        """Write every layout; return its path and the data module that reads it."""
        written = [
            (write_fer2013(root / "csv", "csv") / "fer2013.csv", "FER2013DataModule"),
            *((write_fer2013(root / form, form), "FER2013DataModule") for form in ("icml", "folder")),
            (write_folders(root / "plain", 3), "ImageFolderDataModule"),
            (write_folders(root / "split", 2, ("train", "val", "test")), "ImageFolderDataModule"),
            (write_people(root / "people", 3), "ManifestDataModule"),
            *(
                (write_affectnet(root / f"affectnet_{form}", form), "AffectNetDataModule")
                for form in ("annotations", "lists")
            ),
            *((write_raf_db(root / f"raf_{form}", form), "RAFDBDataModule") for form in ("official", "folders")),
            *((write_ck_plus(root / f"ck_{form}", form), "CKPlusDataModule") for form in ("official", "ck48")),
        ]
        archive = shutil.make_archive(str(root / "packed"), "zip", root / "plain")
        config = root / "set.yaml"
        config.write_text(f"class_path: FER2013DataModule\ninit_args:\n  root: {root / 'icml'}\n")
        return [*written, (Path(archive), "ImageFolderDataModule"), (config, "")]

    def test_every_layout(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path, reader in self.layouts(tmp_path / "sets"):
            out = tmp_path / "out" / path.name
            assert fer("data", "dedupe", str(path), f"--out={out}", "--near=false", SMALL) == 0, path
            printed = capsys.readouterr().out
            assert (f"{path}: read by {reader}" in printed) == (reader != ""), path
            assert json.loads((out / "dedupe.json").read_text())["splits"]["train"]["rows"] > 0, path

    @pytest.mark.parametrize("form", FORMS)
    def test_every_converted_form(self, form: str, tmp_path: Path) -> None:
        source = write_fer2013(tmp_path / "fer", "csv")
        stored = tmp_path / (f"set.{form}" if form in ("parquet", "csv") else "set")
        assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored}") == 0
        assert fer("data", "dedupe", str(stored), f"--out={tmp_path / 'out'}", "--near=false") == 0
        rows = json.loads((tmp_path / "out" / "dedupe.json").read_text())["splits"]
        assert {split: part["rows"] for split, part in rows.items()} == {"train": 70, "val": 14, "test": 14}

    def test_path_may_stand_behind_options(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_folders(tmp_path / "faces", 2)
        monkeypatch.chdir(tmp_path)  # and all paths may be relative
        assert fer("data", "dedupe", "--near", "false", SMALL, "faces", "--out=clean/up") == 0
        assert "manifest.csv" in files_in(tmp_path / "clean" / "up")

    def test_class_and_root(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = write_fer2013(tmp_path / "fer", "csv")
        write_fer2013(root, "ferplus")
        options = [f"--out={tmp_path / 'out'}", "--near=false"]
        assert fer("data", "dedupe", "--data=FERPlusDataModule", f"--data.root={root}", *options) == 0
        assert "contempt" in (tmp_path / "out" / "dedupe.json").read_text()
        assert fer("data", "dedupe", str(root), "--data", "FERPlusDataModule", *options) == 0  # the path is its root
        assert "read by" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["inspekt", "faces"], "did you mean 'inspect'?"),
        (["inspect"], "name the data set: fer data inspect PATH, or --data CLASS --data.root PATH"),
        (["inspect", "--data.root=faces"], "name the data set"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["inspect", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["inspect", "run.yaml"], "run.yaml: expected a class_path and its init_args"),
        (["inspect", "bad.yaml"], "bad.yaml: expected YAML"),
        (["inspect", "wrong.yaml"], "ImageFolderDataModule has no argument 'bogus'; it takes"),
        (["inspect", "--data=ImageFoldrDataModule", "--data.root=faces"], "did you mean 'ImageFolderDataModule'?"),
        (["inspect", "--data=ImageFolderDataModule"], "ImageFolderDataModule needs root: pass --data.root ..."),
        (["inspect", "faces", "--tnse=true"], "--tnse=true"),
        (["inspect", "faces", "more"], "unrecognized arguments: more"),
        (["inspect", "faces", "--tsne=perhaps"], "tsne"),
        (["inspect", "faces", "--data.bogus=1"], "--data.bogus: no data module has such an option"),
        (["inspect", "moods"], "moods: unknown class names 'bored', 'joly'"),
        (["inspect", "faces", "--data.std=[0]"], "data.std must be above 0"),
        (["inspect", "faces", "--out=run.yaml"], "expected a folder to write into, found a file"),
        (["inspect", "faces", "--out=run.yaml/page"], "cannot be written"),
        (["inspect", "faces", "--out=faces/page"], "lies inside of the data set faces"),
        (["dedupe", "faces", "--conflicts=vote"], "vote"),
        (["convert", "faces", "--out=new"], "required: --to"),
        (["convert", "faces", "--to=arrow"], "required: --out"),
        (["convert", "faces", "--to=arow", "--out=new"], "arow"),
        (["convert", "faces", "--to=csv", "--out=new"], "ends in .csv"),
        (["convert", "faces", "--to=folders", "--out=full"], "exists and is not empty"),
        (["convert", "faces", "--to=folders", "--out=new", "--quality=0"], "quality must be 1 to 100"),
        (["balance", "faces", "--out=full"], "exists and is not empty"),
        (["balance", "faces", "--out=new", "--at_least=-1"], "at_least must not be negative"),
        (["balance", "faces", "--out=new", "--zoom=2"], "zoom"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_writes_nothing(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_folders(tmp_path / "faces", 2)
    write_folders(tmp_path / "moods", {"bored": 1, "joly": 1})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "run.yaml").write_text("data: {class_path: ImageFolderDataModule}\n")
    (tmp_path / "bad.yaml").write_text("class_path: [\n")
    (tmp_path / "wrong.yaml").write_text("class_path: ImageFolderDataModule\ninit_args: {root: faces, bogus: 1}\n")
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    assert fer("data", *args) == 2
    assert message in one_line_error(capsys.readouterr())
    assert files_in(tmp_path) == before
    assert not (tmp_path / "new").exists()


class TestInspect:
    """The page, its pictures and what is printed."""

    def test_page_numbers_and_bad_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = write_folders(tmp_path / "faces", {name: 5 + 5 * (name == "happy") for name in SEVEN_NAMES})
        (root / "fear" / "broken.png").write_bytes(b"not a picture")
        (root / "fear" / "empty.png").touch()
        out = tmp_path / "page"
        assert fer("data", "inspect", str(root), f"--out={out}", SMALL, "--tsne=true") == 0
        printed = capsys.readouterr().out
        lines = [line.split() for line in printed.splitlines()]
        assert ["train", "val"] in lines
        assert ["happy", "8", "2"] in lines
        assert ["all", "32", "8"] in lines
        assert f"page: {out / 'index.html'}" in printed
        result = json.loads((out / "inspect.json").read_text())
        assert result["splits"]["train"]["counts"]["fear"] == 4
        assert sorted(Path(bad["file"]).name for bad in result["unreadable"]) == ["broken.png", "empty.png"]
        assert all(f"- {finding}" in printed for finding in result["findings"])
        assert result["findings"]
        shown = files_in(out)
        assert {"index.html", "unreadable.csv", "pictures/counts.png", "pictures/tsne.png"} <= set(shown)
        for name in shown:
            if name.endswith(".png"):
                Image.open(out / name).verify()
                assert name in (out / "index.html").read_text()

    @pytest.mark.usefixtures("blank_pictures")
    def test_enlarged_files_are_told_before_they_are_converted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source, stored = write_folders(tmp_path / "faces", 3), tmp_path / "set"
        large = "--data.image_size=128"
        assert fer("data", "inspect", str(source), f"--out={tmp_path / 'before'}", large) == 0
        assert (
            "21 of 21 files were enlarged to 128x128 pixels: see --data.image_size and --data.min_side"
            in capsys.readouterr().out
        )
        for form in ("arrow", "folders"):
            assert fer("data", "convert", str(source), f"--to={form}", f"--out={stored / form}", large) == 0
            assert fer("data", "inspect", str(stored / form), f"--out={tmp_path / form}") == 0
            assert "were enlarged" not in capsys.readouterr().out

    @pytest.mark.usefixtures("blank_pictures")
    def test_rows_of_no_split_are_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = write_folders(tmp_path / "faces", 3)
        args = ["--data.per_class=1", "--data.val_fraction=0", SMALL, f"--out={tmp_path / 'page'}"]
        assert fer("data", "inspect", str(root), *args) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["train", "unused"] in lines
        assert ["all", "7", "14"] in lines


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_shown_on_terminals_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in SEVEN_NAMES:
        save(tmp_path / "faces" / name / "0.png", draw(0, rng))
    assert fer("data", "convert", str(tmp_path / "faces"), "--to=arrow", f"--out={tmp_path / 'piped'}", SMALL) == 0
    assert capsys.readouterr().err == ""
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert fer("data", "convert", str(tmp_path / "faces"), "--to=arrow", f"--out={tmp_path / 'shown'}", SMALL) == 0
    assert "writing arrow: " in terminal.getvalue()


def test_a_full_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "manifest.csv")

    monkeypatch.setattr("fer_lightning.files.os.fsync", full)
    root = write_folders(tmp_path / "faces", 2)
    assert fer("data", "dedupe", str(root), f"--out={tmp_path / 'out'}", SMALL, "--near=false") == 1
    assert one_line_error(capsys.readouterr()) == "fer: error: manifest.csv: No space left on device\n"
    assert files_in(tmp_path / "out") == []
