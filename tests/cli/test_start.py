"""How a start of a run is cleared away, whatever ends it; whole runs are ended in ``tests/test_ends``."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException

from fer_lightning.cli import begin, start
from fer_lightning.cli.parsing import readable_errors
from fer_lightning.cli.start import _Start, begun
from fer_lightning.errors import CheckpointError, ConfigError, FERError, MissingExtraError
from fer_lightning.signals import Stopped

TERM = signal.SIGTERM


class Noted:
    """Notes in ``log`` what is called of it, and by which arguments."""

    def __init__(self, log: list[tuple[Any, ...]], **values: Any) -> None:
        self.__dict__.update(values, log=log)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.log.append((name, *args))


class Begun(_Start):
    """A start whose folder, lineage and processes only note what is done to them."""

    def __init__(self, verb: str = "fit", steps: int | None = None, **options: Any) -> None:
        super().__init__(verb, [])
        self.log: list[tuple[Any, ...]] = []
        self.place: Any = Noted(self.log, is_lost=options.get("lost", False))
        self.watch.processes = [Noted(self.log)]  # type: ignore[list-item]
        lineage = Noted(self.log, first_step=options.get("first", 0))
        stop = SimpleNamespace(installed=False, requeue_signal=options.get("requeue"))
        self.cli: Any = SimpleNamespace(lineage=lineage, stop=stop, config_init={"trainer": {}})
        if steps is not None:
            connector = SimpleNamespace(cluster_environment=LightningEnvironment())
            self.cli.trainer = SimpleNamespace(global_step=steps, callbacks=[], _accelerator_connector=connector)

    def done(self) -> list[str]:
        return [entry[0] for entry in self.log]


@pytest.mark.parametrize(
    ("steps", "first", "trained"), [(None, 0, False), (0, 0, False), (1, 0, True), (20, 20, False), (21, 20, True)]
)
def test_only_a_run_that_has_not_trained_is_removed(steps: int | None, first: int, trained: bool) -> None:
    one = Begun(steps=steps, first=first)
    assert one.has_trained is trained
    one.clear()
    assert one.done() == (["unlock"] if trained else ["discard", "unlock"])
    nothing = _Start("fit", [])
    assert not nothing.has_trained


@pytest.mark.parametrize("signum", [0, TERM])
@pytest.mark.parametrize("lost", [False, True])
def test_a_process_that_is_ended_at_once_writes_down_why_unless_its_folder_is_anothers(
    signum: int, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Begun(steps=5, lost=lost)
    monkeypatch.setattr(start, "first_callback", lambda trainer, kind: Noted(one.log))
    one.watch.signum, one.watch.why = signum, "process 1 has ended"
    one.close_at_once()
    assert one.done() == (["unlock"] if lost else ["close", "close", "unlock"])
    if not lost:
        (_, _, reason), tracked, _ = one.log
        assert tracked == ("close", "stopped" if signum else "failed")
        assert type(reason) is (Stopped if signum else FERError)
        assert getattr(reason, "signum", str(reason)) == (TERM if signum else "process 1 has ended")


def test_a_job_is_queued_again_at_its_own_signal_and_by_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(start, "requeue_job", lambda: asked.append("again"))
    monkeypatch.setattr(start, "requeue_signal", lambda trainer, plugins: 12 if trainer is None else 10)
    taken, early, late = Begun(steps=0, requeue=10), Begun(), Begun(steps=0)
    for signum, expected in ((0, []), (TERM, []), (10, [taken, late]), (12, [early])):
        assert [one for one in (taken, early, late) if one.requeues(signum)] == expected
    for signum in (TERM, 10):
        taken.watch.signum = signum
        taken.close_at_once()
    assert asked == ["again"]
    stop = Stopped(10)
    taken.stopped(stop)
    assert stop.requeue
    monkeypatch.setattr(start, "rank", lambda: 1)
    assert not taken.requeues(10)


@pytest.mark.parametrize(
    ("verb", "steps", "agreed", "done", "said"),
    [
        ("fit", 0, False, ["discard", "kill"], "fer: stopped by SIGTERM before the first step\n"),
        ("fit", 5, False, ["kill"], "fer: stopped by SIGTERM\n"),
        ("test", 0, False, ["discard", "kill"], "fer: stopped by SIGTERM\n"),
        ("fit", 5, True, [], ""),
        ("fit", 0, True, ["discard"], ""),
    ],
)
def test_a_signal_clears_away_and_is_told_once(
    verb: str, steps: int, agreed: bool, done: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Begun(verb, steps)
    one.stopped(Stopped(TERM, agreed=agreed))
    assert one.done() == done
    assert capsys.readouterr().err == said


KNOWN = "The strategy `ddp_cuda` requires a GPU accelerator, but got: cpu"
OURS = "trainer.strategy ddp_cuda needs a GPU; pass --trainer.strategy ddp"


@pytest.mark.parametrize(
    ("error", "steps", "graceful", "removed", "raised"),
    [
        (ConfigError("wrong"), 0, True, True, None),
        (ConfigError("wrong"), 5, True, False, None),
        (FERError("not the user's"), 0, True, False, None),
        (FERError("not the user's"), 0, False, True, None),
        (RuntimeError("a bug"), 0, True, False, None),
        (RuntimeError("a bug"), 0, False, True, None),
        (RuntimeError("a bug"), 5, False, False, None),
        (MisconfigurationException("two\n lines"), 0, True, True, ConfigError("two lines")),
        (ValueError(KNOWN), 0, True, True, ConfigError(OURS)),
        (ModuleNotFoundError("No module named 'rich'"), 0, True, False, MissingExtraError("No module named 'rich'")),
        (ModuleNotFoundError("No module named 'rich'"), 5, True, False, None),
    ],
)
def test_after_an_error_a_run_that_has_not_trained_is_removed_where_a_user_or_nobody_is_to_look(
    error: Exception, steps: int, graceful: bool, removed: bool, raised: Exception | None
) -> None:
    one = Begun(steps=steps)
    one.watch.graceful = lambda: graceful
    if raised is None:
        one.failed(error)
    else:
        with pytest.raises(type(raised)) as caught:
            one.failed(error)
        assert str(caught.value) == str(raised)
        assert caught.value.__cause__ is error
    assert one.done() == (["discard"] if removed else [])


@pytest.mark.parametrize(("steps", "stops"), [(0, True), (5, False)])
def test_an_error_because_of_a_signal_to_another_process_is_that_signal(steps: int, stops: bool) -> None:
    one = Begun(steps=steps)
    one.watch.signum = TERM
    if stops:
        with pytest.raises(Stopped) as stopped:
            one.failed(RuntimeError("connection closed"))
        assert (stopped.value.signum, stopped.value.agreed) == (TERM, False)
        assert "kill" in one.done()
    else:
        one.watch.graceful = lambda: True
        one.failed(RuntimeError("connection closed"))


@pytest.mark.parametrize("error", [None, CheckpointError("damaged"), Stopped(TERM)])
def test_nothing_of_a_start_is_left_for_the_next(error: BaseException | None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (begin.FOLDER_VARIABLE, begin.PRECISION_VARIABLE, begin.CHECKPOINT_VARIABLE)
    made: list[Begun] = []
    given: list[tuple[str, list[str]]] = []

    class Started(Begun):
        def __init__(self, verb: str, args: list[str]) -> None:
            super().__init__(verb, 5)
            given.append((verb, args))
            made.append(self)

        def begin(self, peers: Any) -> Any:
            for name in names:
                os.environ[name] = "left"
            return self.cli

    monkeypatch.setattr(start, "_Start", Started)
    monkeypatch.setattr(start, "find_peers", lambda: None)

    def run() -> None:
        with begun("fit", ["--data.root=x", "--data=C"]) as cli:
            assert cli is made[0].cli
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    assert given == [("fit", ["--data=C", "--data.root=x"])]  # classes before their arguments
    assert made[0].done()[-1] == "unlock"
    assert not set(names) & set(os.environ)


def test_a_package_that_a_class_lacks_is_told_whatever_the_parser_makes_of_it() -> None:
    wrapped = ValueError("Does not validate against any of the Union subtypes")
    wrapped.__cause__ = ModuleNotFoundError("Requirement 'mlflow' not met")
    with pytest.raises(MissingExtraError, match=r"^Requirement 'mlflow' not met$"), readable_errors():
        raise wrapped
