from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fer_lightning.runs.changes import (
    change_text,
    changes_for,
    config_changes,
    differences,
    flat,
    goes_on_in,
    is_harmless,
    short_value,
    value_at,
    what_differs,
)
from fer_lightning.runs.lineage import Change

SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 2e-5, "momentum": 0.9}}
BEFORE: dict[str, Any] = {
    "model": {"backbone": "fer_a", "optimizer": SGD, "lr_scheduler": None},
    "data": {"class_path": "pkg.Data", "init_args": {"root": "a", "class_multipliers": None, "batch_size": 8}},
    "trainer": {"max_epochs": 2, "callbacks": [{"class_path": "LearningRateMonitor"}]},
}


def changed(**values: Any) -> list[Change]:
    """Return the changes after setting some values, by keys joined with two underscores."""
    after: dict[str, Any] = {section: {**inside} for section, inside in BEFORE.items()}
    after["data"]["init_args"] = {**BEFORE["data"]["init_args"]}
    for key, value in values.items():
        section, name = key.split("__")
        target = after[section].get("init_args", after[section])
        target[name] = value
    return config_changes(BEFORE, after)


def test_equal_configurations_differ_in_nothing() -> None:
    assert changed() == []
    assert config_changes(BEFORE, json.loads(json.dumps(BEFORE))) == []


def test_keys_are_those_of_the_command_line_and_numbers_are_short() -> None:
    found = changed(model__optimizer={**SGD, "init_args": {"lr": 1e-5, "momentum": 0.9}})
    assert [change_text(change) for change in found] == ["model.optimizer.lr 2e-5 -> 1e-5"]
    assert not found[0].harmless


def test_an_exchanged_class_is_told_once_with_its_arguments() -> None:
    adam = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}}
    assert [change_text(change) for change in changed(model__optimizer=adam)] == [
        "model.optimizer torch.optim.SGD(lr=2e-5, momentum=0.9) -> torch.optim.AdamW(lr=0.001)"
    ]
    cosine = {"class_path": "WarmupCosine", "init_args": {"warmup": 0.1}}
    found = changed(model__lr_scheduler=cosine)
    assert [change_text(change) for change in found] == ["model.lr_scheduler none -> WarmupCosine(warmup=0.1)"]
    assert not found[0].harmless


def test_what_is_set_where_nothing_was_is_a_change() -> None:
    (found,) = changed(data__class_multipliers={"disgust": 3})
    assert (found.key, found.before, found.after, found.harmless) == ("data.class_multipliers.disgust", None, 3, False)


def test_an_option_that_the_older_program_did_not_have_is_harmless() -> None:
    (found,) = changed(data__invented=0.5)
    assert found.harmless


@pytest.mark.parametrize(
    ("path", "harmless"),
    [
        ("EMAWeightAveraging", False),
        ("lightning.pytorch.callbacks.EMAWeightAveraging", False),
        ("fer_lightning.callbacks.unfreezing.GradualUnfreezing", False),
        ("EarlyStopping", True),
        ("lightning.pytorch.callbacks.RichProgressBar", True),
        ("mine.Notifier", True),
    ],
)
def test_callbacks_are_told_by_class(path: str, harmless: bool) -> None:
    callbacks = [*BEFORE["trainer"]["callbacks"], {"class_path": path, "init_args": {"decay": 0.9}}]
    (found,) = changed(trainer__callbacks=callbacks)
    assert found.key == f"trainer.callbacks.{path.rpartition('.')[2]}"
    assert found.harmless is harmless
    (removed,) = config_changes({"trainer": {"callbacks": callbacks}}, {"trainer": BEFORE["trainer"]})[:1]
    assert (removed.after, removed.harmless) == (None, harmless)


def test_two_callbacks_of_one_class_are_told_apart() -> None:
    stopping = [{"class_path": "EarlyStopping", "init_args": {"monitor": name}} for name in ("a", "b")]
    other = [stopping[0], {"class_path": "EarlyStopping", "init_args": {"monitor": "c"}}]
    (found,) = config_changes({"trainer": {"callbacks": stopping}}, {"trainer": {"callbacks": other}})
    assert change_text(found) == "trainer.callbacks.EarlyStopping#2.monitor b -> c"


