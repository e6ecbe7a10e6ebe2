from __future__ import annotations

import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from fer_lightning.errors import ConfigError
from fer_lightning.runs.lock import Holder
from fer_lightning.runs.records import Run
from fer_lightning.studies import child_runs
from fer_lightning.studies.child_runs import ChildResult
from fer_lightning.studies.tune import results as tune_results
from fer_lightning.studies.tune import study as tune_study
from fer_lightning.studies.tune.config import Base, check_space, read_base
from fer_lightning.studies.tune.plots import TrialRow
from fer_lightning.studies.tune.results import best_first, short_key, trial_line
from fer_lightning.studies.tune.search_space import load_space
from fer_lightning.studies.tune.storage import open_storage, shown
from fer_lightning.studies.tune.study import has_turn, is_abandoned, trial_verdict
from tests.helpers.cli import TINY, fer, same_weights
from tests.helpers.fake_fit import LR, flags, score
from tests.helpers.sets import write_set
from tests.studies.test_child_runs import FAKE, REPOSITORY, fit_here, wait_for

SPACE = f"{LR}: {{low: 1e-4, high: 1e-1, log: true}}\ndata.batch_size: {{choices: [16, 32, 64]}}\n"
OPTIMIZER = ["--model.optimizer=torch.optim.Adam", "--trainer.max_epochs=3"]
RESULTS = ("trials.csv", "study.json", "best.yaml", "history.png", "slice.png")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let children pretend, as planned."""
    monkeypatch.setattr(child_runs, "FIT", FAKE)
    monkeypatch.setattr(child_runs, "POLL_SECONDS", 0.02)

    def plan(**values: Any) -> None:
        monkeypatch.setenv("FAKE_FIT", json.dumps(values))

    plan()
    return plan


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[dict[str, str]], ChildResult]]:
    """Let trials pretend without a process, and configurations be read once: for what is about the study alone.

    Under ``trial`` stands what a trial comes to, as a function of its flags.
    """

    def trial(given: dict[str, str]) -> ChildResult:
        return ChildResult(Path("run"), 0, [{"epoch": 0.0, "val_f1_macro": score(given, 0)}], False, "")

    does: dict[str, Callable[[dict[str, str]], ChildResult]] = {"trial": trial}
    monkeypatch.setattr(tune_study, "fit_in_child", lambda given, **_: does["trial"](flags(given)))
    monkeypatch.setattr(tune_study, "check_space", lambda *_: None)
    monkeypatch.setattr(tune_study, "read_base", lambda of_fit: read_once(tuple(of_fit)))
    monkeypatch.setattr(tune_results, "best_config", lambda *_: "name: best\n")
    monkeypatch.setattr(tune_results, "figure_png", lambda _: b"")
    return does


@functools.cache
def read_once(of_fit: tuple[str, ...]) -> Base:
    return read_base([one for one in of_fit if "default_root_dir" not in one])


def arguments(root: Path, *options: str, space: str = SPACE) -> list[str]:
    root.mkdir(exist_ok=True)
    (root / "space.yaml").write_text(space)
    own = [f"--space={root / 'space.yaml'}", f"--trainer.default_root_dir={root}", "--name=tiny"]
    return ["tune", *TINY, *OPTIMIZER, *own, *options]


def tune(root: Path, *options: str, space: str = SPACE) -> int:
    return fer(*arguments(root, *options, space=space))


def trials(root: Path, study: str = "tiny_tune") -> list[dict[str, str]]:
    with (root / study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def settings(root: Path) -> list[tuple[str, str]]:
    return [(row[LR], row["data.batch_size"]) for row in trials(root)]


def logs(root: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in (root / "tiny_tune").glob("*/log.txt")}


def test_a_study_leaves_its_results(
    tmp_path: Path, fake: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(tmp_path, "--trials=5") == 0
    rows, folder = trials(tmp_path), tmp_path / "tiny_tune"
    assert [row["state"] for row in rows] == ["complete"] * 5
    assert all((folder / name).is_file() for name in RESULTS)
    best = max(rows, key=lambda row: float(row["value"]))
    summary = json.loads((folder / "study.json").read_text())
    assert summary["best"]["number"] == int(best["number"])
    assert summary["importance"] == {}  # five trials cannot tell
    config = yaml.safe_load((folder / "best.yaml").read_text())
    assert config["model"]["optimizer"]["init_args"]["lr"] == pytest.approx(float(best[LR]), rel=1e-9)
    assert config["data"]["init_args"]["batch_size"] == int(best["data.batch_size"])
    assert config["checkpoint"]["monitor"] == "val_f1_macro"
    assert Path(best["run"]) == folder / f"trial_000{best['number']}" / "version_0"
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["trial", "val_f1_macro", "epoch", "lr", "batch_size"] in table


def test_a_finished_study_is_not_run_again_but_grows(tmp_path: Path, fake: Callable[..., None]) -> None:
    assert tune(tmp_path, "--trials=2") == 0
    before = logs(tmp_path)
    assert tune(tmp_path, "--trials=2") == 0
    assert logs(tmp_path) == before
    assert tune(tmp_path, "--trials=3") == 0
    assert {name: logs(tmp_path)[name] for name in before} == before
    assert [row["number"] for row in trials(tmp_path)] == ["0", "1", "2"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_study_in_two_parts_proposes_what_one_would_have(tmp_path: Path, instant: Any, sampler: str) -> None:
    grid = f"data.batch_size: {{low: 1, high: 64, step: 7}}\n{LR}: {{choices: [0.1, 0.01]}}"
    space = grid if sampler == "grid" else SPACE
    for root, parts in ((tmp_path / "whole", [14]), (tmp_path / "parts", [5, 12, 14])):
        for count in parts:
            assert tune(root, f"--trials={count}", f"--sampler={sampler}", space=space) == 0
    assert settings(tmp_path / "whole") == settings(tmp_path / "parts")
    assert len(set(settings(tmp_path / "whole"))) == 14


def test_the_setting_that_matters_is_told(tmp_path: Path, instant: Any) -> None:
    space = f"{LR}: {{low: 1e-4, high: 1e-1, log: true}}\nmodel.head.init_args.dropout: {{low: 0.0, high: 0.5}}"
    assert tune(tmp_path, "--trials=16", space=space) == 0
    importance = json.loads((tmp_path / "tiny_tune/study.json").read_text())["importance"]
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)
    assert importance[LR] > 2 * importance["model.head.init_args.dropout"]  # which the pretended score does not know
    assert (tmp_path / "tiny_tune/importance.png").exists()


def test_the_seed_is_of_the_sampler(tmp_path: Path, instant: Any) -> None:
    for seed in (0, 1):
        assert tune(tmp_path / str(seed), "--trials=3", f"--seed={seed}") == 0
    assert not set(settings(tmp_path / "0")) & set(settings(tmp_path / "1"))


def test_a_grid_ends_when_all_is_tried(tmp_path: Path, instant: Any) -> None:
    assert tune(tmp_path, "--sampler=grid", space="data.batch_size: {choices: [16, 32, 64]}") == 0
    assert [row["data.batch_size"] for row in trials(tmp_path)] == ["16", "32", "64"]
    assert tune(tmp_path / "endless", "--sampler=grid") == 2


def test_a_failed_trial_does_not_end_the_study(tmp_path: Path, fake: Callable[..., None]) -> None:
    fake(fail={"1": "crash"}, only="trial_0001")
    assert tune(tmp_path, "--trials=3") == 0
    rows = trials(tmp_path)
    assert [row["state"] for row in rows] == ["complete", "failed", "complete"]
    assert rows[1]["message"] == "MemoryError: no memory left"


@pytest.mark.parametrize("code", [1, 2, 137])
def test_a_study_that_only_fails_ends(
    tmp_path: Path, instant: Any, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    instant["trial"] = lambda given: ChildResult(Path("run"), code, [], False, "it broke")
    assert tune(tmp_path) == (2 if code == 2 else 1)
    assert "all of the first 3 trials failed, the last: it broke (see run)" in capsys.readouterr().err
    assert len(trials(tmp_path)) == 3


def test_hopeless_trials_are_pruned(tmp_path: Path, fake: Callable[..., None]) -> None:
    fake(epochs=8, seconds=0.15, slow="trial_0005")
    space = f"{LR}: {{choices: [0.01, 0.011, 0.009, 0.008, 0.012, 0.00001]}}"
    assert tune(tmp_path, "--sampler=grid", "--warmup=2", "--trainer.max_epochs=8", space=space) == 0
    rows = trials(tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 5 + ["pruned"]
    assert 3 <= int(rows[5]["epochs"]) < 8
    assert tune(tmp_path / "all", "--sampler=grid", "--pruner=none", space=space) == 0
    assert [row["state"] for row in trials(tmp_path / "all")] == ["complete"] * 6


def test_a_study_that_is_told_to_stop_goes_on_in_the_middle_of_a_trial(
    tmp_path: Path, fake: Callable[..., None]
) -> None:
    fake(epochs=60, seconds=0.25)
    options = ("--trials=2", "--trainer.max_epochs=60")

    def stop() -> None:
        wait_for(lambda: epochs_of(tmp_path, 0) > 2)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=stop)
    killer.start()
    assert tune(tmp_path, *options) == 143
    killer.join()
    assert trials(tmp_path)[0]["state"] == "running"
    done = epochs_of(tmp_path, 0)
    assert 2 < done < 60
    study = optuna.load_study(study_name=None, storage=open_storage(str(tmp_path / "tiny_tune/study.log")))
    leave_behind(study)
    fake(epochs=60, seconds=0)
    assert tune(tmp_path, *options) == 0
    assert f"epochs from {done}" in logs(tmp_path)["trial_0000"]
    assert [row["state"] for row in trials(tmp_path)] == ["complete"] * 2
    assert [row["epochs"] for row in trials(tmp_path)] == ["60"] * 2
    assert not (tmp_path / "tiny_tune/trial_0000/version_1").exists()


def epochs_of(root: Path, number: int, study: str = "tiny_tune") -> int:
    return len(Run(root / study / f"trial_{number:04d}" / "version_0").history)


def leave_behind(study: optuna.Study) -> None:
    """Make the running trial that of a process which is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    trial = next(one for one in study.get_trials() if one.state == TrialState.RUNNING)
    owner = {**asdict(Holder.myself()), "pid": gone.pid}
    Trial(study, trial._trial_id).set_user_attr("owner", owner)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--metric=val_acc"], "metric val_f1_macro -> val_acc"),
        (["--mode=min"], "mode max -> min"),
        (["--data.train=70"], "data.train 84 -> 70"),
        (["--trainer.max_epochs=4"], "trainer.max_epochs 3 -> 4"),
        (["--space=other.yaml"], "space data.batch_size {'choices': [16, 32, 64]} -> {'choices': [8, 16]}"),
    ],
)
def test_a_study_refuses_another_search(
    tmp_path: Path, instant: Any, capsys: pytest.CaptureFixture[str], change: list[str], told: str
) -> None:
    assert tune(tmp_path, "--trials=1") == 0
    (tmp_path / "other.yaml").write_text(SPACE.replace("16, 32, 64", "8, 16"))
    change = [one.replace("other.yaml", str(tmp_path / "other.yaml")) for one in change]
    assert tune(tmp_path, "--trials=2", *change) == 2
    assert told in capsys.readouterr().err
    assert len(trials(tmp_path)) == 1
    instant["trial"] = lambda given: ChildResult(
        Path("run"), 0, [{"epoch": 0, given["checkpoint.monitor"]: 1}], False, ""
    )
    assert tune(tmp_path, "--trials=1", "--study=new", *change) == 0


