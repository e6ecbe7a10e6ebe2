from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from fer_lightning.errors import ConfigError
from fer_lightning.studies.tune.search_space import Parameter, as_flags, load_space, tidy

LR = "model.optimizer.init_args.lr"


def space(folder: Path, text: str) -> dict[str, Parameter]:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


def test_ranges_and_choices(tmp_path: Path) -> None:
    read = space(
        tmp_path,
        f"""
{LR}: {{low: 1e-4, high: 1e-2, log: true}}
data.batch_size: {{low: 16, high: 64, step: 16}}
data.transform: {{choices: [none, strong]}}
""",
    )
    assert list(read.values()) == [
        Parameter(LR, 0.0001, 0.01, None, True),
        Parameter("data.batch_size", 16, 64, 16),
        Parameter("data.transform", choices=("none", "strong")),
    ]
    assert isinstance(read[LR].low, float)
    assert isinstance(read["data.batch_size"].low, int)


def test_nested_keys_are_dotted_ones(tmp_path: Path) -> None:
    nested = "model:\n  optimizer.init_args:\n    lr: {low: 0.001, high: 0.01}\n"
    assert space(tmp_path, nested) == space(tmp_path, f"{LR}: {{low: 0.001, high: 0.01}}")


def test_one_number_with_a_point_makes_a_range_of_floats(tmp_path: Path) -> None:
    read = space(tmp_path, "a: {low: 0, high: 1, step: 0.5}")["a"]
    assert [type(value) for value in (read.low, read.high, read.step)] == [float] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have flags"),
        ("- 1", "must have flags"),
        ("a: [", "is no YAML"),
        ("a: 0.1", "'a' must be {low: ..., high: ...} or {choices: [...]}, not 0.1"),
        ("a: [1, 2]", "'a' must be {choices: [1, 2]}"),
        ("a: {low: 1}", "'a' lacks 'high'"),
        ("a: {low: 1, hihg: 2}", "did you mean 'high'"),
        ("a: {low: 1, high: 2, choices: [1, 2]}", "cannot stand beside choices"),
        ("a: {low: 2, high: 1}", "low must be less than high, not 2 and 1"),
        ("a: {low: 1, high: 1}", "low must be less than high"),
        ("a: {low: x, high: 1}", "low must be a number, not x"),
        ("a: {low: true, high: 2}", "low must be a number"),
        ("a: {low: 0, high: .inf}", "high must be a number"),
        ("a: {low: 0, high: 1, log: true}", "low must be greater than 0"),
        ("a: {low: 1, high: 2, log: 3}", "log must be true or false"),
        ("a: {low: 1, high: 9, log: true, step: 2}", "both log and step"),
        ("a: {low: 0.0, high: 0.5, step: 0.15}", "one does not come to 0.5 in steps of 0.15"),
        ("a: {low: 0, high: 5, step: -1}", "in steps of -1"),
        ("a: {low: 0, high: 5, step: 0}", "in steps of 0"),
        ("a: {choices: 3}", "at least two choices"),
        ("a: {choices: [3]}", "at least two choices"),
        ("a: {choices: [3, 3]}", "a choice twice"),
        ("a.b: {choices: [1, 2]}\na: {b: {choices: [3, 4]}}", "'a.b' is there twice"),
        ("name: {choices: [a, b]}", "fer tune sets it itself"),
        ("name.x: {choices: [a, b]}", "fer tune sets it itself"),
        ("config: {y: {choices: [a, b]}}", "fer tune sets it itself"),
        ("ckpt_path.z: {low: 0, high: 1}", "fer tune sets it itself"),
        ("checkpoint.monitor: {choices: [a, b]}", "fer tune sets it itself"),
        ("checkpoint.mode: {choices: [max, min]}", "fer tune sets it itself"),
        ("trainer.default_root_dir: {choices: [a, b]}", "fer tune sets it itself"),
    ],
)
def test_a_wrong_space_is_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        space(tmp_path, text)
    assert message in str(error.value)
    assert "space.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_space(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_space(tmp_path / "none.yaml")


def test_values_are_typed_flags_and_classes_come_first() -> None:
    values: dict[str, Any] = {
        "model.optimizer.init_args.lr": 1e-05,
        "model.optimizer": "torch.optim.SGD",
        "data.batch_size": 64,
        "model.pretrained": True,
        "model.lr_scheduler": None,
    }
    assert as_flags(values) == [
        "--model.optimizer=torch.optim.SGD",
        "--data.batch_size=64",
        "--model.pretrained=true",
        "--model.lr_scheduler=null",
        "--model.optimizer.init_args.lr=1e-05",
    ]


def test_steps_leave_no_digits() -> None:
    assert tidy(0.1 + 0.2) == 0.3
    assert tidy(0.00123456789012) == 0.00123456789012  # a drawn one stays what it is
    assert tidy(3) == 3


def test_a_class_with_arguments_is_a_choice(tmp_path: Path) -> None:
    read = space(tmp_path, "a: {choices: [x.Y, {class_path: x.Z, init_args: {b: 1}}]}")["a"]
    assert yaml.safe_load(str(read.choices[1])) == {"class_path": "x.Z", "init_args": {"b": 1}}


def test_a_number_and_a_word_for_true_are_two_choices(tmp_path: Path) -> None:
    choices = space(tmp_path, "a: {choices: [1, true, 1.0]}")["a"].choices
    assert [type(choice) for choice in choices] == [int, bool, float]


def test_probes_and_grid() -> None:
    assert Parameter("a", 0.0, 0.3, 0.1).grid() == (0.0, 0.1, 0.2, 0.3)
    assert Parameter("a", 1, 3).grid() == (1, 2, 3)
    assert Parameter("a", 0.0, 0.3).probes() == (0.0, 0.3)
    for endless in (Parameter("a", 0.0, 0.3), Parameter("a", 1, 9, log=True)):
        with pytest.raises(ConfigError, match="needs a step or choices for 'a'"):
            endless.grid()


def test_drawn_values_lie_in_the_space() -> None:
    parameters = [
        Parameter("a", 1e-4, 1e-2, None, True),
        Parameter("b", 0.0, 0.5, 0.05),
        Parameter("c", 2, 8, 2),
        Parameter("d", choices=("x", None, True)),
        Parameter("e", 1, 1000, None, True),
    ]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    drawn = [[one.suggest(trial) for one in parameters] for trial in (study.ask() for _ in range(60))]
    columns = [{tidy(value) for value in column} for column in zip(*drawn, strict=True)]
    assert all(1e-4 <= float(value or 0) <= 1e-2 for value in columns[0])
    assert sum(float(value or 0) < 1e-3 for value in columns[0]) > 15  # evenly in the logarithm: about a half
    assert sum(float(value or 0) < 32 for value in columns[4]) > 10
    assert columns[1] == set(parameters[1].grid())
    assert columns[2] == {2, 4, 6, 8}
    assert columns[3] == {"x", None, True}
