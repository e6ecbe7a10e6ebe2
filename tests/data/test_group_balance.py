"""Groups of people inside a class count equally: by draws, or by weights in the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fer_lightning.data.splitting.group_balance import GroupBalance, equal_shares
from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.errors import ConfigError
from fer_lightning.losses import FocalLoss, LogitAdjustedLoss, WeightedCrossEntropy
from fer_lightning.models.criterion import weighted_loss
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule, stripes_table


def people(rows: int = 280) -> SamplesTable:
    """Return stripes of people; one in seven of those trained on is a woman, and of one in ten that is not known."""
    table = stripes_table({"train": rows, "val": 28, "test": 28})
    number = np.arange(len(table)) // 7
    gender = np.where(number % 10 == 9, "", np.where(number % 5 == 0, "f", "m"))
    table.columns["gender"], table.columns["age"] = gender, np.where(number % 2, "old", "young")
    return table


class People(StripesDataModule):
    def scan(self) -> SamplesTable:
        return people()


def drawn(data: People, epochs: int = 1) -> np.ndarray[Any, Any]:
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    return np.concatenate([sampler.order(epoch) for epoch in range(epochs)])


def test_shares_are_equal_as_far_as_images_suffice() -> None:
    assert equal_shares(np.array([50, 50]), 100).tolist() == [50, 50]
    assert equal_shares(np.array([80, 20]), 100).tolist() == [50, 50]
    assert equal_shares(np.array([97, 3]), 100).tolist() == [88, 12]  # three images, four times each
    assert equal_shares(np.array([90, 8, 2]), 100).tolist() == [60, 32, 8]
    assert equal_shares(np.array([97, 3]), 200).tolist() == [176, 24]  # twice the draws, twice the repeats
    assert equal_shares(np.array([5, 0]), 5).tolist() == [5, 0]
    assert equal_shares(np.array([0, 0]), 0).tolist() == [0, 0]


def test_each_class_is_drawn_as_often_as_before_and_its_groups_alike() -> None:
    table, plain = people(), People()
    data = People(groups=["gender"], group_balance="draws")
    rows = drawn(data)
    plain.setup("fit")
    assert data.draws == plain.draws
    assert len(rows) == len(table.rows("train"))
    gender = table.columns["gender"]
    for label in range(7):
        own = rows[table.labels[rows] == label]
        assert [int((gender[own] == name).sum()) for name in ("f", "m", "")] == [18, 18, 4]
    assert set(rows.tolist()) <= set(table.rows("train").tolist())
    assert len(set(drawn(data, 4).tolist())) == len(table.rows("train"))  # no image is left out for ever


def test_columns_are_crossed_and_other_draws_of_classes_kept() -> None:
    table = people()
    data = People(groups=["gender", "age"], group_balance="draws", class_multipliers={"fear": 2.0})
    rows = drawn(data)
    fear = rows[table.labels[rows] == 2]
    assert len(fear) == data.draws["fear"] == 80
    cells = {
        (gender, age): int(((table.columns["gender"][fear] == gender) & (table.columns["age"][fear] == age)).sum())
        for gender in "fm"
        for age in ("old", "young")
    }
    assert max(cells.values()) - min(cells.values()) <= 1
    data.set_draws(dict.fromkeys(data.class_names, 20))  # as ClassFocus does
    sampler = data._train_sampler
    assert sampler is not None
    assert len(sampler) == 140


def test_weights_are_1_on_average_and_equal_for_the_groups_of_a_class() -> None:
    table = people()
    weights = GroupBalance(("gender",), "weights").weights(table)
    assert weights is not None
    train, gender = table.rows("train"), table.columns["gender"]
    for label in range(7):
        own = train[table.labels[train] == label]
        assert weights[own].mean() == pytest.approx(1)
        sums = [weights[own[gender[own] == name]].sum() for name in ("f", "m")]
        assert sums[0] == pytest.approx(sums[1])
        assert (weights[own[gender[own] == ""]] == 1).all()
    assert (weights[table.rows("val")] == 1).all()
    assert GroupBalance(("gender",), "draws").weights(table) is None


def test_batches_say_what_each_sample_counts_in_training_alone() -> None:
    data = People(groups=["gender"], group_balance="weights", batch_size=64)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    weights = data.group_balance.weights(data.table)
    assert weights is not None
    assert batch["weight"].tolist() == weights[batch["index"].numpy()].tolist()
    assert "weight" not in next(iter(data.val_dataloader()))
    plain = People()
    plain.setup("fit")
    assert "weight" not in next(iter(plain.train_dataloader()))


LOSSES = [
    nn.CrossEntropyLoss(label_smoothing=0.1),
    WeightedCrossEntropy("none", label_smoothing=0.1),
    WeightedCrossEntropy("inverse"),
    FocalLoss(),
    LogitAdjustedLoss(),
]


@pytest.mark.parametrize("criterion", LOSSES, ids=lambda loss: type(loss).__name__)
def test_a_weighted_loss_is_the_mean_of_weighted_losses(criterion: nn.Module) -> None:
    if not isinstance(criterion, nn.CrossEntropyLoss):
        criterion.set_class_counts({"a": 30, "b": 20, "c": 10})  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(12, 3, generator=generator), torch.arange(12) % 3
    ones = torch.ones(12)
    assert weighted_loss(criterion, logits, target, ones).item() == pytest.approx(criterion(logits, target).item())
    twice = torch.where(torch.arange(12) < 6, 2.0, 0.0)  # half of them, twice: of each class alike
    assert weighted_loss(criterion, logits, target, twice).item() == pytest.approx(
        criterion(logits[:6], target[:6]).item(), rel=1e-5
    )


def test_a_loss_that_cannot_weigh_samples_is_refused() -> None:
    logits, target = torch.randn(3, 2), torch.zeros(3, dtype=torch.int64)
    for loss in (nn.MultiMarginLoss(), nn.CrossEntropyLoss(weight=torch.ones(2)), nn.CrossEntropyLoss(reduction="sum")):
        with pytest.raises(
            ConfigError, match=f"{type(loss).__name__} cannot weigh samples; take .*group_balance draws"
        ):
            weighted_loss(loss, logits, target, torch.ones(3))


def test_wrong_groups_are_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"data.group_balance draws needs groups: pass --data.groups '\[gender\]'"):
        People(group_balance="draws")
    with pytest.raises(ConfigError, match=r"no column 'gendre'; did you mean 'gender'\? \(there are gender, age\)"):
        People(groups=["gendre"]).setup("fit")
    with pytest.raises(ConfigError, match=r"no column 'gender' \(this data set has none\)"):
        StripesDataModule(groups=["gender"]).setup("fit")
    table = people()
    table.columns["gender"][table.rows("train")] = ""
    with pytest.raises(ConfigError, match="'gender' is empty in every training row"):
        GroupBalance(("gender",)).check(table)


@pytest.mark.parametrize("kind", ["draws", "weights"])
def test_a_run_trains_with_groups_balanced(kind: str, tmp_path: Path) -> None:
    arguments = [f"--data.group_balance={kind}", "--data.groups=[gender]"]
    assert fit(tmp_path, "--data=tests.data.test_group_balance.People", *arguments, epochs=1) == 0


def test_mixed_samples_cannot_be_weighed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--data=tests.data.test_group_balance.People",
        "--data.group_balance=weights",
        "--data.groups=[gender]",
    ]
    assert fit(tmp_path, *arguments, "--data.mix=BatchMix") == 2
    assert "group_balance weights cannot weigh mixed samples: take draws" in capsys.readouterr().err
    assert fit(tmp_path, *arguments, "--model.loss=torch.nn.MultiMarginLoss") == 2
    assert "MultiMarginLoss cannot weigh samples" in capsys.readouterr().err
