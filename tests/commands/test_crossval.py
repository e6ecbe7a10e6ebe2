from __future__ import annotations

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_lightning.cli.verbs import read_arguments
from fer_lightning.commands.crossval import crossval, study_options
from fer_lightning.errors import ConfigError
from fer_lightning.evaluation.predictions import predictions_of
from fer_lightning.evaluation.report import write_report
from fer_lightning.runs.lineage import Node, lineage_text
from fer_lightning.studies.child_runs import ChildResult
from fer_lightning.studies.crossval import study as crossval_study
from fer_lightning.studies.crossval.options import Arm, CrossvalOptions
from tests.helpers.cli import TINY, fer, same_weights
from tests.helpers.data import StripesDataModule


def parse(arguments: list[str]) -> CrossvalOptions:
    """Read a command line of ``fer crossval``."""
    return study_options(**read_arguments("crossval", crossval, arguments))


@pytest.fixture
def configs(tmp_path: Path) -> dict[str, str]:
    """Config files of three arms on the tiny task, and one that does not belong there."""
    texts = {
        "plain": "model: {head: {class_path: LinearHead}}\n",
        "dropout": "model: {head: {class_path: LinearHead, init_args: {dropout: 0.3}}}\n",
        "bare": "{}\n",
        "other_data": "data: {class_path: tests.helpers.data.StripesDataModule, init_args: {val: 35}}\n",
        "balanced": "data: {class_path: tests.helpers.data.StripesDataModule, init_args: {per_class: 4}}\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return {name: str(tmp_path / f"{name}.yaml") for name in texts}


@dataclass
class FakeFit:
    """Stands for ``fit_in_child``: guesses right as often as ``rates`` says, without a network.

    Attributes:
        rates: share of right guesses by arm.
        fails: exit codes by (arm, name of the run).
        calls: (arm, name of the run, arguments).
    """

    rates: dict[str, float] = field(default_factory=dict)
    fails: dict[tuple[str, str], int] = field(default_factory=dict)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    trained: int = 0

    def __call__(self, arguments: Sequence[str], *, root: Path, name: str, log: Path, **_: Any) -> ChildResult:
        arm, folder = root.name, root / name / "version_0"
        self.calls.append((arm, name, list(arguments)))
        if code := self.fails.get((arm, name)):
            if code > 128:
                raise SystemExit(code)
            return ChildResult(folder, code, [], stopped=False, message="the loss is NaN")
        if not (folder / "lineage.json").is_file():
            self.trained += 1
            self._write(folder, arm, [argument for argument in arguments if argument.startswith("--")])
        return ChildResult(folder, 0, [], stopped=False, message="")

    def _write(self, folder: Path, arm: str, flags: list[str]) -> None:
        given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
        folds = {key: int(given[f"data.{key}"]) for key in ("folds", "fold") if f"data.{key}" in given}
        data = StripesDataModule(**folds)
        rows = data.table.rows("val")
        seed = int(given["seed_everything"])
        rng = np.random.default_rng([seed, folds.get("fold", 0), len(arm)])
        target = data.table.labels[rows]
        right = rng.random(len(rows)) < self.rates.get(arm, 0.6)
        preds = np.where(right, target, (target + 1) % 7)
        probs = np.full((len(rows), 7), 0.05, np.float32)
        probs[np.arange(len(rows)), preds] = 0.7
        context = {"split": "val", "epoch": 1, "precision": "32-true", "devices": "1 x cpu", "data": data.describe()}
        result = predictions_of(data.table, rows, probs, "val", "fake", target)
        write_report(folder / "val", result, context, pictures=())
        (folder / "metrics.csv").write_text("epoch,step\n0,10\n1,20\n")
        config = "checkpoint: {monitor: val_acc}\ntrainer: {accumulate_grad_batches: 1}\n"
        (folder / "config.yaml").write_text(f"{config}data: {{init_args: {{batch_size: 8}}}}\n")
        node = Node("0", "2024-01-01T00:00:00+00:00", "finished", ended="2024-01-01T00:00:10+00:00", wall_s=10.0)
        (folder / "lineage.json").write_text(lineage_text([node]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeFit:
    found = FakeFit()
    monkeypatch.setattr(crossval_study, "fit_in_child", found)
    return found


def study(root: Path, *arguments: str, arms: Sequence[str]) -> int:
    return fer("crossval", *arms, *TINY, f"--trainer.default_root_dir={root}", "--trainer.max_epochs=2", *arguments)


def written(root: Path, name: str = "crossval") -> dict[str, Any]:
    values: dict[str, Any] = json.loads((root / name / "crossval.json").read_text())
    return values


def test_each_arm_runs_with_each_seed_and_the_report_says_what_came_out(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.rates = {"plain": 0.5, "dropout": 0.9}
    assert study(tmp_path, "--seeds=0,1,2", arms=[configs["plain"], configs["dropout"]]) == 0
    assert [(arm, name) for arm, name, _ in fake.calls] == [
        (arm, f"seed{seed}") for seed in range(3) for arm in ("plain", "dropout")
    ]
    for _, name, arguments in fake.calls:
        assert f"--seed_everything={name.removeprefix('seed')}" in arguments
    found = written(tmp_path)
    accuracy: dict[str, list[float]] = {"plain": [], "dropout": []}
    for run in found["runs"]:
        report = json.loads((Path(run["folder"]) / "val" / "report.json").read_text())
        accuracy[run["arm"]].append(report["accuracy"])
    for arm, values in accuracy.items():
        shown = found["scores"]["val"]["as trained"]["accuracy"][arm]
        assert shown["mean"] == pytest.approx(statistics.mean(values))
        assert shown["std"] == pytest.approx(statistics.stdev(values))
    gain = found["differences"]["val"]["as trained"]["accuracy"]["dropout"]
    pairs = [b - a for a, b in zip(accuracy["plain"], accuracy["dropout"], strict=True)]
    assert gain["mean"] == pytest.approx(statistics.mean(pairs))
    assert gain["above"] == sum(pair > 0 for pair in pairs)
    folder = tmp_path / "crossval"
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "crossval.json", "crossval.csv", "crossval.html", "runs.csv", "scores.png", "gains.png", "study.json"
    }  # fmt: skip
    rows = list(csv.DictReader((folder / "runs.csv").open()))
    assert len(rows) == 3 * 2 * 2  # as trained and tuned
    assert {(row["images_drawn"], row["epochs"], row["seconds"]) for row in rows} == {("160", "2", "10.0")}
    told = capsys.readouterr().out
    assert "2 arms x 3 seeds: 6 runs" in told
    assert "dropout against plain" in told
    page = (folder / "crossval.html").read_text()
    assert "All arms drew as many training images (160 a run)." in page
    assert "the same images chose the checkpoint" in page


def test_folds_are_runs_of_their_own(tmp_path: Path, configs: dict[str, str], fake: FakeFit) -> None:
    assert study(tmp_path, "--folds=3", "--seeds=4,5", "--name=cv", arms=[f"only={configs['plain']}"]) == 0
    assert {name for _, name, _ in fake.calls} == {f"fold{fold}_seed{seed}" for fold in range(3) for seed in (4, 5)}
    for _, name, arguments in fake.calls:
        assert {"--data.folds=3", f"--data.fold={name[4]}"} <= set(arguments)
    found = written(tmp_path, "cv")
    prints = {(run["fold"], run["fingerprints"]["val"]) for run in found["runs"]}
    assert len(prints) == 3
    assert found["differences"]["val"]["as trained"]["accuracy"] == {}
    assert not (tmp_path / "cv" / "gains.png").exists()
    assert any("Nadeau and Bengio" in note for note in found["notes"])


def test_finished_runs_are_not_repeated_and_more_can_be_added(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit
) -> None:
    assert study(tmp_path, "--seeds=0,1", arms=[configs["plain"]]) == 0
    assert fake.trained == 2
    assert study(tmp_path, "--seeds=0,1,2", arms=[configs["plain"], configs["dropout"]]) == 0
    assert fake.trained == 6
    assert len(written(tmp_path)["runs"]) == 6


def test_later_runs_of_an_arm_have_the_precision_of_its_first(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit
) -> None:
    flags = [flag for flag in TINY if not flag.startswith("--trainer.precision")]
    root = f"--trainer.default_root_dir={tmp_path}"
    assert fer("crossval", configs["plain"], *flags, root, "--seeds=0,1,2") == 0
    given = [[flag for flag in call[2] if "precision" in flag] for call in fake.calls]
    assert given == [[], ["--trainer.precision=32-true"], ["--trainer.precision=32-true"]]


def test_an_arm_that_has_changed_is_refused(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, arms=[configs["plain"]]) == 0
    assert (
        study(tmp_path, "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", arms=[configs["plain"]]) == 2
    )
    told = capsys.readouterr().err
    assert "holds runs of arm 'plain' with other settings (model.optimizer" in told
    assert "choose another --name" in told
    assert study(tmp_path, "--data.train=70", arms=[configs["plain"]]) == 2
    assert len(fake.calls) == 1


def test_arms_on_other_images_are_refused_before_anything_runs(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(tmp_path, arms=[configs["plain"], configs["other_data"]]) == 2
    told = capsys.readouterr().err
    assert "arms 'plain' and 'other_data' cannot be compared: they are evaluated on other val images" in told
    assert "28 images, against" in told
    assert not fake.calls
    assert not (tmp_path / "crossval").exists()


def test_arms_that_would_give_the_same_are_refused(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that names only the class of the loss keeps the arguments of before: easily taken for another arm."""
    smoothed, plain = tmp_path / "smoothed.yaml", tmp_path / "unsmoothed.yaml"
    loss = "model:\n  loss:\n    class_path: torch.nn.CrossEntropyLoss\n"
    smoothed.write_text(f"{loss}    init_args:\n      label_smoothing: 0.1\n")
    plain.write_text(loss)
    assert study(tmp_path, arms=[str(smoothed), f"plain={smoothed}+{plain}"]) == 2
    assert "arms 'smoothed' and 'plain' would give the same" in capsys.readouterr().err
    assert not fake.calls
    plain.write_text(f"{loss}    init_args:\n      label_smoothing: 0.0\n")
    assert study(tmp_path, arms=[str(smoothed), f"plain={smoothed}+{plain}"]) == 0


def test_arms_may_train_on_other_images_and_that_is_told(
    tmp_path: Path, configs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = [Arm("plain", (configs["plain"],)), Arm("balanced", (configs["balanced"],))]
    options = parse([f"{arm.name}={arm.files[0]}" for arm in arms] + [*TINY, f"--trainer.default_root_dir={tmp_path}"])
    facts = {arm.name: crossval_study._look_at(arm, options) for arm in arms}
    crossval_study.check_facts(facts, test=False)
    assert facts["plain"].fingerprints["train"] != facts["balanced"].fingerprints["train"]


def test_a_failed_run_is_left_out_and_told(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {("dropout", "seed1"): 1}
    assert study(tmp_path, "--seeds=0,1,2", arms=[configs["plain"], configs["dropout"]]) == 1
    assert "dropout seed 1: failed (the loss is NaN); see" in capsys.readouterr().err
    found = written(tmp_path)
    assert found["missing"] == [{"arm": "dropout", "fold": 0, "seed": 1}]
    assert found["differences"]["val"]["as trained"]["f1_macro"]["dropout"]["runs"] == 2
    assert any("Not finished" in note and "dropout fold 0 seed 1" in note for note in found["notes"])


def test_a_run_that_fails_for_its_configuration_ends_the_study(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {("plain", "seed0"): 2}
    assert study(tmp_path, "--seeds=0,1", arms=[configs["plain"]]) == 2
    assert "[1/2] plain seed 0: the loss is NaN" in capsys.readouterr().err
    assert len(fake.calls) == 1


def test_if_all_fail_there_is_nothing_to_compare(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {("plain", "seed0"): 1}
    assert study(tmp_path, arms=[configs["plain"]]) == 2
    assert "every run failed" in capsys.readouterr().err


def test_a_signal_stops_the_study(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.fails = {("plain", "seed1"): 143}
    with pytest.raises(SystemExit, match="143"):
        study(tmp_path, "--seeds=0,1,2", arms=[configs["plain"]])
    assert "the same command goes on from here" in capsys.readouterr().err
    assert len(fake.calls) == 2


def test_a_typo_in_any_arm_costs_no_run(
    tmp_path: Path, configs: dict[str, str], fake: FakeFit, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("model: {hed: LinearHead}\n")
    assert study(tmp_path, arms=[configs["plain"], str(wrong)]) == 2
    told = capsys.readouterr().err
    assert "arm 'wrong': " in told
    assert "hed" in told
    assert len(told.strip().splitlines()) == 1
    assert study(tmp_path, "--trainer.max_epoch=3", arms=[configs["plain"]]) == 2
    assert not fake.calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs an arm: a config file of fer fit"),
        (["--seeds=0"], "needs an arm"),
        (["missing.yaml"], "there is no config file missing.yaml"),
        (["plain.yaml", "a/plain.yaml"], "two arms are called 'plain'"),
        (["plain.yaml", "--seeds=0,x"], "--seeds must be whole numbers like 0,1,2, not '0,x'"),
        (["plain.yaml", "--seeds=0,0"], "--seeds must be different numbers"),
        (["plain.yaml", "--folds=1"], "--folds must be at least 2, not 1"),
        (["plain.yaml", "--name=a/b"], "--name is the name of a folder, not 'a/b'"),
        (["a/b=plain.yaml"], "'a/b' cannot name an arm"),
        (["x=plain.yaml+"], "'x=plain.yaml+' is no arm"),
        (["plain.yaml", "--evaluate=train"], "invalid choice: 'train'"),
        (["plain.yaml", "--seed_everything=3"], "takes no --seed_everything: say --seeds"),
        (["plain.yaml", "--trainer.fast_dev_run", "true"], "takes no --trainer.fast_dev_run: it leaves nothing"),
        (["plain.yaml", "--ckpt_path", "last"], "takes no --ckpt_path"),
        (["plain.yaml", "--data.fold=1"], "takes no --data.fold"),
        (["--seeds", "0,1", "plain.yaml"], "'plain.yaml' belongs to no option; arms stand before all options"),
        (["plain.yaml", "--trainer.max_epochs", "2", "late.yaml"], "'late.yaml' belongs to no option"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    for name in ("plain.yaml", "a/plain.yaml"):
        (tmp_path / name).write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_is_read_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("shared.yaml", "plain.yaml", "focus.yaml", "a+b=c.yaml"):
        (tmp_path / name).write_text("{}\n")
    arms = ["plain.yaml", "both=plain.yaml+focus.yaml", "odd=a+b=c.yaml"]
    own = ["--seeds", "3,1", "--folds=4", "--evaluate", "test"]
    options = parse([*arms, "-c", "shared.yaml", "--data.root", "DIR", *own, "--trainer.max_epochs=2"])
    assert options.arms == (
        Arm("plain", ("plain.yaml",)), Arm("both", ("plain.yaml", "focus.yaml")), Arm("odd", ("a+b=c.yaml",))
    )  # fmt: skip
    assert (options.folds, options.seeds, options.test) == (4, (3, 1), True)
    assert options.arguments(options.arms[1]) == [
        "--config=shared.yaml", "--config=plain.yaml", "--config=focus.yaml",
        "--data.root", "DIR", "--trainer.max_epochs=2",
    ]  # fmt: skip
    alone = parse(["--config", "shared.yaml", "--config", "plain.yaml"])
    assert alone.arms == (Arm("plain", ("plain.yaml",)),)
    assert alone.configs == ("shared.yaml",)


def test_help_needs_no_torch() -> None:
    code = "import sys; from fer_lightning.__main__ import main; main(['crossval', '--help'])"
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False
    )
    assert "Arms stand before all options" in found.stdout
    assert "| torch" not in found.stderr


SKETCH = [
    "--data=SketchDataModule",
    "--data.train=70",
    "--data.val=28",
    "--data.test=28",
    "--data.batch_size=14",
    *(flag for flag in TINY if not flag.startswith("--data")),
    "--resume_checkpoint.every_n_steps=1",
    "--trainer.max_epochs=2",
]


def command(root: Path, configs: dict[str, str], *arguments: str) -> list[str]:
    arms = [f"plain={configs['plain']}", f"dropout={configs['dropout']}"]
    own = [f"--trainer.default_root_dir={root}", *arguments]
    return [sys.executable, "-m", "fer_lightning", "crossval", *arms, *SKETCH, *own]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_arms_on_drawn_faces(tmp_path: Path, configs: dict[str, str]) -> None:
    subprocess.run(command(tmp_path, configs, "--seeds=0,1", "--evaluate=test"), check=True)
    found = written(tmp_path)
    assert found["splits"] == ["val", "test"]
    assert len(found["runs"]) == 4
    for run in found["runs"]:
        folder = Path(run["folder"])
        for split in ("val", "test"):
            report = json.loads((folder / split / "report.json").read_text())
            assert run["scores"][split]["as trained"]["f1_macro"] == report["f1_macro"]
            assert report["context"]["seed"] == run["seed"] or split == "test"
        assert run["images"] == 2 * 70
        assert run["wall_s"] > 0
        assert len(run["taus"]["test"]) == 1
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "crossval").rglob("best.ckpt")}
    subprocess.run(command(tmp_path, configs, "--seeds=0,1", "--evaluate=test"), check=True)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "crossval").rglob("best.ckpt")}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_that_was_killed_goes_on_exactly(
    tmp_path: Path, configs: dict[str, str], signum: signal.Signals
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run(command(whole, configs, "--folds=2"), check=True)
    process = subprocess.Popen(command(parts, configs, "--folds=2"))
    second = parts / "crossval" / "dropout" / "fold0_seed0" / "version_0" / "checkpoints" / "resume.ckpt"
    until = time.monotonic() + 600
    while not second.is_file() and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signum)
    assert process.wait(300) == (128 + signum if signum == signal.SIGTERM else -signum)
    assert not (parts / "crossval" / "crossval.json").exists()
    subprocess.run(command(parts, configs, "--folds=2"), check=True)
    for one in sorted((whole / "crossval").rglob("*.ckpt")):
        assert same_weights(one, parts / one.relative_to(whole)), one
    first, again = written(whole), written(parts)
    assert first["scores"] == again["scores"]
    assert not list(parts.rglob("version_1"))


def test_an_arm_is_called_by_its_last_file_and_a_file_alone_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base.yaml", "mid.v2.yaml", "shared.yaml"):
        Path(name).write_text("{}\n")
    assert parse(["base.yaml+mid.v2.yaml"]).arms == (Arm("mid.v2", ("base.yaml", "mid.v2.yaml")),)
    several = parse(["-c", "shared.yaml", "-c", "base.yaml", "-c", "mid.v2.yaml"])
    assert (several.arms, several.configs) == ((Arm("mid.v2", ("mid.v2.yaml",)),), ("shared.yaml", "base.yaml"))
    usual = parse(["base.yaml"])
    assert (usual.folds, usual.seeds, usual.test, usual.configs) == (None, (0,), False, ())
    with pytest.raises(ConfigError, match="--seeds must be different numbers of at least 0, not '1,-2'"):
        parse(["base.yaml", "--seeds=1,-2"])