def test_what_has_no_say_in_the_result_may_change(tmp_path: Path, instant: Any) -> None:
    assert tune(tmp_path, "--trials=1") == 0
    assert tune(tmp_path, "--trials=2", "--data.num_workers=1", "--trainer.devices=1", "--sampler=random") == 0
    assert len(trials(tmp_path)) == 2


def test_a_study_in_a_database(tmp_path: Path, instant: Any) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    for count, study in ((2, "one"), (1, "two"), (3, "one")):
        assert tune(tmp_path, f"--trials={count}", f"--study={study}", f"--storage={url}") == 0
    assert [len(trials(tmp_path, study)) for study in ("one", "two")] == [3, 1]
    assert json.loads((tmp_path / "one/study.json").read_text())["storage"] == url


def test_no_trial_is_begun_after_the_timeout(tmp_path: Path, instant: Any) -> None:

    def trial(given: dict[str, str]) -> ChildResult:
        time.sleep(0.3)
        return ChildResult(Path("run"), 0, [{"epoch": 0.0, "val_f1_macro": 0.5}], False, "")

    instant["trial"] = trial
    assert tune(tmp_path, "--trials=500", "--timeout=0.8") == 0
    assert 1 <= len(trials(tmp_path)) <= 3


@pytest.mark.parametrize(
    ("options", "space", "told"),
    [
        (["--metric=test_acc"], SPACE, "must be measured on validation data (val_...), not 'test_acc'"),
        (["--metric=val_f1_marco"], SPACE, "did you mean 'val_f1_macro'"),
        (["--sampler=best"], SPACE, "--sampler"),
        (["--trials=0"], SPACE, "--trials must be at least 1"),
        (["--study=a/b"], SPACE, "--study is the name of a folder"),
        (["--storage=x.db"], SPACE, "write sqlite:///x.db"),
        (["--storage=nosuch://x"], SPACE, "the storage nosuch://x cannot be opened"),
        (["--checkpoint.monitor=val_acc"], SPACE, "fer tune takes no --checkpoint.monitor: say --metric"),
        (["--data.batchsize=3"], SPACE, "no argument 'batchsize'; did you mean 'batch_size'?"),
        ([], "model.optimizer.init_args.lrr: {low: 0.1, high: 1}", "space.yaml: 'model.optimizer.init_args.lrr'"),
        ([], "data.batch_sise: {choices: [8, 16]}", "space.yaml: 'data.batch_sise' cannot be 8"),
        ([], "model.head.init_args.dropout: {low: 0.0, high: 1.5}", "'model.head.init_args.dropout' cannot be 1.5"),
        ([], "data.batch_size: {choices: [8, many]}", "'data.batch_size' cannot be many"),
    ],
)
def test_what_is_wrong_is_told_before_the_first_trial(
    tmp_path: Path,
    fake: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    space: str,
    told: str,
) -> None:
    assert tune(tmp_path, *options, space=space) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("fer: error: ")
    assert told in error
    assert "\n" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune(tmp_path) == 2
    assert "pip install 'fer_lightning[tune]'" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from fer_lightning.__main__ import main\n"
        "try: main(['tune', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not set(sys.modules) & {'torch', 'optuna', 'numpy', 'jsonargparse'}"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    assert "--space FILE" in told.stdout


