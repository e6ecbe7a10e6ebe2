"""Which class a name on the command line means, read off source files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_lightning.cli.class_names import Named, looked_up, no_class
from fer_lightning.cli.known_options import FAMILIES
from fer_lightning.errors import ConfigError


def test_a_class_that_is_defined_somewhere_inside_may_be_meant() -> None:
    losses = FAMILIES["model.loss"]
    assert "_WeightedLoss" not in losses.classes
    assert looked_up("model.loss", "_WeightedLoss", "X", own_classes=False) == Named(None, "_WeightedLoss")
    assert looked_up("model.loss", "Zzzz", "X", own_classes=True) == Named(None, "Zzzz")
    assert looked_up("model.loss", "FocalLoss", "X", own_classes=False) == Named(
        losses.classes["FocalLoss"], "FocalLoss"
    )
    assert looked_up("other.option", "Zzzz", "X", own_classes=False) == Named(None, "Zzzz")
    listed = no_class(losses, "Zzzzqq").partition("there are ")[2].partition(" (a class")[0].split(", ")
    assert listed == sorted(losses.classes)[:16]


def test_a_module_that_makes_its_names_may_have_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_at_once.py").write_text("def __getattr__(name): ...\n")
    (tmp_path / "spelt_out.py").write_text("class Thing: ...\ndef think(): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = looked_up("model.loss", "made_at_once.Anything", "X", own_classes=False)
    assert found == Named(None, "Anything")
    found = looked_up("model.loss", "spelt_out.Thing", "X", own_classes=False)
    assert found == Named("spelt_out.Thing", "Thing")
    for name, hint in (("Thinq", "; did you mean 'spelt_out.Thing'?"), ("thing", "; did you mean 'spelt_out.think'?")):
        with pytest.raises(ConfigError) as told:
            looked_up("model.loss", f"spelt_out.{name}", "X", own_classes=False)
        assert str(told.value) == f"X: spelt_out has no '{name}'{hint}"


@pytest.mark.parametrize(
    ("option", "name", "path"),
    [
        ("model.loss", "AsymmetricLossMultiLabel", "timm.loss.AsymmetricLossMultiLabel"),
        ("model.optimizer", "Lookahead", "timm.optim.Lookahead"),
        ("model.head", "DropBlock2d", "timm.layers.DropBlock2d"),
    ],
)
def test_a_class_of_timm_is_named_by_its_path(option: str, name: str, path: str) -> None:
    assert no_class(FAMILIES[option], name).endswith(f"did you mean {path}?")
