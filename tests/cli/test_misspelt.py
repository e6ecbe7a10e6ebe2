"""Which option is meant by one that does not exist."""

from __future__ import annotations

import pytest

from fer_lightning.cli.misspelt import nearest_argument, nearest_key, unknown_option

STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss --trainer.callbacks.patience"


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("epochs", None, "--trainer.max_epochs"),
        ("max_epohs", "3", "--trainer.max_epochs 3"),
        ("trainer.max_epoch", "3", "--trainer.max_epochs 3"),
        ("trainr.max_epochs", "3", "--trainer.max_epochs 3"),
        ("Batch-Size", "3", "--data.batch_size 3"),
        ("data.workers", "3", "--data.num_workers 3"),
        ("modell.optimizer", "adam", "--model.optimizer Adam"),
        ("optimizer", "adamw", "--model.optimizer AdamW"),
        ("lr_scheduler", "cosine", "--model.lr_scheduler WarmupCosine"),
        ("gpus", "1", "--trainer.accelerator gpu --trainer.devices 1"),
        ("device", "cuda", "--trainer.accelerator gpu"),
        ("device", "cpu", "--trainer.accelerator cpu"),
        ("resume", None, "--ckpt_path last"),
        ("resume", "true", "--ckpt_path last"),
        ("resume", "x.ckpt", "--ckpt_path x.ckpt"),
        ("fast-dev-run", None, "--trainer.fast_dev_run true"),
        ("fast_dev_runs", "false", "--trainer.fast_dev_run false"),
        ("monitor", "val_acc", "--model.monitor val_acc or --checkpoint.monitor val_acc"),
        ("monitr", "val_acc", "--model.monitor val_acc or --checkpoint.monitor val_acc"),
        ("trainer.maxepoch", "3", "--trainer.max_epochs 3"),
        ("data.batchsz", "3", "--data.batch_size 3"),
        ("model.lossy", "x", "--model.loss x"),
        ("save_top", "3", "--checkpoint.save_top_k 3"),
        ("ema", "true", "--trainer.callbacks+=EMA"),
        ("fp16", "true", "--trainer.precision 16-mixed"),
        ("trainer.callbacks.patience+", "3", f"{STOPPING} 3"),
        ("name", "two words", "--name"),
    ],
)
def test_what_is_meant_can_be_pasted(key: str, value: str | None, meant: str) -> None:
    assert unknown_option("fit", key, value) == f"there is no option --{key}; did you mean {meant}?"


def test_a_class_that_is_lacking_comes_before_its_option() -> None:
    def lacks(option: str) -> str:
        return "AdamW" if option == "model.optimizer" else ""

    for key, meant in (
        ("lr", "--model.optimizer AdamW --model.optimizer.lr 0.1"),
        ("momentum", "--model.optimizer SGD --model.optimizer.momentum 0.1"),
    ):
        assert unknown_option("fit", key, "0.1", lacks) == f"there is no option --{key}; did you mean {meant}?"


def test_what_nothing_is_near_to_leads_to_the_help() -> None:
    assert unknown_option("tune", "zzzz", "1") == "there is no option --zzzz (fer tune --help lists them)"
    for key in ("patiance", "trainer.accum"):  # near to something, and not near enough
        assert unknown_option("fit", key, "3") == f"there is no option --{key} (fer fit --help lists them)"
    assert unknown_option("fit", "-q", None) == "there is no option -q (fer fit --help lists them)"


def test_the_nearest_of_keys_and_of_arguments() -> None:
    assert nearest_key("trainer.max_epoch") == "; did you mean trainer.max_epochs?"
    assert nearest_key("ema") == nearest_key("zzzz") == ""  # what is typed for `ema` is no key
    assert nearest_argument("gama", ["gamma", "alpha"]) == "; did you mean 'gamma'?"
    assert nearest_argument("epochs", ["max_epochs", "a"]) == "; did you mean 'max_epochs'?"
    assert nearest_argument("q", ["alpha", "beta"]) == "; it takes alpha, beta"
    assert nearest_argument("q", []) == "; it takes none"
