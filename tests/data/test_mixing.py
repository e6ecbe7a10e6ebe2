from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from fer_lightning.data.batches.mixing import BatchMix, partners, symmetric_beta
from fer_lightning.errors import ConfigError
from fer_lightning.randomness import draw_keys, uniform
from fer_lightning.types import Batch
from tests.helpers.cli import fit, weights

BOTH: dict[str, Any] = {"mixup": 0.4, "cutmix": 1.0}


def keys(count: int, epoch: int = 0) -> Tensor:
    return torch.from_numpy(draw_keys(0, epoch, np.arange(count)))


def shades(count: int = 64, side: int = 16, epoch: int = 0) -> Batch:
    """Return images that tell which they are by their gray, each of a class of its own."""
    label = torch.arange(count)
    images = (label / count)[:, None, None, None].expand(-1, 2, side, side).contiguous()
    return {"image": images, "label": label, "index": label + 1000, "key": keys(count, epoch)}


def shares(mixed: Batch, batch: Batch) -> Tensor:
    """Return how much of each mixed sample is its partner, ``(N,)``, as its soft label says."""
    return 1 - mixed["soft_label"].gather(1, batch["label"][:, None])[:, 0]


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 2.0, 8.0, 1000.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    draws = uniform(keys(40_000), 2, stream=7)
    drawn = symmetric_beta(draws, torch.full((40_000,), alpha)).double().numpy()
    given = stats.beta(alpha, alpha)
    low = drawn[drawn < 0.5]  # float32 cannot tell what is near 1 from 1, but it can tell small numbers from 0
    assert stats.kstest(low, lambda value: 2 * given.cdf(value)).pvalue > 0.01
    assert (
        stats.kstest(drawn.clip(1e-4, 1 - 1e-4), given.rvs(40_000, random_state=0).clip(1e-4, 1 - 1e-4)).pvalue > 0.01
    )
    assert stats.binomtest(len(low), 40_000).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0, 50.0])
def test_shares_are_exact_to_rounding(alpha: float) -> None:
    draws, alphas = uniform(keys(40_000), 2), torch.full((40_000,), alpha)
    error = (symmetric_beta(draws, alphas).double() - symmetric_beta(draws.double(), alphas.double())).abs()
    assert error.quantile(0.999) < 4e-6


@pytest.mark.parametrize("alpha", [1e-30, 1e-3, 1e30])
def test_no_alpha_gives_what_is_no_number(alpha: float) -> None:
    draws = torch.tensor([0.0, 1e-7, 0.25, 0.5, 1 - 2**-24])
    share = symmetric_beta(torch.cartesian_prod(draws, draws), torch.full((25,), alpha))
    assert ((share >= 0) & (share <= 1)).all()


def test_partners_form_one_ring() -> None:
    partner = partners(uniform(keys(50), 1)[:, 0])
    seen, at = [], 0
    for _ in range(50):
        seen.append(at)
        at = int(partner[at])
    assert sorted(seen) == list(range(50))
    assert at == 0
    assert partners(torch.zeros(4)).tolist() == [1, 2, 3, 0]
    assert partners(torch.zeros(1)).tolist() == [0]


def test_everyone_else_is_a_partner_equally_often() -> None:
    met = torch.cat([partners(uniform(keys(6, epoch), 1)[:, 0])[:1] for epoch in range(1000)])
    assert stats.chisquare(torch.bincount(met, minlength=6)[1:]).pvalue > 0.01
    assert not (met == 0).any()


@pytest.mark.parametrize(
    "options", [{"mixup": 1.0}, {"mixup": 0, "cutmix": 1.0}, BOTH], ids=["mixup", "cutmix", "both"]
)
def test_labels_are_mixed_as_images_are(options: dict[str, Any]) -> None:
    batch = shades()
    mixed = BatchMix(**options)(batch, 64)
    soft = mixed["soft_label"]
    assert soft.sum(dim=1).numpy() == pytest.approx(1)
    assert int((soft > 0).sum(dim=1).max()) == 2
    assert (mixed["image"].mean(dim=(1, 2, 3)) - soft @ (batch["label"] / 64)).abs().max() < 1e-5
    assert (shares(mixed, batch) > 0.05).sum() > 20
    assert torch.equal(mixed["label"], soft.argmax(dim=1))
    assert (mixed["label"] != batch["label"]).sum() > 5
    assert torch.equal(mixed["index"], batch["index"])


