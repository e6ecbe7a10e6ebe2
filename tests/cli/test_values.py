from __future__ import annotations

import math
import re

import pytest

from fer_lightning.cli.signatures import Types
from fer_lightning.cli.values import LIMITS, Numbers, Words, check_limit, check_type
from fer_lightning.errors import ConfigError

# Of each option the smallest and the largest value that Lightning, torch or we take; "" for no largest one.
ENDS = {
    "CrossEntropyLoss.label_smoothing": ("0", "1"),
    "EMAWeightAveraging.decay": ("0", "1"),
    "EarlyStopping.patience": ("0", ""),
    "ModelSummary.max_depth": ("-1", ""),
    "RichModelSummary.max_depth": ("-1", ""),
    "RichProgressBar.refresh_rate": ("0", ""),
    "StepLR.step_size": ("1", ""),
    "TQDMProgressBar.refresh_rate": ("0", ""),
    "checkpoint.save_top_k": ("-1", ""),
    "model.optimizer.lr": ("0", ""),
    "model.optimizer.momentum": ("0", ""),
    "model.optimizer.weight_decay": ("0", ""),
    "model.teacher_weight": ("0", "1"),
    "model.temperature": ("0.000001", ""),
    "model.tau": ("-5", "5"),
    "seed_everything": ("0", "4294967295"),
    "trainer.accumulate_grad_batches": ("1", ""),
    "trainer.check_val_every_n_epoch": ("1", ""),
    "trainer.fast_dev_run": ("0", ""),
    "trainer.gradient_clip_val": ("0", ""),
    "trainer.limit_predict_batches": ("0", "1.0"),
    "trainer.limit_test_batches": ("0", "1.0"),
    "trainer.limit_train_batches": ("0.000001", "1.0"),
    "trainer.limit_val_batches": ("0", "1.0"),
    "trainer.log_every_n_steps": ("0", ""),
    "trainer.max_epochs": ("-1", ""),
    "trainer.max_steps": ("-1", ""),
    "trainer.min_epochs": ("0", ""),
    "trainer.min_steps": ("0", ""),
    "trainer.num_nodes": ("1", ""),
    "trainer.num_sanity_val_steps": ("-1", ""),
    "trainer.reload_dataloaders_every_n_epochs": ("0", ""),
    "trainer.val_check_interval": ("0.000001", "1.0"),
}
MODES = "max: up higher increase maximize maximum; min: down lower decrease minimize minimum"
# What other programs call the words of an option.
MEANT = {
    "CrossEntropyLoss.reduction": "mean: avg average none",
    "EMAWeightAveraging.device": "cuda: gpu",
    "EarlyStopping.mode": MODES,
    "OnExceptionCheckpoint.mode": MODES,
    "WeightAveraging.device": "cuda: gpu",
    "checkpoint.mode": MODES,
    "trainer.gradient_clip_algorithm": "norm: l2 agc; value: clip",
    "trainer.precision": "16-mixed: fp16 float16 half amp mixed mixed_float16 16-true; bf16-mixed: bfloat16 bf16-true; "
    "32-true: fp32 float32 float full 64 64-true float64 tf32",
    "trainer.profiler": "pytorch: torch; simple: true",
    "trainer.strategy": "ddp: dp distributed horovod; auto: none single",
}


def is_taken(key: str, value: str) -> bool:
    try:
        check_limit(key, value, key)
    except ConfigError:
        return False
    return True


def test_each_limit_is_tested() -> None:
    assert {key for key, limit in LIMITS.items() if isinstance(limit, Numbers)} == set(ENDS)
    assert {key for key, limit in LIMITS.items() if isinstance(limit, Words)} == set(MEANT)


@pytest.mark.parametrize("key", ENDS)
def test_the_ends_of_a_range_are_taken_and_nothing_beyond(key: str) -> None:
    low, high = ENDS[key]
    assert is_taken(key, low)
    assert not is_taken(key, str(math.nextafter(float(low), -math.inf) if "." not in low else 0))
    assert is_taken(key, high or "1e300")
    assert not high or not is_taken(key, str(math.nextafter(float(high), math.inf)))
    assert is_taken(key, "64") is (not high or "." in high or float(high) > 64)  # so many batches, where a share is one


@pytest.mark.parametrize("key", MEANT)
def test_a_word_of_another_program_is_proposed_as_ours(key: str) -> None:
    for line in MEANT[key].split("; "):
        meant, _, words = line.partition(": ")
        assert is_taken(key, meant)
        for word in words.split():
            if word in ("none", "true"):  # YAML reads these otherwise
                assert LIMITS[key].means[word] == meant  # type: ignore[union-attr]  # these are words
                continue
            with pytest.raises(ConfigError, match=re.escape(f"not '{word.upper()}'; did you mean '{meant}'?")):
                check_limit(key, word.upper(), "x")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.temperature", "0", "x must be above 0, not 0"),
        ("trainer.val_check_interval", "0.0", "a share above 0 and at most 1, or a whole number of batches, not 0.0"),
        ("model.optimizer.lr", "-0.5", "at least 0, not -0.5; did you mean '0.5'?"),
        ("trainer.min_steps", "-5", "at least 0, not -5; did you mean '0'?"),
        (
            "trainer.limit_val_batches",
            "-0.5",
            "a share in 0..1, or a whole number of batches, not -0.5; did you mean '0'",
        ),
        ("trainer.max_time", "1:02:03", "must be DD:HH:MM:SS, not '1:02:03'; an hour is '00:01:00:00'"),
        ("trainer.devices", "-2", "must be their number, a list as [0,1], or auto, not '-2'"),
        ("trainer.devices", "-10", "not '-10'"),
    ],
)
def test_a_value_outside_is_refused_with_the_nearest(key: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_limit(key, value, "x")


@pytest.mark.parametrize(("key", "value"), [("trainer.max_time", "00:01:02:03"), ("trainer.devices", "-1")])
def test_what_is_right_is_taken(key: str, value: str) -> None:
    assert is_taken(key, value)


def test_whole_numbers_may_be_written_in_other_ways() -> None:
    whole = Types(frozenset([int]))
    for text in ("0x10", "1_000", "-3"):
        check_type(whole, text, "x")
    with pytest.raises(ConfigError, match="x must be a whole number, not '2.5'$"):
        check_type(whole, "2.5", "x")
    with pytest.raises(ConfigError, match=r"x must be a list, not '3'; did you mean '\[3\]'\?"):
        check_type(Types(lists=True), "3", "x")
    for truth in ("on", "OFF", "yes", "No"):
        check_type(Types(frozenset([bool])), truth, "x")
    assert not is_taken("checkpoint.mode", "maxi")