@pytest.mark.parametrize(
    ("key", "harmless"),
    [
        *((key, True) for key in ("trainer.max_epochs", "data.num_workers", "trainer.logger.save_dir", "name")),
        *((key, True) for key in ("trainer.devices", "resume_checkpoint.every_n_steps", "data.root")),
        *((key, False) for key in ("model.optimizer.lr", "data.batch_size", "data.augment.flip", "seed_everything")),
        *((key, False) for key in ("trainer.precision", "trainer.gradient_clip_val", "checkpoint.monitor")),
        *((f"trainer.{key}", False) for key in ("accumulate_grad_batches", "limit_train_batches", "limit_val_batches")),
        *((f"trainer.{key}", False) for key in ("gradient_clip_algorithm", "overfit_batches", "val_check_interval")),
        *((f"trainer.{key}", False) for key in ("check_val_every_n_epoch", "sync_batchnorm", "callbacks")),
        *((key, False) for key in ("data.seed", "data.val", "data.folds", "model.tau", "model.loss", "trainer")),
        *((key, True) for key in ("trainer.limit_test_batches", "trainer.limit_predict_batches", "data.cache_dir")),
        *((key, True) for key in ("trainer.accelerator", "trainer.max_time", "trainer.min_steps", "report.pictures")),
        *((key, True) for key in ("trainer.strategy.x", "trainer.profiler", "data.eval_batch_size", "mlflow")),
    ],
)
def test_what_has_a_say_in_what_is_learned(key: str, harmless: bool) -> None:
    assert is_harmless(key) is harmless


def test_the_harmless_stands_apart_in_one_line() -> None:
    changes = [Change("a", 1, 2), Change("b", 1, 2, True), Change("c", None, True, True)]
    assert differences(changes, "fit") == [
        "changed against the checkpoint: a 1 -> 2",
        "changed beside what is learned: b 1 -> 2, c none -> true",
    ]
    assert all(line.startswith("changed against the checkpoint: ") for line in differences(changes, "test"))
    assert differences([], "fit") == []


def test_what_is_said_for_one_start_is_no_change() -> None:
    assert config_changes({"a": 1}, {"a": 1, "ckpt_path": "last", "allow_changed_data": True}) == []


def test_an_evaluation_is_compared_in_what_it_takes_from_the_checkpoint() -> None:
    stored = {"model": {"tau": 1}, "trainer": {"precision": "32-true"}}
    model = {"tau": 2, "temperature": 4.0}  # which the checkpoint does not know
    used = {"model": model, "trainer": {"precision": "32-true", "max_epochs": 3}, "report": {"pictures": True}}
    assert [change.key for change in changes_for("test", stored, used)] == ["model.tau"]


def test_where_a_resumed_run_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    folder = root / "a" / "version_0"
    learned, beside = Change("model.optimizer.lr", 1, 2), Change("trainer.max_epochs", 1, 2, True)
    moved = Change("trainer.default_root_dir", None, "x", True)
    assert goes_on_in(folder, [beside], root) == (folder, "")
    assert goes_on_in(folder, [beside, learned], root) == (None, "model.optimizer.lr changed")
    assert goes_on_in(folder, [], root, same_data=False) == (None, "the data changed")
    assert goes_on_in(folder, [Change("name", "a", "b", True)], root) == (None, "the name is 'b' now")
    assert goes_on_in(folder, [moved], root) == (folder, "")
    assert goes_on_in(folder, [moved], tmp_path / "x")[0] is None
    assert goes_on_in(None, [], root)[0] is None


def test_an_evaluation_tells_what_it_has_of_another_place_and_nothing_of_the_trainer() -> None:
    stored = {
        "model": {"tau": 1},
        "data": {"root": "a"},
        "trainer": {"precision": "32-true"},
        "report": {"pictures": 1},
    }
    used = {"model": {"tau": 1, "head": "new"}, "data": {"root": "b"}, "trainer": {"precision": "bf16-mixed"}}
    assert [change_text(change) for change in changes_for("test", stored, used)] == [
        *("data.root a -> b", "report.pictures 1 -> none"),
    ]
    told = [change_text(change) for change in changes_for("fit", stored, used)]
    assert told == [
        *("data.root a -> b", "model.head none -> new", "report.pictures 1 -> none"),
        "trainer.precision 32-true -> bf16-mixed",
    ]
    mixing = {"data": {"size": 48, "mixing": {"alpha": 0.2}}}
    assert [change.key for change in changes_for("test", {"data": {"size": 48}}, mixing)] == ["data.mixing.alpha"]


