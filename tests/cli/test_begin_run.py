"""In which order a run begins, where it writes and with which callbacks; its parts only note what is done."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from fer_lightning.callbacks.evaluated import Evaluated
from fer_lightning.callbacks.learning_rate import LearningRate
from fer_lightning.callbacks.progress import OneLineBar
from fer_lightning.callbacks.run_lines import RunLines
from fer_lightning.cli import begin
from fer_lightning.cli.begin import FOLDER_VARIABLE, PARENT_VARIABLE
from fer_lightning.cli.place import Place
from fer_lightning.cli.tracking import RunLogger
from fer_lightning.errors import ConfigError
from fer_lightning.runs.folder import Claim
from fer_lightning.runs.lineage import Change

HARMLESS = Change("trainer.max_epochs", 1, 2, harmless=True)
LEARNED = Change("model.tau", 0, 1)


@pytest.fixture(autouse=True)
def _no_variable_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER_VARIABLE, PARENT_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def command(verb: str = "fit", file: Path | None = None, *changes: Change, **given: Any) -> Any:
    """Return what is asked of a parsed command line."""
    trainer = {
        "precision": "32-true", "accelerator": "cpu", "fast_dev_run": False, "default_root_dir": "", "max_epochs": 5,
        **given.pop("trainer", {}),
    }  # fmt: skip
    config = {
        "trainer": trainer, "allow_changed_data": False, "name": "tiny", "mlflow": None, "mlflow_checkpoints": False,
        "checkpoint": {"monitor": "val_acc"}, "model": {"monitor": "val_loss"}, "set": None, **given,
    }  # fmt: skip
    shown = {"callbacks": None, "logger": None, "enable_model_summary": None, "enable_progress_bar": None}
    return SimpleNamespace(
        verb=verb, checkpoint=file, config=config, config_init={"trainer": shown}, auto=None, used={},
        ended=False, lineage=SimpleNamespace(changes=list(changes)), datamodule=SimpleNamespace(class_names=["a", "b"]),
        checkpoint_io=SimpleNamespace(before_renaming=None), trainer=None,
    )  # fmt: skip


def run_in(root: Path, name: str = "tiny/version_0") -> Path:
    """Make a run folder with a checkpoint and return that."""
    file = root / name / "checkpoints/resume.ckpt"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def noting(log: list[Any], answers: list[Any]) -> Callable[..., Any]:
    """Return a function that notes its arguments and gives one answer after the other."""

    def answer(*args: Any) -> Any:
        log.append(args)
        return answers.pop(0)

    return answer


def test_a_run_writes_into_a_new_folder_or_that_of_its_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {"default_root_dir": str(tmp_path)}
    new, there, other = Place(), Place(), Place()
    begin._choose_place(command(trainer=root), new)
    assert new.folder == tmp_path / "tiny/version_0"
    assert new.claim is not None
    new.claim.discard()
    file = run_in(tmp_path)
    begin._choose_place(command("fit", file, HARMLESS, trainer=root), there)
    assert (there.folder, there.claim) == (file.parents[1], None)
    assert capsys.readouterr().out == ""
    begin._choose_place(command("fit", file, LEARNED, trainer=root), other)
    assert other.folder == tmp_path / "tiny/version_1"
    told = f"goes on as a new run in {other.folder}, because model.tau changed; {file.parents[1]} stays as it is\n"
    assert capsys.readouterr().out == told
    rehearsal = Place()
    begin._choose_place(command(trainer={**root, "fast_dev_run": True}), rehearsal)
    assert (rehearsal.folder, rehearsal.claim) == (Path(tempfile.gettempdir()), None)
    begin._choose_place(command("fit", file, trainer={**root, "fast_dev_run": True}), rehearsal)
    assert rehearsal.folder == file.parents[1]


def test_a_run_that_may_go_on_with_other_data_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared: list[Any] = []

    def changed(before: Any, now: Any, splits: Any) -> list[str]:
        compared.append((before, now, splits))
        return ["val 1 -> 2 samples"]

    monkeypatch.setattr(begin, "data_changes", changed)
    monkeypatch.setattr(begin, "stored_data", lambda checkpoint: "before")
    file, place = run_in(tmp_path), Place()
    cli = command("fit", file, trainer={"default_root_dir": str(tmp_path)}, allow_changed_data=True)
    cli.datamodule.describe = lambda: "now"
    begin._choose_place(cli, place)
    assert place.folder == tmp_path / "tiny/version_1"
    assert compared == [("before", "now", ("train", "val"))]
    assert "because the data changed" in capsys.readouterr().out
    cli.config["allow_changed_data"] = False
    begin._choose_place(cli, place)
    assert place.folder == file.parents[1]  # the difference is refused later


def test_an_evaluation_lies_in_the_run_or_in_a_new_folder_where_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = {"default_root_dir": str(tmp_path / "runs")}
    asked: list[Any] = []
    answers: list[Path | None] = [tmp_path / "a", None]
    monkeypatch.setattr(begin, "subject_of", lambda cli: "subject")
    monkeypatch.setattr(begin, "evaluation_folder", noting(asked, answers))
    file, place, elsewhere = run_in(tmp_path), Place(), Place()
    begin._choose_place(command("test", file, LEARNED, trainer=root), place)
    assert (place.folder, str(place.subject)) == (tmp_path / "a", "subject")
    assert asked == [(file.parents[1], "test", "subject")]
    begin._choose_place(command("test", file, trainer=root), elsewhere)
    assert elsewhere.folder == tmp_path / "runs/tiny/version_0"
    told = f"{file.parents[1]} cannot be written to: the evaluation is written to {elsewhere.folder}\n"
    assert capsys.readouterr().out == told
    rehearsal = Place()
    begin._choose_place(command("test", file, trainer={**root, "fast_dev_run": True}), rehearsal)
    assert (rehearsal.folder, rehearsal.subject) == (file.parents[1] / "test", None)
    begin._choose_place(command("test", tmp_path / "x.ckpt", trainer={**root, "fast_dev_run": True}), rehearsal)
    assert rehearsal.folder == Path(tempfile.gettempdir())


def test_another_process_takes_the_folder_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "x"))
    place, own = Place(), Place()
    begin._choose_place(command(trainer={"default_root_dir": str(tmp_path)}), own)
    assert own.folder == tmp_path / "tiny/version_0"  # the variable is left from another run of this process
    monkeypatch.setattr(begin, "rank", lambda: 1)
    begin._choose_place(command(), place)
    assert (place.folder, place.claim) == (tmp_path / "x", None)


def test_auto_takes_the_folder_that_it_has_locked(tmp_path: Path) -> None:
    taken: Any = (tmp_path, "claim", "lock")
    cli, place = command(), Place()
    cli.auto = SimpleNamespace(take_folder=lambda: taken)
    begin._choose_place(cli, place)
    assert (place.folder, place.claim, place.lock) == taken


@pytest.mark.parametrize(
    ("moved", "differs", "allowed", "anew"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_auto_begins_anew_where_other_data_lie_in_another_place(
    moved: bool, differs: bool, allowed: bool, anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(begin, "_data_changes", lambda cli, checkpoint: ["train 1 -> 2"] if differs else [])
    changes = [Change("data.root", "a", "b", harmless=True)] if moved else [HARMLESS]
    cli = command("fit", Path("r/checkpoints/resume.ckpt"), *changes, allow_changed_data=allowed)
    cli.begin_anew = lambda: done.append("anew")
    begin._look_at_data(cli)
    assert not done
    cli.auto = "auto"
    begin._look_at_data(cli)
    assert bool(done) is anew


def test_only_a_training_that_goes_on_in_its_folder_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begin, "read_checkpoint", lambda path, mapped: ("read", mapped))
    monkeypatch.setattr(begin, "completion", lambda *args: repr(args))
    file, root = run_in(tmp_path), {"default_root_dir": str(tmp_path)}
    whole = command("fit", file, HARMLESS, trainer=root)
    assert begin._completion(whole) == repr((("read", True), {}, [HARMLESS], file.parents[1]))
    for other in (
        command("test", file, trainer=root), command("fit", None, trainer=root),
        command("fit", file, trainer={**root, "fast_dev_run": True}), command("fit", file, LEARNED, trainer=root),
    ):  # fmt: skip
        assert begin._completion(other) == ""


@pytest.mark.parametrize(
    ("complete", "ended", "too_many", "allowed", "stays"),
    [
        ("it is", True, False, False, True),
        ("it is", False, True, False, True),
        ("it is", False, False, False, False),
        ("it is", True, True, True, False),
        ("", True, True, False, False),
    ],
)
def test_a_complete_run_stays_as_it_is(
    complete: str,
    ended: bool,
    too_many: bool,
    allowed: bool,
    stays: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(begin, "_completion", lambda cli: complete)
    monkeypatch.setattr(begin, "has_ended", lambda folder: ended)
    monkeypatch.setattr(begin, "_has_more_than", lambda limit, checkpoint: too_many)
    monkeypatch.setattr(begin, "_choose_place", lambda cli, place: setattr(place, "folder", Path("chosen")))
    place, cli = Place(), command("fit", run_in(tmp_path), allow_changed_data=allowed)
    assert begin._lead(cli, place) == ""
    assert (place.complete, place.ended) == (complete, stays)
    assert place.folder == (tmp_path / "tiny/version_0" if stays else Path("chosen"))


@pytest.mark.parametrize(
    ("verb", "given", "measured"), [("fit", None, True), ("fit", "32-true", False), ("test", None, False)]
)
def test_the_precision_of_a_training_is_measured_after_its_data_were_read(
    verb: str, given: str | None, measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setattr(begin, "_choose_place", lambda cli, place: done.append("place"))

    def measure(cli: Any) -> tuple[str, str]:
        done.append("measured")
        return "bf16-mixed", "because"

    monkeypatch.setattr(begin, "_choose_precision", measure)
    cli = command(verb, trainer={"precision": given})
    cli.datamodule.prepare_data = lambda: done.append("read")
    cli.datamodule.check = done.append
    assert begin._lead(cli, Place()) == ("because" if measured else "")
    assert done == ([*("read", "fit", "measured")] if measured else []) + ["place"]
    assert cli.config["trainer"]["precision"] == ("bf16-mixed" if measured else given)


class NotedPlace(Place):
    """Notes what is done to it."""

    def __init__(self, log: list[str], **values: Any) -> None:
        super().__init__(**values)
        self.log = log

    def take_lock(self, when_lost: Any) -> None:
        self.log.append("lock")

    def unlock(self) -> None:
        self.log.append("unlock")

    def discard(self) -> None:
        self.log.append("discard")


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that begins a run and returns what was done, in order."""

    def run(cli: Any, fails: str = "", world: int = 1, **place: Any) -> list[str]:
        log: list[str] = []
        where = NotedPlace(log, **place)

        def step(name: str, result: Any = None) -> Any:
            def work(*args: Any, **options: Any) -> Any:
                log.append(name)
                if name == fails:
                    raise KeyError(name)
                return result

            return work

        trainer = SimpleNamespace(strategy="ddp", world_size=world)
        monkeypatch.setattr(begin, "_lead", step("lead", ""))
        for name in ("watch_processes", "check_world", "_record"):
            monkeypatch.setattr(begin, name, step(name.strip("_")))
        monkeypatch.setattr(begin, "_output", lambda *args: {})
        cli.run_config = SimpleNamespace(write=step("config"))
        cli.datamodule.check = step("check")
        cli.instantiate_trainer = step("trainer", trainer)
        with suppress(KeyError):
            begin.begin(cli, where, SimpleNamespace(end=print))  # type: ignore[arg-type]  # all that is asked for
        assert cli.checkpoint_io.before_renaming in (None, where.check)
        log += ["guarded"] * (cli.checkpoint_io.before_renaming is not None)
        return log

    return run