def test_mixup_blends_by_the_drawn_share() -> None:
    batch = shades(200)
    drawn = uniform(batch["key"], 7, stream=7)
    expected = symmetric_beta(drawn[:, 2:4], torch.full((200,), 0.3))
    assert (shares(BatchMix(mixup=0.3)(batch, 200), batch) - expected).abs().max() < 1e-6
    images = torch.rand(200, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    out = BatchMix(mixup=0.3)({**batch, "image": images}, 200)["image"]
    blend = expected[:, None, None, None]
    assert torch.allclose(out, (1 - blend) * images + blend * images[partners(drawn[:, 6])], atol=1e-6)


def test_cutmix_pastes_one_box() -> None:
    batch = shades(400, side=20)
    out = BatchMix(mixup=0, cutmix=1.0)(batch, 400)["image"]
    pasted = out[:, 0] != batch["image"][:, 0]
    assert torch.equal(pasted, out[:, 1] != batch["image"][:, 1])
    assert torch.equal(pasted, pasted.any(2, keepdim=True) & pasted.any(1, keepdim=True))
    for image in out:
        assert len(image.unique()) <= 2
    rows = pasted.any(2)
    assert ((rows[:, 1:] & ~rows[:, :-1]).sum(1) + rows[:, 0]).max() == 1  # no box is torn apart
    centre = (pasted * torch.arange(20.0)).sum(dim=(1, 2)) / pasted.sum(dim=(1, 2)) - 9.5
    assert abs(float(centre.nanmean())) < 1
    assert float(centre.nan_to_num().std()) > 2


def test_boxes_have_the_size_of_the_paper() -> None:
    # Sides of sqrt(1 - lambda), centres anywhere, clipped: of a side s, s - s^2 / 4 is left on average; for uniform
    # lambda the area's mean is E[s^2 - s^3 / 2 + s^4 / 16] = 1/2 - 1/5 + 1/48.
    batch = shades(6000, side=1)
    batch["label"] = batch["label"] % 2
    batch["image"] = torch.zeros(6000, 1, 40, 30)
    other = batch["label"][partners(uniform(batch["key"], 7, stream=7)[:, 6])]
    area = shares(BatchMix(mixup=0, cutmix=1.0)(batch, 2), batch)[other != batch["label"]]
    assert float(area.mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)
    assert float(area.max()) > 0.9
    assert float(area.min()) == 0


def test_mixup_and_cutmix_share_the_batch() -> None:
    batch = shades(600)
    out = BatchMix(mixup=2.0, cutmix=1.0)(batch, 600)["image"][:, 0]
    blended = (out == out[:, :1, :1]).all(2).all(1) & (out[:, 0, 0] != batch["image"][:, 0, 0, 0])
    grays = torch.tensor([gray in batch["image"] for gray in out[:, 0, 0]])  # a box may cover the whole picture
    assert float((blended & ~grays).float().mean()) == pytest.approx(0.5, abs=0.07)


def test_soft_labels_are_mixed_too() -> None:
    batch = shades(8)
    votes = torch.rand(8, 5, generator=torch.Generator().manual_seed(1)).softmax(1)
    mixed = BatchMix(mixup=1.0)({**batch, "soft_label": votes}, 5)["soft_label"]
    drawn = uniform(batch["key"], 7, stream=7)
    share = symmetric_beta(drawn[:, 2:4], torch.ones(8))[:, None]
    assert torch.allclose(mixed, (1 - share) * votes + share * votes[partners(drawn[:, 6])], atol=1e-6)


def test_only_the_given_share_of_samples_is_mixed() -> None:
    batch = shades(1000, side=4)
    mixed = BatchMix(mixup=8.0, probability=0.3)(batch, 1000)
    changed = shares(mixed, batch) > 0
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.05)
    assert torch.equal(mixed["image"][~changed], batch["image"][~changed])


def test_a_batch_of_one_is_as_it_was() -> None:
    batch = shades(1)
    batch["image"] = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    for options in ({"mixup": 1.0}, {"mixup": 0, "cutmix": 1.0}):
        mixed = BatchMix(**options)(batch, 7)
        assert torch.equal(mixed["image"], batch["image"])
        assert torch.equal(mixed["soft_label"], F.one_hot(batch["label"], 7).float())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_kinds_of_floats(kind: torch.dtype) -> None:
    batch = shades(32)
    batch["image"] = batch["image"].to(kind)
    mixed = BatchMix(**BOTH)(batch, 32)
    assert mixed["image"].dtype == kind
    assert mixed["soft_label"].dtype == torch.float32
    gray = mixed["soft_label"].double() @ (batch["label"] / 32).double()
    assert (mixed["image"].double().mean(dim=(1, 2, 3)) - gray).abs().max() < 0.005