def frozen(number: int, **attributes: Any) -> FrozenTrial:
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    trial.number, trial.datetime_start = number, datetime(2026, 1, 1)
    return trial


def test_one_trial_too_many_has_no_turn() -> None:
    begun = [frozen(0), frozen(1), frozen(2, surplus=True), frozen(3), frozen(4)]
    assert [has_turn(number, begun, 3) for number in (0, 1, 3, 4)] == [True, True, True, False]


def test_only_trials_of_dead_processes_are_taken_over() -> None:
    now = datetime(2026, 1, 1, 0, 0, 5)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    myself = asdict(Holder.myself())
    assert is_abandoned(frozen(0, owner={**myself, "pid": gone.pid}), now)
    assert not is_abandoned(frozen(0, owner=myself), now)
    assert not is_abandoned(frozen(0, owner={**myself, "pid": gone.pid, "host": "elsewhere"}), now)
    assert not is_abandoned(frozen(0), now)
    assert is_abandoned(frozen(0), now + timedelta(minutes=2))
    done = frozen(0, owner={**myself, "pid": gone.pid})
    done.state = TrialState.PRUNED
    assert not is_abandoned(done, now)


@pytest.mark.parametrize(
    ("code", "stopped", "values", "mode", "expected"),
    [
        (0, False, [0.1, 0.4, 0.3], "max", (TrialState.COMPLETE, 0.4, "")),
        (0, False, [0.1, 0.4, 0.3], "min", (TrialState.COMPLETE, 0.1, "")),
        (0, False, [0.1, float("nan")], "max", (TrialState.COMPLETE, 0.1, "")),
        (143, True, [0.1], "max", (TrialState.PRUNED, 0.1, "")),
        (1, False, [0.1], "max", (TrialState.FAIL, 0.1, "why")),
        (0, False, [float("nan")], "max", (TrialState.FAIL, None, "no finite m in any epoch; there is: val_x")),
        (0, False, [], "max", (TrialState.FAIL, None, "no finite m in any epoch; there is: nothing")),
    ],
)
def test_the_verdict_on_a_trial(code: int, stopped: bool, values: list[float], mode: str, expected: Any) -> None:
    history = [{"epoch": float(epoch), "m": value, "val_x": 0.0} for epoch, value in enumerate(values)]
    given = trial_verdict(ChildResult(Path(), code, history, stopped, "why" if code == 1 else ""), "m", mode)
    assert (given.state, given.value, given.message) == expected