CLAIM = Claim(Path("a"), Path())
ALL = ["lead", "lock", "config", "trainer", "watch_processes", "check_world"]


def test_a_training_locks_its_folder_and_says_what_it_is_before_its_trainer_is_made(begins: Any) -> None:
    assert begins(command(), claim=CLAIM) == [*ALL, "record", "guarded"]
    assert begins(command(), claim=CLAIM, world=2) == [*ALL, "check", "record", "guarded"]
    assert begins(command()) == [each for each in [*ALL, "record", "guarded"] if each != "config"]
    quiet = ["lead", "trainer", "watch_processes", "check_world"]
    assert begins(command("test"), claim=CLAIM) == quiet
    assert begins(command(trainer={"fast_dev_run": True}), claim=CLAIM) == quiet
    ended = command()
    assert begins(ended, complete="all is done", ended=True) == ["lead"]
    assert ended.ended


def test_a_process_that_is_not_the_first_takes_no_lock(begins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin, "rank", lambda: 1)
    assert begins(command(), claim=CLAIM) == ["lead", "trainer", "watch_processes", "check_world", "record"]


@pytest.mark.parametrize("fails", ["lead", "config", "trainer", "record"])
def test_whatever_fails_leaves_neither_folder_nor_lock(fails: str, begins: Any) -> None:
    done = begins(command(), fails, claim=CLAIM)
    assert [each for each in done if each != "guarded"][-3:] == [fails, "discard", "unlock"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"trainer": {"precision": "12"}}, "precision"),
        ({"trainer": {"accelerator": "tpus"}}, "there is no 'tpus'"),
        ({"checkpoint": {"monitor": "val_accc"}}, "checkpoint.monitor: no metric is called 'val_accc'"),
        ({"model": {"monitor": "val_los"}}, "model.monitor: no metric is called 'val_los'"),
    ],
)
def test_what_can_be_known_is_refused_before_anything_is_read(given: dict[str, Any], told: str, begins: Any) -> None:
    with pytest.raises(ConfigError, match=told):
        begins(command(**given))


