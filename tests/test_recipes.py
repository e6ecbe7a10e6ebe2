"""Every complete config trains for two epochs, those of FER2013 on real faces."""

from __future__ import annotations

import csv
import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fer_lightning.models.task import EmotionTask
from tests.helpers.cli import fer
from tests.helpers.configs import COMPLETE, CONFIGS, QUIET, is_heavy, names, start_of
from tests.helpers.fer2013 import unpack_real_fer2013
from tests.helpers.sets import set_of, write_set

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

EPOCHS = 2
PER_CLASS = {"Training": 40, "PublicTest": 8}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first faces of each expression in FER2013, as a CSV file."""
    whole = unpack_real_fer2013(tmp_path_factory.mktemp("whole"), "csv") / "fer2013.csv"
    seen: Counter[tuple[str, str]] = Counter()
    folder = tmp_path_factory.mktemp("faces")
    with whole.open() as lines, (folder / "fer2013.csv").open("w") as chosen:
        chosen.write(next(lines))
        for line in lines:
            label, _, usage = line.strip().split(",")
            seen[usage, label] += 1
            if seen[usage, label] <= PER_CLASS[usage]:
                chosen.write(line)
    whole.unlink()
    return folder


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Rows of what was trained, printed at the end whether or not output is captured."""
    rows = [f"{'config':<50} {'parameters':>12} {'seconds':>8} {'val_loss':>9}"]
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print("\n" + "\n".join(rows))


def flags_for(config: str, folder: Path, request: pytest.FixtureRequest) -> list[str]:
    """Return the flags that name the data of a config, little of it, and the start of its network."""
    data, text = set_of(CONFIGS / config), (CONFIGS / config).read_text()
    few = 4 if is_heavy(config) else 12  # training images of each class, and of a batch
    flags = [f"--data.per_class={few}", f"--data.batch_size={few}", "--data.num_workers=0"]
    if is_heavy(config):
        flags += ["--data.eval_batch_size=4", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]
    if "focus_fraction" in text:
        flags.append("--data.focus_fraction=0.3")  # at least one of four
    if "precision" not in text:
        flags.append("--trainer.precision=32-true")  # not measured
    flags += start_of(config, folder)
    if data in ("hybrid", "sketch"):
        return [*write_set(data, folder), *flags, *(["--data.train=98"] if data == "sketch" else [])]
    flags.append(f"--data.root={request.getfixturevalue('faces')}")
    return [*flags, f"--data.at_least={PER_CLASS['Training'] + 5}"] if data == "balanced" else flags


@pytest.mark.parametrize("config", names(COMPLETE))
def test_a_recipe_trains_for_two_epochs(
    config: str, table: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    flags = flags_for(config, tmp_path / "data", request)
    root = tmp_path / "runs"
    began = time.monotonic()
    code = fer(
        "fit", f"--config={CONFIGS / config}", *flags, *QUIET,
        f"--trainer.max_epochs={EPOCHS}", f"--trainer.default_root_dir={root}",
    )  # fmt: skip
    seconds = time.monotonic() - began
    assert code == 0
    (folder,) = [path.parent for path in root.rglob("metrics.csv")]
    history = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in history] == list(range(EPOCHS))
    losses = [float(row[name]) for row in history for name in ("train_loss", "val_loss")]
    assert all(math.isfinite(loss) for loss in losses)
    task = EmotionTask.load_from_checkpoint(folder / "checkpoints" / "best.ckpt", map_location="cpu").eval()
    sizes = task.preprocessing
    with torch.inference_mode():
        logits = task(torch.zeros(1, sizes["channels"], sizes["image_size"], sizes["image_size"]))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()
    parameters = sum(parameter.numel() for parameter in task.classifier.parameters())
    table.append(f"{config:<50} {parameters:>12,} {seconds:>8.1f} {losses[-1]:>9.3f}")
    shutil.rmtree(root)  # checkpoints of the largest networks are gigabytes