def test_why_a_resumed_run_goes_on_elsewhere_is_said_whole(tmp_path: Path) -> None:
    root, folder = tmp_path / "runs", tmp_path / "runs/a/version_0"
    learned = [Change(f"model.k{number}", 1, 2) for number in range(1, 5)]
    moved = Change("trainer.default_root_dir", None, "x", True)
    assert goes_on_in(None, [], root) == (None, "the checkpoint lies in no run folder")
    assert goes_on_in(folder, learned[:3], root) == (None, "model.k1, model.k2, model.k3 changed")
    assert goes_on_in(folder, learned, root) == (None, "model.k1, model.k2, model.k3 ... changed")
    assert goes_on_in(folder, [moved], tmp_path / "x") == (None, f"the runs are in {tmp_path / 'x'} now")
    assert goes_on_in(folder, [], tmp_path / "x") == (folder, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "none"), (True, "true"), (False, "false"), (0, "0"), (0.0, "0"), (3e-05, "3e-5"), (2.5e7, "2.5e+7")),
        *((1e-12, "1e-12"), (1e12, "1e+12"), (0.1234567, "0.123457"), ("x" * 100, "x" * 100)),
        *(("x" * 101, "x" * 100 + "..."), ([1, "a"], "[1, 'a']")),
    ],
)
def test_values_are_short(value: object, text: str) -> None:
    assert short_value(value) == text


def test_a_configuration_is_flat() -> None:
    config = {
        "bare": {"class_path": "a.Bare"},
        "empty": {"class_path": "a.Empty", "init_args": {}},
        "open": {"class_path": "a.Open", "init_args": {"x": 1}, "dict_kwargs": {"y": [1, 2]}},
        "nothing": {},
        "mixed": [{"class_path": "a.B"}, 3],
        "plain": [{"x": 1}],
        "none": [],
        "all": [{"class_path": "a.B"}, {"class_path": "c.B", "init_args": {"z": None}}, {"class_path": "B"}],
    }
    assert list(flat(config)) == [
        *(("bare", "a.Bare"), ("empty", "a.Empty"), ("open", "a.Open"), ("open.x", 1), ("open.y", [1, 2])),
        *(("nothing", {}), ("mixed", [{"class_path": "a.B"}, 3]), ("plain", [{"x": 1}]), ("none", [])),
        *(("all.B", "a.B"), ("all.B#2", "c.B"), ("all.B#2.z", None), ("all.B#3", "B")),
    ]
    assert value_at(config, "open") == "a.Open(x=1, y=[1, 2])"
    assert (value_at(config, "open.x"), value_at(config, "bare"), value_at(config, "lost")) == (1, "a.Bare", None)


def test_which_options_count_as_new() -> None:
    old: dict[str, Any] = {
        **{
            section: {"known": 1}
            for section in ("model", "trainer", "checkpoint", "resume_checkpoint", "report", "card")
        },
        "data": {"class_path": "Faces"},
        "extra": {"known": 1},
    }
    new: dict[str, Any] = {section: {**inside, "later": 2} for section, inside in old.items() if section != "data"}
    new |= {"data": {"class_path": "Faces", "init_args": {"later": 3, "mixing": {"alpha": 0.2}}}, "later": 4}
    assert {change.key: change.harmless for change in config_changes(old, new)} == {
        **{f"{section}.later": section != "extra" for section in old},  # what is in no block of ours may be anything
        **{"data.mixing.alpha": False, "later": True},
    }
    one = {"model": {"known": 1, "loss": {"class_path": "Focal"}}}
    other = {"model": {"known": 1, "loss": {"class_path": "Focal", "init_args": {"gamma": 3}}}}
    assert [(change.key, change.harmless) for change in config_changes(one, other)] == [("model.loss.gamma", True)]
    assert [(change.key, change.harmless) for change in config_changes(other, one)] == [("model.loss.gamma", False)]


def test_a_foreign_callback_may_change_whatever_it_says_and_ours_may_not() -> None:
    def config(path: str, value: int) -> dict[str, Any]:
        return {"trainer": {"callbacks": [{"class_path": path, "init_args": {"inner": {"deep": value}}}]}}

    for path, harmless in (
        *(("mine.Notifier", True), ("Notifier", False), ("pytorch_lightning.callbacks.Pruning", False)),
        *(("lightning.pytorch.callbacks.Timer", True), ("fer_lightning.callbacks.sam.SAM", False)),
    ):
        (found,) = config_changes(config(path, 1), config(path, 2))
        assert (found.key.endswith(".inner.deep"), found.harmless) == (True, harmless)


def test_what_is_learned_and_how_long() -> None:
    stopping = {"class_path": "EarlyStopping", "init_args": {"patience": 3}}
    stored = {
        "model": {"tau": 1},
        "data": {"num_workers": 2},
        "trainer": {"max_epochs": 2, "min_epochs": 1, "devices": 1, "callbacks": [stopping]},
    }
    more = {**stopping, "init_args": {"patience": 5}}
    used = {
        "model": {"tau": 2},
        "data": {"num_workers": 4},
        "trainer": {"max_epochs": 3, "min_epochs": 2, "devices": 2, "callbacks": [more]},
    }
    assert what_differs(stored, used) == [
        *("model.tau 1 -> 2", "trainer.callbacks.EarlyStopping.patience 3 -> 5", "trainer.max_epochs 2 -> 3"),
    ]