def outputs(cli: Any, *kinds: type, subject: Any = None) -> dict[str, Any]:
    """Return the output options of a trainer after a look at its callbacks."""
    found = begin._output(cli, Place(Path("x"), subject=subject), "because")
    assert [type(callback) for callback in found["callbacks"]] == list(kinds)
    return found


def test_what_a_run_prints_and_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin, "config_text", lambda parser, config: "name: tiny")
    monkeypatch.setattr(begin, "_prediction_writer", lambda cli: "writer")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)  # noqa: B023
        cli = command()
        cli.parser = None
        shown = cli.config_init["trainer"]
        bars = [OneLineBar] * terminal
        found = outputs(cli, *bars, RunLines, LearningRate)
        assert (found["enable_progress_bar"], found["enable_model_summary"]) == (terminal, False)
        assert isinstance(found["logger"], RunLogger)
        assert (Path(found["logger"].log_dir), found["logger"].configuration) == (Path("x"), "name: tiny")
        lines = found["callbacks"][-2]
        assert (lines.header, lines.precision) == (True, "because")
        shown.update(enable_progress_bar=False, enable_model_summary=False, logger=False)
        found = outputs(cli, RunLines, LearningRate)
        assert (found["enable_progress_bar"], found["enable_model_summary"], found["logger"]) == (False, False, False)
        assert not found["callbacks"][0].header
        shown.update(enable_progress_bar=True, enable_model_summary=True, logger=True)
        found = outputs(cli, *bars, RunLines, LearningRate)
        assert found["enable_model_summary"]
        assert found["callbacks"][-2].header
        assert isinstance(found["logger"], RunLogger)
        shown["callbacks"] = [TQDMProgressBar()]
        assert outputs(cli, TQDMProgressBar, RunLines, LearningRate)["enable_progress_bar"]
        assert len(shown["callbacks"]) == 1  # those of the user stay as they are
        shown["callbacks"] = None
        cli.verb = "test"
        outputs(cli, *bars, Evaluated, subject="subject")
        cli.verb = "predict"
        assert outputs(cli, *bars, Evaluated, str, subject="subject")["logger"] is False


