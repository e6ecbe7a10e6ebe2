from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.cli.data_set import _named, data_module
from fer_lightning.data.sets.image_folder import ImageFolderDataModule
from fer_lightning.errors import ConfigError, DataError
from tests.helpers.folders import write_folders, write_table


@pytest.mark.parametrize(
    ("path", "flags", "named"),
    [
        (None, "--data C --data.root x", "--data C --data.root x"),
        (None, "--data.help=C", "--data.help=C"),
        ("faces", "--data C --data.root x", "--data C --data.root x --data.root=faces"),  # the path counts
        ("faces", "--data=C", "--data=C --data.root=faces"),
        ("a.yaml", "--data.fold 1", "--data=a.yaml --data.fold 1"),
        ("b.yml", "--data.fold 1", "--data=b.yml --data.fold 1"),
        ("faces", "--data.fold 1", "--data=ImageFolderDataModule --data.root=faces --data.fold 1"),
        ("set", "--data.fold 1", "--data=ManifestDataModule --data.root=set/manifest.csv --data.fold 1"),
        ("faces", "--data.help", "--data.help=ImageFolderDataModule"),
    ],
)
def test_a_path_becomes_the_flags_that_name_its_class(
    path: str | None, flags: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "faces", 1)
    write_table(tmp_path / "set/manifest.csv", [{"path": "a.png", "label": "happy"}])
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).write_text("class_path: C\n")
    assert _named("fer data inspect", path, flags.split()) == named.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a, b]\n", "names the classes of a YOLO set; name its folder: "),
        ("data: faces\n", "expected a class_path and its init_args, as in configs/data"),
        ("- 1\n", "expected a class_path and its init_args"),
        ("a: [\n", "expected YAML"),
        (None, "does not exist; expected a file as in configs/data"),
    ],
)
@pytest.mark.parametrize("how", ["path", "flag", "two words"])
def test_a_config_that_names_no_class_is_told(text: str | None, said: str, how: str, tmp_path: Path) -> None:
    file = tmp_path / "set.yaml"
    if text is not None:
        file.write_text(text)
    path, flags = {
        "path": (str(file), []),
        "flag": (None, [f"--data={file}"]),
        "two words": (None, ["--data", str(file)]),
    }[how]
    with pytest.raises((ConfigError, DataError), match=said):
        data_module("fer data inspect", path, flags)


def test_nothing_named_is_told() -> None:
    with pytest.raises(ConfigError, match="name the data set: fer data inspect PATH, or --data CLASS --data.root PATH"):
        data_module("fer data inspect", None, ["--data.fold=1"])


def test_the_module_is_made_with_its_options(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "faces", 1)
    made = data_module("fer data inspect", str(root), ["--data.val_fraction", "0.5"])
    assert isinstance(made, ImageFolderDataModule)
    assert (made.root, made.val_fraction) == (str(root), 0.5)
