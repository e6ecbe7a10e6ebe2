"""Steps of the parsed command line one by one; whole command lines run in ``test_trainer_cli``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI

from fer_lightning.callbacks.changed_options import ChangedOptions
from fer_lightning.callbacks.global_batch import GlobalBatch
from fer_lightning.callbacks.graceful_stop import GracefulStop
from fer_lightning.callbacks.guard import FiniteGuard
from fer_lightning.callbacks.lineage_writer import Lineage
from fer_lightning.callbacks.step_seed import StepSeed
from fer_lightning.cli import trainer_cli
from fer_lightning.cli.trainer_cli import FERCLI, _prints_config, as_list
from fer_lightning.errors import CheckpointError
from fer_lightning.runs.checkpoint import BEST, RESUME


def bare(monkeypatch: pytest.MonkeyPatch, verb: str = "fit", **values: Any) -> Any:
    """Return a command line that was not parsed, with these values; ``made_with`` is what Lightning's was made with."""
    made: dict[str, Any] = {}
    monkeypatch.setattr(LightningCLI, "__init__", lambda self, *args, **options: made.update(options, classes=args))
    cli: Any = FERCLI(verb, ["--name=x"])
    cli.made_with = made
    vars(cli).update(values)
    return cli


def test_what_every_run_is_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    cli = bare(monkeypatch)
    made, given = cli.made_with, cli.made_with["trainer_defaults"]
    kinds = [StepSeed, FiniteGuard, GlobalBatch, Lineage, ChangedOptions, GracefulStop]
    assert [type(callback) for callback in given["callbacks"]] == kinds  # what stops a run comes last
    assert given["callbacks"][3:] == [cli.lineage, cli.changed, cli.stop]
    assert given["use_distributed_sampler"] is False
    assert (made["seed_everything_default"], made["run"], made["save_config_callback"]) == (0, False, None)
    assert (made["subclass_mode_data"], made["auto_configure_optimizers"], made["args"]) == (True, False, ["--name=x"])
    assert cli.checkpoint_io.attempts == 3
    assert made["parser_kwargs"]["allow_abbrev"] is False


def test_one_several_or_none_as_a_list_of_its_own() -> None:
    given = [1, 2]
    assert (as_list(None), as_list(given), as_list("a"), as_list((1, 2))) == ([], [1, 2], ["a"], [(1, 2)])
    assert as_list(given) is not given


@pytest.mark.parametrize(
    ("argument", "prints"),
    [
        *((f"--{name}", True) for name in ("print_config", "print_config=skip_null", "data.help=C", "model.help")),
        *((argument, False) for argument in ("--data.root=x", "print_config", "--name=--print_config")),
    ],
)
def test_what_only_prints(argument: str, prints: bool) -> None:
    assert _prints_config(["--trainer.max_epochs=1", argument]) is prints


def test_a_training_goes_on_from_resume_and_everything_else_takes_the_best(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainer_cli, "find_checkpoint", lambda *args: Path("/".join(map(str, args))))
    averaged: list[Any] = []
    monkeypatch.setattr(trainer_cli, "write_ensemble", lambda members, path: averaged.append((members, path)) or path)  # type: ignore[func-returns-value]
    for verb, file in (("fit", RESUME), ("test", BEST), ("predict", BEST)):
        assert bare(monkeypatch, verb)._found("last", Path("runs"), "tiny") == Path(f"last/runs/tiny/{file}")
    with pytest.raises(CheckpointError, match=r"goes on from one checkpoint, not from 2; .* --model.teacher '\[a,b\]'"):
        bare(monkeypatch)._found("a,b", Path("runs"), "tiny")
    assert not averaged
    cli = bare(monkeypatch, "test")
    found = cli._found(["a", "b"], Path("runs"), "tiny")
    assert cli.members == [Path(f"{name}/runs/tiny/{BEST}") for name in ("a", "b")]
    assert averaged == [(cli.members, found)]
    assert found.parent.is_dir()
    assert capsys.readouterr().out == f"averages     a/runs/tiny/{BEST}\n             b/runs/tiny/{BEST}\n"