@pytest.mark.parametrize(
    ("checkpoint", "branched"), [(None, False), ("tiny/version_0", False), ("other/version_3", True), ("", True)]
)
def test_the_lineage_is_told_where_a_run_stands(
    checkpoint: str | None, branched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    tracking = SimpleNamespace(attach=lambda trainer: {"run_id": trainer})
    monkeypatch.setattr(begin, "start_tracking", noting(asked, [tracking]))
    file = tmp_path / "a.ckpt" if checkpoint == "" else None
    file = run_in(tmp_path, checkpoint) if checkpoint else file
    cli = command("fit", file, allow_changed_data=True, mlflow="http://x", mlflow_checkpoints=True)
    cli.trainer = "trainer"
    place = Place(tmp_path / "tiny/version_0", complete="all is done")
    begin._record(cli, place)
    lineage = cli.lineage
    assert (lineage.complete, lineage.allow_changed_data, lineage.branched) == (True, True, branched)
    assert lineage.mlflow == {"run_id": "trainer"}
    assert asked == [("http://x", place.folder, Path("runs"), "tiny", True)]
    monkeypatch.setattr(begin, "start_tracking", lambda *args: None)
    monkeypatch.setattr(begin, "rank", lambda: 1)
    begin._record(cli, Place(tmp_path))
    assert lineage.complete is False