def test_the_best_trials_first() -> None:
    rows = [TrialRow(n, state, value, 0, 1, {}) for n, (state, value) in enumerate(
        [("complete", 0.2), ("pruned", 0.9), ("complete", 0.5), ("complete", 0.5), ("failed", None)]
    )]  # fmt: skip
    assert [row.number for row in best_first(rows, "max")] == [2, 3, 0]
    assert [row.number for row in best_first(rows, "min")] == [0, 2, 3]


def test_names_are_as_short_as_they_can_be() -> None:
    space: dict[str, Any] = dict.fromkeys(["model.optimizer.init_args.lr", "model.head.lr", "data.batch_size"])
    assert [short_key(key, space) for key in space] == ["optimizer.lr", "head.lr", "batch_size"]
    row = TrialRow(3, "pruned", 0.5, 1, 2, {"a.b": '{"class_path": "x.SGD", "init_args": {"momentum": 0.9}}'})
    assert "b SGD(momentum=0.9)" in trial_line(row, "val_acc", dict.fromkeys(["a.b"]))  # type: ignore[arg-type]


def test_a_password_is_not_shown() -> None:
    assert shown("mysql://me:secret@host/db") == "mysql://me:***@host/db"
    assert shown("sqlite:///a.db") == "sqlite:///a.db"
    assert shown("runs/study.log") == "runs/study.log"


