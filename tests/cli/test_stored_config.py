from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from fer_lightning.cli.start import begun
from fer_lightning.cli.stored_config import (
    as_file,
    check_class_arguments,
    newest_exact,
    peek,
    preprocessing_changes,
    stored_config,
)
from fer_lightning.errors import CheckpointError, ConfigError
from fer_lightning.runs.checkpoint import CONFIG_KEY, SAVED_KEY, TASK_KEY, find_checkpoint
from tests.helpers.cli import QUICK, fer, fit
from tests.helpers.folders import write_folders


def test_peek_reads_flags_and_files(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("name: a\nckpt_path: best\ntrainer: {default_root_dir: r}\n")
    assert peek([]) == (None, "default", "runs")
    assert peek(["--config", str(config)]) == ("best", "a", "r")
    assert peek([f"-c={config}", "--name", "b", "--ckpt_path=last"]) == ("last", "b", "r")
    config.write_text("config: x.yaml\n")
    with pytest.raises(ConfigError, match="several --config"):
        peek(["--config", str(config)])


def test_peek_reads_the_trainer_from_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer/x.yaml").write_text("default_root_dir: far\n")
    config = tmp_path / "c.yaml"
    config.write_text("name: a\ntrainer: trainer/x.yaml\n")
    assert peek([f"--config={config}"]) == (None, "a", "far")
    assert peek(["--trainer", str(tmp_path / "trainer/x.yaml")]) == (None, "default", "far")
    assert peek([f"--config={config}", "--trainer.default_root_dir=near"])[2] == "near"
    config.write_text("trainer.default_root_dir: dotted\n")
    assert peek(["-c", str(config)])[2] == "dotted"
    for wrong in (b"trainer: nowhere.yaml\n", b"trainer: 3\n", b"name: \xff\n", b"name: [\n"):
        config.write_bytes(wrong)
        assert peek([f"--config={config}"]) == (None, "default", "runs")


def test_last_is_looked_for_where_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"default_root_dir: {tmp_path / 'far'}\n")
    assert fit(tmp_path / "far", epochs=1) == 0
    path = peek([f"--trainer={tmp_path / 'x.yaml'}"])[2]
    assert find_checkpoint("last", Path(path), "tiny", "resume.ckpt").is_file()


def test_a_part_is_given_in_one_place_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: fer_b.yaml\nmodel.backbone: resnet18\n")
    with pytest.raises(ConfigError, match="'model.backbone' beside 'model' would drop all else of it"):
        peek(["--config", str(config)])
    config.write_text("model.backbone: resnet18\nmodel.tau: 0.5\nname: a\n")
    assert peek(["--config", str(config)])[1] == "a"


def test_a_checkpoint_gives_each_verb_what_it_needs(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    resumed, tested = stored_config(path, "fit"), stored_config(path, "test")
    assert resumed["trainer"]["max_epochs"] == 1
    assert tested["trainer"] == {"precision": "32-true"}
    own = {"image_size": 16, "channels": 1, "mean": [0.5], "std": [0.5], "interpolation": "area"}
    assert tested["data"] == {**resumed["data"], "init_args": {**resumed["data"]["init_args"], **own}}
    assert resumed["data"]["init_args"]["image_size"] is None
    assert tested.keys() == {"model", "data", "seed_everything", "name", "trainer"}
    assert "allow_changed_data" not in resumed


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_what_a_checkpoint_takes_the_place_of_is_not_asked_for_again(tmp_path: Path, verb: str) -> None:
    config = {"model": {"pretrained": True, "weights": "a.ckpt", "head": 1}, "trainer": {"precision": "32-true"}}
    torch.save({CONFIG_KEY: config}, tmp_path / "a.ckpt")
    stored = stored_config(tmp_path / "a.ckpt", verb)
    assert stored["model"] == {"pretrained": False, "weights": None, "head": 1}


def test_only_what_says_that_it_is_exact_is_gone_on_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def write(name: str, step: int, **saved: object) -> Path:
        torch.save({"global_step": step, **({SAVED_KEY: saved} if saved else {})}, tmp_path / name)
        return tmp_path / name

    why = CheckpointError("resume.ckpt is damaged")
    write("best.ckpt", 9)
    write("dump.ckpt", 8, exact=False, written=9.0)
    with pytest.raises(CheckpointError, match="resume.ckpt is damaged; there is no other whole and exact checkpoint"):
        newest_exact(tmp_path / "resume.ckpt", why)
    write("epoch_0000.ckpt", 3, exact=True, written=1.0)
    newest = write("epoch_0001.ckpt", 2, exact=True, written=2.0)
    assert newest_exact(write("resume.ckpt", 5, exact=True, written=3.0), why) == newest
    assert "what was trained after its 2 steps is lost and done again" in capsys.readouterr().err


def test_a_checkpoint_that_python_code_wrote_has_none(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "fer_task": {}}, tmp_path / "own.ckpt")
    assert stored_config(tmp_path / "own.ckpt", "test") == {}


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_checkpoint_of_another_program_is_refused(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}, "pytorch-lightning_version": "1.4.0"}, path)
    with pytest.raises(CheckpointError, match=f"is no checkpoint of fer, .*--model.weights {path}$"):
        stored_config(path, verb)


def test_a_checkpoint_of_an_older_version_keeps_its_interpolation(tmp_path: Path) -> None:
    assert fit(tmp_path, epochs=1) == 0
    path = tmp_path / "tiny/version_0/checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint[CONFIG_KEY]["data"]["init_args"]["interpolation"]
    checkpoint[TASK_KEY]["preprocessing"]["interpolation"] = "bilinear"
    torch.save(checkpoint, path)
    for verb in ("fit", "test"):
        assert stored_config(path, verb)["data"]["init_args"]["interpolation"] == "bilinear"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    assert fit(root, "--data.mean=[0.4]", "--data.std=[0.3]", epochs=1) == 0
    return root / "tiny/version_0"