@pytest.mark.parametrize("checkpoint", [None, Path("a.ckpt")])
@pytest.mark.parametrize(
    ("verb", "further"),
    [
        ("fit", {}),
        ("predict", {"return_predictions": False}),
        ("validate", {"verbose": False}),
        ("test", {"verbose": False}),
    ],
)
def test_each_verb_is_its_own_method_of_the_trainer(
    verb: str, further: dict[str, Any], checkpoint: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    methods = {
        name: lambda *args, name=name, **options: called.append((name, args, options))
        for name in ("fit", "predict", "validate", "test")
    }
    cli = bare(monkeypatch, verb, checkpoint=checkpoint, model="model", datamodule="data")
    cli.trainer = SimpleNamespace(**methods)
    cli.execute()
    path = None if checkpoint is None else "a.ckpt"
    assert called == [(verb, ("model",), {"datamodule": "data", "ckpt_path": path, **further})]


def test_a_run_that_begins_anew_forgets_the_one_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(FERCLI, "instantiate_classes", lambda self: made.append((self.checkpoint, self.used)))
    cli = bare(monkeypatch, checkpoint=Path("a.ckpt"), used={"a": 1}, config={"trainer": {"precision": "bf16-mixed"}})
    cli.auto = SimpleNamespace(used={"trainer": {"precision": None}})
    cli.lineage.changes, cli.changed.changes = ["change"], ["change"]
    cli.begin_anew()
    assert made == [(None, {})]
    assert cli.config["trainer"]["precision"] is None
    assert (cli.lineage.changes, cli.changed.changes) == ([], [])


@pytest.mark.parametrize("rehearsal", [True, False])
def test_the_trainer_gets_what_writes_checkpoints_but_not_the_time_limit(
    rehearsal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LightningCLI, "instantiate_trainer", lambda self, **options: options)
    cli = bare(monkeypatch, trainer_defaults={"callbacks": ["first"]}, run_config="config")
    given = {"max_time": "00:00:01:00", "plugins": "mine", "fast_dev_run": rehearsal}
    cli.config_init = {"trainer": given}
    made = cli.instantiate_trainer(precision="32-true")
    assert made == cli.trainer == {"plugins": ["mine", cli.checkpoint_io], "max_time": None, "precision": "32-true"}
    assert cli.stop.max_seconds == 60
    assert cli.trainer_defaults["callbacks"] == (["first"] if rehearsal else ["first", "config"])


@pytest.mark.parametrize(
    ("verb", "auto", "checkpoint", "weights", "checked"),
    [
        ("fit", True, "a", None, ["EMA"]),
        ("fit", True, None, "w", ["EMA"]),
        ("fit", None, "a", "w", ["EMA"]),
        ("test", None, "a", "w", []),
    ],
)
def test_a_run_that_goes_on_reads_no_weights_before(
    verb: str,
    auto: bool | None,
    checkpoint: str | None,
    weights: str | None,
    checked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Config(dict[str, Any]):
        def clone(self) -> Any:
            return Config({key: dict(value) for key, value in self.items()})

    seen: list[Any] = []
    monkeypatch.setattr(trainer_cli, "check_parts", lambda trainer, callbacks: seen.append(list(callbacks)))
    config = Config(model={"weights": "w", "pretrained": True}, trainer={"callbacks": ["EMA"]})
    parser = SimpleNamespace(instantiate_classes=lambda made: {**made, "data": "data"})
    cli = bare(monkeypatch, verb, auto=auto, checkpoint=checkpoint, config=config, parser=parser)
    monkeypatch.setattr(FERCLI, "_plain", lambda self, parser: {})
    cli.instantiate_classes()
    assert cli.model == {"weights": weights, "pretrained": weights is not None}
    assert config["model"] == {"weights": "w", "pretrained": True}  # what is written down is what was asked for
    assert (cli.datamodule, seen) == ("data", [checked])


class Parser:
    """Notes the command lines that it is given."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = []

    def parse_args(self, args: list[str]) -> str:
        self.lines.append(args)
        return "parsed"


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that parses a command line and returns what was done; the checkpoint is not read."""

    def run(
        verb: str, args: list[str], wanted: str | None, restarts: bool = False, **stored: Any
    ) -> tuple[list[Any], Any]:
        done: list[Any] = []
        damaged = {"checkpoint": stored.pop("damaged", False)}

        def read(path: Path, for_verb: str) -> dict[str, Any]:
            if damaged.pop("checkpoint", False):
                raise CheckpointError("damaged")
            return stored

        monkeypatch.setattr(trainer_cli, "peek", lambda args: (wanted, "tiny", "runs"))
        monkeypatch.setattr(trainer_cli, "slurm_restarts", lambda: restarts)
        monkeypatch.setattr(trainer_cli, "stored_config", read)
        monkeypatch.setattr(trainer_cli, "newest_exact", lambda path, error: Path("exact.ckpt"))
        monkeypatch.setattr(trainer_cli, "check_class_arguments", lambda args, stored: done.append("arguments"))
        monkeypatch.setattr(trainer_cli, "as_file", lambda values: done.append(("file", dict(values))) or FileNamed())  # type: ignore[func-returns-value]
        monkeypatch.setattr(FERCLI, "_start_or_go_on", lambda self, parser: done.append("auto"))
        monkeypatch.setattr(FERCLI, "_compare", lambda self, parser, before: done.append(("compared", before)))
        monkeypatch.setattr(FERCLI, "_found", lambda self, *args: Path("found.ckpt"))
        cli, parser = bare(monkeypatch, verb), Parser()
        cli.parse_arguments(parser, args)
        assert cli.config == "parsed"
        return [*done, *parser.lines], cli

    return run


class FileNamed:
    def __enter__(self) -> str:
        return "stored.yaml"

    def __exit__(self, *_: object) -> None:
        pass


def test_a_command_line_without_a_checkpoint_is_parsed_alone(parses: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert parses("fit", ["--a"], None)[0] == [["--a"]]
    assert parses("fit", ["--a"], "auto")[0] == ["auto", ["--a"]]
    assert capsys.readouterr().out == ""
    assert parses("fit", ["--a"], None, restarts=True)[0] == ["auto", ["--a"]]
    assert capsys.readouterr().out == "SLURM has started this job again: as with --ckpt_path auto\n"
    for tells in ("--print_config", "--help", "-h"):
        for wanted in (None, "auto"):
            assert parses("fit", [tells], wanted, restarts=True)[0] == [[tells]]
            assert parses("test", [tells], wanted)[0] == [[tells]]
    assert capsys.readouterr().out == ""
    for wanted in (None, "auto"):
        with pytest.raises(CheckpointError, match="fer test needs --ckpt_path"):
            parses("test", ["--a"], wanted, restarts=True)


def test_values_of_a_checkpoint_stand_below_those_of_the_command_line(parses: Any) -> None:
    stored = {"name": "tiny", "trainer": {"callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.5}}]}}
    done, cli = parses("fit", ["--a"], "last", **stored)
    assert done == ["arguments", ("file", stored), ("compared", stored), ["--config", "stored.yaml", "--a"]]
    assert cli.checkpoint == Path("found.ckpt")
    done, _ = parses("fit", ["--trainer.callbacks.decay=0.9", "--a"], "last", **stored)
    changed = {**stored, "trainer": {"callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.9}}]}}
    before = {**stored, "trainer": {"callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.5}}]}}
    assert done == ["arguments", ("file", changed), ("compared", before), ["--config", "stored.yaml", "--a"]]
    stored["trainer"] = {"callbacks": [1]}
    done, _ = parses("fit", ["--trainer.callbacks+=EMA"], "last", **stored)
    assert done[1:3] == [
        ("file", {"name": "tiny", "trainer": {}}),
        ("compared", {"name": "tiny", "trainer": {"callbacks": [1]}}),
    ]
    done, _ = parses("test", ["--a"], "last")
    assert done == ["arguments", ("file", {}), ["--a"]]  # a checkpoint that holds none


def test_only_a_training_from_last_goes_on_from_another_checkpoint_where_one_is_damaged(parses: Any) -> None:
    _, cli = parses("fit", ["--a"], "last", damaged=True, name="tiny")
    assert cli.checkpoint == Path("exact.ckpt")
    for verb, wanted in (("fit", "a.ckpt"), ("fit", "best"), ("test", "last")):
        with pytest.raises(CheckpointError, match="damaged"):
            parses(verb, ["--a"], wanted, damaged=True, name="tiny")


def test_what_auto_has_found_decides_what_was_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {
        "trainer": {"precision": None, "default_root_dir": None}, "seed_everything": True, "name": "tiny",
        "model": {"weights": "w", "pretrained": True, "tau": 0},
    }  # fmt: skip
    stored = {
        "trainer": {"precision": "bf16-mixed"},
        "seed_everything": 7,
        "model": {"weights": None, "pretrained": False},
    }
    compared: list[Any] = []
    monkeypatch.setattr(FERCLI, "_plain", lambda self, parser: used)
    monkeypatch.setattr(FERCLI, "_compare", lambda self, parser, before: compared.append(before))
    monkeypatch.setattr(trainer_cli, "stored_config", lambda path, verb: {**stored, "model": dict(stored["model"])})  # type: ignore[call-overload]
    for answer in ("", "runs/tiny/version_0/checkpoints/resume.ckpt"):
        cli = bare(monkeypatch, config={"trainer": {"precision": None}, "seed_everything": True})
        cli.agree = lambda find: answer  # noqa: B023
        cli._start_or_go_on(None)
        assert (cli.auto.root, cli.auto.name) == (Path("runs"), "tiny")
        assert cli.checkpoint == (Path(answer) if answer else None)
    assert cli.config == {"trainer": {"precision": "bf16-mixed"}, "seed_everything": 7}
    assert compared == [{**stored, "model": {"weights": "w", "pretrained": True}}]


@pytest.mark.parametrize(("verb", "told"), [("test", True), ("fit", False)])
def test_changes_reach_the_lineage_and_what_takes_them_over(
    verb: str, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"data": {"class_path": "A", "init_args": {"image_size": 48}}, "model": {"tau": 0}}
    used = {"data": {"class_path": "B", "init_args": {"image_size": 64}}, "model": {"tau": 1}}
    monkeypatch.setattr(FERCLI, "_plain", lambda self, parser: used)
    cli = bare(monkeypatch, verb)
    cli._compare(None, stored)
    assert cli.used == used
    assert {change.key for change in cli.lineage.changes} >= {"data", "model.tau"}
    assert cli.changed.changes is cli.lineage.changes
    said = capsys.readouterr().out
    assert "model.tau 0 -> 1" in said
    assert ("data.image_size 64, the model was trained at 48" in said) is told