def test_a_journal_with_half_a_line_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    study = optuna.create_study(study_name="s", storage=open_storage(str(path)))
    study.tell(study.ask(), 1.0)
    with path.open("a") as file:
        file.write('{"op_code": 4, "work')
    again = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    again.tell(again.ask(), 2.0)
    fresh = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    assert [trial.value for trial in fresh.trials] == [1.0, 2.0]
    path.write_text("this is no journal\nat all\n")
    with pytest.raises(ConfigError, match=r"study\.log is damaged or no journal"):
        open_storage(str(path))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * ("vgg16" in path.stem))
        for path in sorted((REPOSITORY / "configs/tune").glob("*.yaml"))
    ],
)
def test_the_spaces_that_we_ship_fit_the_configs_that_they_name(path: Path, tmp_path: Path) -> None:
    config = re.search(r"--config (\S+)", path.read_text())
    assert config is not None
    of_fit = [f"--config={REPOSITORY / 'configs' / config[1]}.yaml", *write_set("fer2013", tmp_path)]
    check_space(of_fit, load_space(path), path)


@pytest.mark.parametrize("in_children", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_real_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_children: bool) -> None:
    if not in_children:
        monkeypatch.setattr(child_runs, "_run", fit_here)
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert tune(tmp_path, "--trials=2", space="data.batch_size: {choices: [8, 16]}") == 0
    rows = trials(tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert [row["epochs"] for row in rows] == ["3"] * 2
    best = max(rows, key=lambda row: float(row["value"]))
    folder = tmp_path / "tiny_tune"
    assert fer("fit", f"--config={folder / 'best.yaml'}") == 0
    again = tmp_path / "tiny_tune_best/version_0/checkpoints/best.ckpt"
    assert same_weights(again, Path(best["run"]) / "checkpoints/best.ckpt")


def process(root: Path, *options: str, fake: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    """Start ``fer tune`` in a process of its own, with pretended trials if a plan for them is given."""
    code = "import sys; from fer_lightning.__main__ import main; from fer_lightning.studies import child_runs\n"
    code += f"child_runs.FIT = {FAKE!r}\n" if fake is not None else ""
    code += "sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments(root, *options)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FAKE_FIT": json.dumps(fake or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("storage", ["study.log", "sqlite"])
def test_two_processes_share_a_study(tmp_path: Path, storage: str) -> None:
    place = f"--storage=sqlite:///{tmp_path}/x.db" if storage == "sqlite" else f"--storage={tmp_path}/study.log"
    both = [
        process(tmp_path, "--trials=9", "--pruner=none", place, fake={"epochs": 4, "seconds": 0.4}) for _ in range(2)
    ]
    told = [one.communicate(timeout=280)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    last = process(tmp_path, "--trials=9", place, fake={})
    last.communicate(timeout=100)
    assert last.returncode == 0
    rows = trials(tmp_path)
    assert [row["state"] for row in rows] == ["complete"] * 9
    assert sorted(text.count("epochs from 0") for text in logs(tmp_path).values()) == [1] * 9
    shares = [sum(line.startswith("trial ") for line in text.splitlines()) for text in told]
    assert min(shares) >= 2  # both worked
    assert len({(row[LR], row["data.batch_size"]) for row in rows}) == 9


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_that_is_killed_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--trials=3", "--trainer.max_epochs=20", "--resume_checkpoint.every_n_steps=2", "--pruner=none"]
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    first = process(parts, *options)
    wait_for(lambda: epochs_of(parts, 1) >= 2, 250)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert 2 <= epochs_of(parts, 1) < 20
    before = logs(parts)["trial_0000"]
    for root in (parts, whole):
        assert fer(*arguments(root, *options)) == 0
        assert [row["epochs"] for row in trials(root)] == ["20"] * 3
    assert logs(parts)["trial_0000"] == before
    assert settings(parts) == settings(whole)
    for number in range(3):
        file = f"tiny_tune/trial_000{number}/version_0/checkpoints/resume.ckpt"
        assert same_weights(parts / file, whole / file)
        assert not (parts / f"tiny_tune/trial_000{number}/version_1").exists()
    assert [row["value"] for row in trials(parts)] == [row["value"] for row in trials(whole)]