def images(root: Path, **further: int) -> str:
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    return str(write_folders(root, {**dict.fromkeys(names, 3), **further}, splits=("train", "test")))


@pytest.mark.parametrize("way", ["flags", "file"])
def test_a_model_brings_its_preprocessing_to_other_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    root = images(tmp_path / "other")
    given = ["--data=ImageFolderDataModule", f"--data.root={root}"]
    if way == "file":
        (tmp_path / "c.yaml").write_text(f"data: {{class_path: ImageFolderDataModule, init_args: {{root: {root}}}}}")
        given = [f"--config={tmp_path / 'c.yaml'}"]
    with begun("test", [f"--ckpt_path={run}", *given]) as cli:
        assert cli.datamodule.preprocessing == {
            "image_size": 16, "channels": 1, "mean": [0.4], "std": [0.3], "interpolation": "area",
        }  # fmt: skip
        assert cli.datamodule.table.images.shape[1:] == (1, 16, 16)
    assert "the model was trained at" not in capsys.readouterr().out
    assert fer("test", f"--ckpt_path={run}", *given, "--report.pictures=false") == 0


def test_other_sizes_are_used_if_asked_for_and_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--ckpt_path={run}", "--data=ImageFolderDataModule", f"--data.root={images(tmp_path / 'other')}"]
    assert fer("test", *given, "--data.std=[0.5]", "--report.pictures=false") == 0
    assert "data.std [0.5], the model was trained at [0.3]\n" in capsys.readouterr().out
    assert fer("test", *given, "--data.image_size=24") == 2
    told = capsys.readouterr()
    assert "data.image_size 24, the model was trained at 16\n" in told.out
    assert "network takes images of 16 pixels, 1 channel(s); for 24 pixels, 1 channel(s) it is another one" in told.err


def test_a_class_that_the_model_does_not_know_is_left_out_as_the_error_says(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--ckpt_path={run}", "--data=ImageFolderDataModule", "--report.pictures=false"]
    given.append(f"--data.root={images(tmp_path / 'eight', Contempt=3)}")
    assert fer("test", *given) == 2
    told = capsys.readouterr().err.strip()
    _, _, cure = told.partition("leave contempt out: ")
    assert fer("test", *given, *shlex.split(cure), *QUICK) == 0


def test_a_file_holds_the_values_for_a_while() -> None:
    with as_file({"name": "a"}) as path:
        assert yaml.safe_load(Path(path).read_text()) == {"name": "a"}
    assert not Path(path).exists()


def test_a_value_that_is_empty_is_not_looked_for_in_the_next_argument(tmp_path: Path) -> None:
    assert peek(["--name=", "--ckpt_path=last"]) == ("last", "", "runs")
    config = tmp_path / "c.yaml"
    config.write_text("name: null\nckpt_path: null\ntrainer.default_root_dir: null\n")
    assert peek([f"--config={config}"]) == (None, "default", "runs")
    config.write_text("name: later\n")
    assert peek(["--name=a", f"--config={config}"])[1] == "later"  # what comes last counts
    config.write_text("model:\nname: a\n")
    assert peek([f"--config={config}"])[1] == "a"


@pytest.mark.parametrize(
    ("args", "stored", "proposal"),
    [
        (["--model.lr_scheduler.warmup=0.2"], {}, "--model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup 0.2"),
        (["--model.lr_scheduler.init_args.warmup", "a b"], {}, "WarmupCosine --model.lr_scheduler.warmup 'a b'"),
        (["--model.optimizer.lr", "0.1"], {}, "AdamW --model.optimizer.lr 0.1 --model.optimizer.weight_decay 0.05"),
        (
            ["--model.optimizer.eps=1e-6"],
            {"optimizer": None},
            "AdamW --model.optimizer.lr 0.001 --model.optimizer.weight_decay 0.05 --model.optimizer.eps 1e-6",
        ),
        (["--model.optimizer.lr=0.1"], {"optimizer": {"class_path": "torch.optim.SGD"}}, ""),
        (["--model.optimizer.lr=0.1", "--model.optimizer=SGD"], {}, ""),
        (["--model.optimizer.lr=0.1", "--config=a.yaml"], {}, ""),
        (["--model.optimizer.lr=0.1", "-c", "a.yaml"], {}, ""),
        (["--model.optimizer.lr=0.1", "--model", "a.yaml"], {}, ""),
        (["--model.optimizers=0.1", "--name=a"], {}, ""),
    ],
)
def test_arguments_of_a_class_that_the_run_does_not_have_are_told_with_it(
    args: list[str], stored: dict[str, object], proposal: str
) -> None:
    if not proposal:
        check_class_arguments(["--ckpt_path=last", *args], {"model": stored})
        return
    with pytest.raises(ConfigError) as told:
        check_class_arguments(["--ckpt_path=last", *args], {"model": stored})
    assert str(told.value).endswith(f"{proposal}?")
    assert str(told.value).startswith(args[0].partition("=")[0].replace(".init_args", ""))


def test_what_is_told_of_other_preprocessing() -> None:
    def config(**given: object) -> dict[str, dict[str, object]]:
        return {"data": {"init_args": given}}

    stored = config(image_size=48, mean=[0.5], std=[0.25], batch_size=8)
    used = config(image_size=64, mean=None, std=[0.25], batch_size=9)
    assert preprocessing_changes(stored, used) == [
        "data.image_size 64, the model was trained at 48",
        "data.mean of the data set itself, the model was trained at [0.5]",
    ]
    assert preprocessing_changes({}, used) == preprocessing_changes({"data": {"init_args": None}}, used) == []