def test_mixing_depends_on_the_keys_alone() -> None:
    batch, mix = shades(), BatchMix(**BOTH)
    whole = mix(batch, 64)
    torch.rand(5)
    again = mix(batch, 64)
    turned: Batch = {
        "image": batch["image"].flip(0),
        "label": batch["label"].flip(0),
        "index": batch["index"].flip(0),
        "key": batch["key"].flip(0),
    }
    turned = mix(turned, 64)
    assert torch.equal(again["image"], whole["image"])
    assert torch.equal(again["soft_label"], whole["soft_label"])
    assert torch.equal(turned["image"].flip(0), whole["image"])
    assert torch.equal(turned["soft_label"].flip(0), whole["soft_label"])
    assert not torch.equal(mix(shades(epoch=1), 64)["image"], whole["image"])


def test_the_end_of_a_run_may_be_left_alone() -> None:
    assert BatchMix().active(0.99)
    mix = BatchMix(calm=0.25)
    assert mix.active(0.74)
    assert not mix.active(0.75)
    assert not BatchMix(calm=1).active(0)
    assert not BatchMix(mixup=0).active(0)
    assert not BatchMix(probability=0).active(0)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"mixup": -0.1}, "mixup is the alpha of a Beta distribution, at least 0, not -0.1"),
        ({"cutmix": float("nan")}, "cutmix is the alpha .* not nan"),
        ({"mixup": float("inf")}, "mixup is the alpha .* not inf"),
        ({"probability": 1.1}, r"probability must be in 0..1, not 1.1"),
        ({"calm": -1}, r"calm must be in 0..1, not -1"),
    ],
)
def test_bad_values_are_named(argument: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"BatchMix: {message}"):
        BatchMix(**argument)


class WatchedLoss(nn.Module):
    """Cross-entropy that notes what it was asked about."""

    seen: ClassVar[list[tuple[bool, bool]]] = []

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen.append((self.training, target.ndim == 2 and bool((target > 0).sum() > len(target))))
        return F.cross_entropy(logits, target)


MIX = ["--data.mix=BatchMix", "--data.mix.cutmix=1.0", "--data.mix.calm=0.5"]


def test_a_run_is_mixed_until_its_calm_end(tmp_path: Path) -> None:
    WatchedLoss.seen.clear()
    options = [*MIX, "--model.loss=tests.data.test_mixing.WatchedLoss", "--trainer.num_sanity_val_steps=0"]
    assert fit(tmp_path, *options) == 0
    training = [mixed for in_training, mixed in WatchedLoss.seen if in_training]
    assert training == [True] * 10 + [False] * 10
    evaluated = [mixed for in_training, mixed in WatchedLoss.seen if not in_training]
    assert len(evaluated) >= 2
    assert not any(evaluated)


def test_a_run_mixes_the_same_with_workers(tmp_path: Path) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        assert fit(tmp_path, *MIX, f"--data.num_workers={workers}", name=name, epochs=1) == 0
    assert fit(tmp_path, name="plain", epochs=1) == 0
    none, two, plain = (
        weights(tmp_path / name / "version_0/checkpoints/resume.ckpt") for name in ("none", "two", "plain")
    )
    assert all(torch.equal(none[name], two[name]) for name in none)
    assert not all(torch.equal(none[name], plain[name]) for name in none)


def test_a_wrong_value_on_the_command_line_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path, "--data.mix=BatchMix", "--data.mix.mixup=-1") == 2
    assert "BatchMix: mixup is the alpha of a Beta distribution, at least 0, not -1.0" in capsys.readouterr().err


def test_votes_are_mixed_as_labels_are() -> None:
    batch = shades()
    votes = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    mixed = BatchMix(mixup=0.4, cutmix=1.0)({**batch, "votes": votes}, 64)
    plain = BatchMix(mixup=0.4, cutmix=1.0)(batch, 64)
    assert torch.equal(mixed["soft_label"], plain["soft_label"])
    torch.testing.assert_close(mixed["votes"], plain["soft_label"] @ votes)  # the soft label says who is in it
    assert "votes" not in plain


def test_labels_get_the_share_that_a_coarse_type_gives_the_pixels() -> None:
    label = torch.arange(64) % 2
    black_and_white = label.bfloat16()[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
    batch: Batch = {"image": black_and_white, "label": label, "index": label, "key": keys(64)}
    mixed = BatchMix(mixup=1.0)(batch, 2)
    black = label == 0
    assert torch.equal(mixed["image"][black, 0, 0, 0].float(), mixed["soft_label"][black, 1])
    assert len(set(mixed["soft_label"][black, 1].tolist())) > 10


def test_half_of_the_samples_are_pasted_into_and_half_are_blended() -> None:
    batch = shades(count=4096, side=4)
    images = BatchMix(mixup=1.0, cutmix=1.0)({**batch, "label": batch["label"] % 7}, 7)["image"].flatten(1)
    pasted = (images != images[:, :1]).any(1)
    which = uniform(batch["key"], 7, stream=7)[:, 1]
    assert 0.49 < float(which[pasted].max()) < 0.5
