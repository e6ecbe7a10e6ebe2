from __future__ import annotations

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from fer_lightning.class_weights import log_prior
from fer_lightning.data.table.samples import content_digests
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import DataError
from fer_lightning.evaluation.predictions import EvaluationResult, read_predictions, write_predictions
from fer_lightning.evaluation.prior import best_tau, cross_fitted, shifted
from fer_lightning.evaluation.report import report_content, write_report
from fer_lightning.evaluation.spread import Key, Spread, difference, spread
from fer_lightning.runs.lineage import LINEAGE, Node, lineage_text
from fer_lightning.studies.crossval import report as crossval_report
from fer_lightning.studies.crossval.arms import arm_settings, verdict
from fer_lightning.studies.crossval.comparison import Comparison, check_alike, compare, notes_on
from fer_lightning.studies.crossval.page import _gain, _time, page_html, terminal_table
from fer_lightning.studies.crossval.plots import gains_figure, runs_figure
from fer_lightning.studies.crossval.report import write_comparison
from fer_lightning.studies.crossval.run_result import (
    SCORES,
    TRAINED,
    TUNED,
    RunResult,
    group_scores_of,
    read_run,
    scores_of,
)
from tests.helpers.html import PageText
from tests.helpers.predictions import told

NAMES = SEVEN.class_names


def made_run(
    arm: str, key: tuple[int, int], f1: float | None = 0.5, splits: tuple[str, ...] = ("val",), **changes: Any
) -> RunResult:
    """Return a run whose scores all follow from one number."""
    scores: dict[str, float | None] = dict.fromkeys(("accuracy", "f1_macro", "balanced_accuracy"), f1)
    scores |= {"worst_recall": None if f1 is None else f1 / 2, "ece": 0.1}
    for place, name in enumerate(NAMES):
        scores[f"recall_{name}"] = scores[f"f1_{name}"] = None if f1 is None else f1 + (place - 3) / 50
    values: dict[str, Any] = {
        "scores": {split: {TRAINED: scores} for split in splits},
        "taus": {},
        "class_names": NAMES,
        "fingerprints": {"train": f"train {key[0]}", "val": f"val {key[0]}", "test": "test"},
        "counts": {"train": 100, "val": 20, "test": 20},
        "precision": "32-true",
        "monitor": "val_f1_macro",
        "best_epoch": 3,
        "epochs": 5,
        "images": 500,
        "wall_s": 61.0,
    }
    return RunResult(arm, key, Path(arm), **{**values, **changes})


def evaluated(folder: Path, split: str, seed: int = 0, **data: Any) -> EvaluationResult:
    """Write an evaluation of guesses that prefer the last classes, and return it."""
    rng, rows = np.random.default_rng(seed), 140
    target = ((np.arange(rows) + seed) % 7).astype(np.int64)
    logits = rng.normal(size=(rows, 7)) + 2 * np.eye(7)[target] + np.arange(7) / 3
    probs = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    result = EvaluationResult(NAMES, np.arange(rows), target, probs)
    described = {"fingerprints": {"val": "v", "train": "t"}, "counts": {"val": rows}, **data}
    context = {"split": split, "epoch": 4, "devices": "2 x cuda", "precision": "bf16-mixed", "data": described}
    write_report(folder / split, told(result, [f"{row}" for row in range(rows)], "m"), context, pictures=())
    return result


COUNTS: dict[str, Any] = {"class_counts": {"train": dict(zip(NAMES, (30, 5, 40, 80, 40, 30, 60), strict=True))}}


def test_a_run_is_read_back_from_its_folder(tmp_path: Path) -> None:
    counts = COUNTS["class_counts"]["train"]
    turned = {"class_counts": {"train": dict(reversed(counts.items()))}}  # counts belong to names, not to places
    val, test = evaluated(tmp_path, "val", seed=2, **turned), evaluated(tmp_path, "test", seed=1, **turned)
    (tmp_path / "metrics.csv").write_text("epoch,step,val_acc\n0,10,0.1\n1,20,0.2\n2,30,0.3\n")
    config = {
        "checkpoint": {"monitor": "val_f1_macro"},
        "data": {"init_args": {"batch_size": 16}},
        "trainer": {"accumulate_grad_batches": 2},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    run = read_run("plain", (1, 2), tmp_path)
    assert run.scores["val"][TRAINED] == scores_of(report_content(val, {}))
    assert run.scores["test"][TRAINED] == scores_of(report_content(test, {}))
    assert (run.epochs, run.best_epoch, run.monitor, run.precision) == (3, 4, "val_f1_macro", "bf16-mixed")
    assert run.images == 30 * 2 * 16 * 2  # steps, accumulation, batch, devices
    assert run.wall_s is None  # nothing tells
    prior = log_prior(list(counts.values()))
    logs = np.log(read_predictions(tmp_path / "val").probs.astype(np.float64))
    tau, _ = best_tau(logs, val.target, prior)
    assert tau not in (0, *run.taus["val"])
    assert run.taus["test"] == [tau]  # chosen on val alone
    moved = shifted(np.log(test.probs.astype(np.float64)), prior, tau).argmax(1)
    assert run.scores["test"][TUNED]["accuracy"] == pytest.approx((moved == test.target).mean(), abs=1e-5)
    assert len(run.taus["val"]) == 2


def test_without_accumulation_each_step_is_a_batch(tmp_path: Path) -> None:
    evaluated(tmp_path, "val")
    (tmp_path / "metrics.csv").write_text("epoch,step\n0,10\n1,20\n")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"batch_size": 16}}}))
    run = read_run("plain", (0, 0), tmp_path)
    assert (run.images, run.epochs) == (20 * 16 * 2, 2)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_probability_of_zero_does_not_break_tau(tmp_path: Path) -> None:
    result = evaluated(tmp_path, "val", **COUNTS)
    result.probs[:, 1], result.probs[:70, 0] = 0, 1 - result.probs[:70, 2:].sum(1)
    result.probs[70:, 6] = 1 - result.probs[70:, :6].sum(1)
    write_predictions(tmp_path / "val/predictions.csv", told(result, [f"{row}" for row in range(140)], "m"))
    tuned = read_run("plain", (0, 0), tmp_path).scores["val"][TUNED]
    assert tuned["recall_disgust"] == 0
    assert tuned["f1_macro"] is not None


@pytest.mark.parametrize(("ended", "expected"), [("2024-01-01T00:00:30+00:00", 30.0), ("", None)])
def test_the_time_of_a_run_is_known_if_all_its_starts_say_when_they_ended(
    tmp_path: Path, ended: str, expected: float | None
) -> None:
    evaluated(tmp_path, "val")
    first = Node("0", "2024-01-01T00:00:00+00:00", "stopped", ended="2024-01-01T00:00:10+00:00", wall_s=10.0)
    second = Node("1", "2024-01-01T00:00:10+00:00", "killed", ended=ended, wall_s=20.0)
    (tmp_path / LINEAGE).write_text(lineage_text([first, second]))
    assert read_run("plain", (0, 0), tmp_path).wall_s == expected


def test_without_class_counts_nothing_is_tuned(tmp_path: Path) -> None:
    evaluated(tmp_path, "val")
    run = read_run("plain", (0, 0), tmp_path)
    assert set(run.scores["val"]) == {TRAINED}
    assert run.taus == {}


def test_identical_images_choose_for_others_only(tmp_path: Path) -> None:
    evaluated(tmp_path, "val", **COUNTS)
    twins = content_digests(np.repeat(np.arange(70, dtype=np.uint8), 2)[:, None])
    alone = content_digests(np.arange(140, dtype=np.uint8)[:, None])
    saved = read_predictions(tmp_path / "val")
    prior = log_prior(list(COUNTS["class_counts"]["train"].values()))
    for digests in (twins, alone):
        run = read_run("plain", (0, 0), tmp_path, digests)
        moved, taus = cross_fitted(np.log(saved.probs.astype(np.float64)), saved.target, prior, digests)
        assert run.taus["val"] == list(taus)
        assert run.scores["val"][TUNED]["accuracy"] == pytest.approx((moved.argmax(1) == saved.target).mean(), abs=1e-5)
    apart, together = read_run("plain", (0, 0), tmp_path), read_run("plain", (0, 0), tmp_path, twins)
    assert apart.scores["val"][TRAINED] == together.scores["val"][TRAINED]
    assert apart.scores["val"][TUNED] != together.scores["val"][TUNED]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "val" / "report.json").unlink(), "report.json cannot be read"),
        (lambda folder: (folder / "val" / "report.json").write_text("{}"), "is not the report of an evaluation"),
        (lambda folder: (folder / "val" / "predictions.csv").write_text("file\nx\n"), "is no table of predictions"),
        (lambda folder: (folder / "val" / "predictions.csv").unlink(), "predictions.csv cannot be read"),
    ],
)
def test_a_damaged_run_is_named(tmp_path: Path, damage: Any, message: str) -> None:
    evaluated(tmp_path, "val", **COUNTS)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        read_run("plain", (0, 0), tmp_path)


def test_the_worst_class_is_the_one_that_is_known_and_lowest() -> None:
    report = report_content(
        EvaluationResult(NAMES, np.arange(4), np.array([0, 0, 1, 2]), np.eye(7, dtype=np.float32)[[0, 1, 1, 2]]), {}
    )
    scores = scores_of(report)
    assert scores["worst_recall"] == 0.5
    assert scores["recall_neutral"] is None
    assert scores["recall_angry"] == 0.5
    assert scores["f1_angry"] == scores["f1_disgust"] == pytest.approx(2 / 3, rel=1e-5)


def test_unlike_runs_are_refused() -> None:
    one = made_run("a", (0, 0))
    check_alike(made_run("b", (0, 0), fingerprints={"train": "another", "val": "val 0"}), one)
    with pytest.raises(DataError, match="arms 'a' and 'b' cannot be compared: they are evaluated on other val images"):
        check_alike(made_run("b", (0, 0), fingerprints={"val": "another"}), one)
    with pytest.raises(DataError, match="classes angry"):
        check_alike(made_run("b", (0, 0), class_names=("yes", "no")), one)
    tested = replace(one, scores={"val": {}, "test": {}})
    with pytest.raises(DataError, match="other test images"):
        check_alike(replace(tested, arm="b", fingerprints={"val": "val 0", "test": "another"}), tested)
    check_alike(replace(tested, arm="b", fingerprints={"val": "val 0", "test": "another"}), one)  # not tested both
    check_alike(one, replace(tested, arm="b", fingerprints={"val": "val 0", "test": "another"}))
    with pytest.raises(DataError, match="no run is finished"):
        compare("study", ["a"], [])


def test_folds_are_compared_with_themselves() -> None:
    runs = [
        made_run(arm, (fold, 0), 0.5 + fold / 10 + gain) for arm, gain in (("a", 0), ("b", 0.02)) for fold in (0, 1)
    ]
    found = compare("study", ["a", "b"], runs, folds=2)
    gain = found.differences["val"][TRAINED]["f1_macro"]["b"]
    assert gain.mean == pytest.approx(0.02)
    assert gain.std == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match="other val images"):
        compare("study", ["a", "b"], [*runs, made_run("b", (0, 1), fingerprints={"val": "else"})], folds=2)


@pytest.mark.parametrize("folds", [None, 3])
def test_tables_hold_the_spread_of_each_arm_and_of_its_difference_to_the_first(folds: int | None) -> None:
    rng = np.random.default_rng(0)
    keys = [(fold, seed) for fold in range(3 if folds else 1) for seed in range(2)]
    runs = [made_run(arm, key, 0.5 + rng.normal() / 20) for arm in ("a", "b", "c") for key in keys]
    found = compare("study", ["a", "b", "c"], runs, folds)
    values = {arm: {run.key: run.scores["val"][TRAINED]["f1_macro"] for run in runs if run.arm == arm} for arm in "abc"}
    table = found.scores["val"][TRAINED]["f1_macro"]
    assert table == {arm: spread(values[arm], folds) for arm in "abc"}
    gains = found.differences["val"][TRAINED]["f1_macro"]
    assert gains == {arm: difference(values[arm], values["a"], folds) for arm in "bc"}
    assert found.values("val", TRAINED, "f1_macro", "b") == values["b"]
    assert found.seeds == (0, 1)


def test_one_run_is_not_given_a_deviation(tmp_path: Path) -> None:
    found = compare("study", ["a"], [made_run("a", (0, 0), 0.5)])
    page = page_html(found, notes_on(found), {})
    assert "50.00 ± n/a" in page
    assert "± 0" not in page
    assert "50.00 ± n/a" in terminal_table(found)
    write_comparison(found, tmp_path)
    rows = list(csv.DictReader((tmp_path / "crossval.csv").open()))
    assert {row["std"] for row in rows} == {""}
    assert not (tmp_path / "gains.png").exists()


def test_the_page_says_what_was_seen_by_whom() -> None:
    seeds = compare("s", ["a"], [made_run("a", (0, seed)) for seed in range(2)])
    assert any("All scores are on the validation images" in note for note in notes_on(seeds))
    tested = compare("s", ["a"], [made_run("a", (0, seed), splits=("val", "test")) for seed in range(2)])
    assert any("images that chose nothing" in note for note in notes_on(tested))
    assert tested.main_split == "test"
    assert "Scores on test" in page_html(tested, [], {})
    folded = compare("s", ["a"], [made_run("a", (fold, 0)) for fold in range(3)], folds=3)
    assert any("Nadeau and Bengio" in note for note in notes_on(folded))


def test_unequal_shares_are_told() -> None:
    def notes(**changes: Any) -> str:
        runs = [made_run("a", (0, 0)), made_run("b", (0, 0), **changes)]
        return " ".join(notes_on(compare("s", ["a", "b"], runs)))

    assert "All arms drew as many training images (500 a run)" in notes()
    assert "did not have equal shares" in notes(images=1000)
    assert "b trains on other images than a (70 against 100)" in notes(
        fingerprints={"train": "x", "val": "val 0"}, counts={"train": 70}
    )
    assert "different metrics (val_acc, val_f1_macro)" in notes(monitor="val_acc")
    assert "different precisions (32-true, bf16-mixed)" in notes(precision="bf16-mixed")


def test_unknown_scores_are_not_zero(tmp_path: Path) -> None:
    runs = [made_run("a", (0, 0)), made_run("b", (0, 0), None)]
    found = compare("s", ["a", "b"], runs)
    assert "n/a" in page_html(found, [], {})
    write_comparison(found, tmp_path)
    values = json.loads((tmp_path / "crossval.json").read_text())
    assert values["scores"]["val"][TRAINED]["f1_macro"]["b"]["mean"] is None


def test_names_cannot_break_the_page() -> None:
    runs = [made_run(arm, (0, 0)) for arm in ("a<b", "c&d")]
    page = page_html(compare("<script>s", ["a<b", "c&d"], runs), [], {})
    assert "c&amp;d" in page
    assert "Differences to a&lt;b" in page
    assert "<h1>&lt;script&gt;s</h1>" in page
    assert "<script>" not in page


@pytest.mark.parametrize("arms", [1, 2, 9])
def test_pictures_show_every_arm(tmp_path: Path, arms: int) -> None:
    rng = np.random.default_rng(0)
    names = [f"arm {number} with a rather long name" for number in range(arms)]
    runs = [
        made_run(arm, (fold, seed), 0.55 + place / 100 + rng.normal() / 100)
        for place, arm in enumerate(names)
        for fold in range(3)
        for seed in range(2)
    ]
    paths = write_comparison(compare("study", names, runs, folds=3), tmp_path)
    heights = {}
    for name in ("scores", *(("gains",) if arms > 1 else ())):
        with Image.open(paths[name]) as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # not blank
            heights[name] = picture.height
    assert heights["scores"] > 90 * arms


def test_every_number_of_a_comparison_is_in_its_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = [(fold, seed) for fold in range(3) for seed in range(2)]
    runs = [made_run(arm, key, 0.5 + rng.normal() / 20) for arm in ("a", "b") for key in keys]
    found = compare("study", ["a", "b"], runs, folds=3)
    write_comparison(found, tmp_path)
    rows = {(row["score"], row["arm"]): row for row in csv.DictReader((tmp_path / "crossval.csv").open())}
    names = [*SCORES, *(f"{kind}_{name}" for kind in ("recall", "f1") for name in NAMES)]
    assert list(rows) == [(score, arm) for score in names for arm in "ab"]
    for (score, arm), row in rows.items():
        here = found.scores["val"][TRAINED][score][arm]
        gain = found.differences["val"][TRAINED][score].get(arm)
        numbers = {name: getattr(here, name) for name in ("mean", "std", "low", "high")}
        numbers |= {f"difference{end}": gain and getattr(gain, name) for end, name in ENDS.items()}
        numbers |= {name: gain and getattr(gain, name) for name in ("p", "above", "below")}
        assert {name: row[name] for name in numbers} == {
            name: "" if value is None else f"{value:.6g}" for name, value in numbers.items()
        }
        assert row["runs"] == "6"
    told = terminal_table(found)
    here = found.scores["val"][TRAINED]["f1_macro"]["b"]
    assert here.mean is not None
    assert here.std is not None
    assert f"{100 * here.mean:.2f} ± {100 * here.std:.2f}" in told
    stored = json.loads((tmp_path / "crossval.json").read_text())
    assert [(each["arm"], each["fold"], each["seed"]) for each in stored["runs"]] == [
        (run.arm, *run.key) for run in runs
    ]
    gain = found.differences["val"][TRAINED]["ece"]["b"]
    assert stored["differences"]["val"][TRAINED]["ece"]["b"] == asdict(gain)
    assert (stored["reference"], stored["folds"], stored["seeds"]) == ("a", 3, [0, 1])
    [first, *_] = csv.DictReader((tmp_path / "runs.csv").open())
    expected = {"arm": "a", "fold": "0", "seed": "0", "images": "20", "epochs": "5", "best_epoch": "3"}
    expected |= {
        "images_drawn": "500",
        "seconds": "61.0",
        "fingerprint": "val 0",
        "folder": "a",
        "f1_macro": f"{runs[0].scores['val'][TRAINED]['f1_macro']:.6g}",
    }
    assert {name: first[name] for name in expected} == expected


def test_differences_are_points_and_better_means_less_for_an_error() -> None:
    gain = Spread(4, 0.0123, 0.01, -0.004, 0.02, 0.2, above=3, below=1)
    assert _gain(gain, less_is_better=False) == ["+1.23", "-0.40 to +2.00", "0.200", "3 of 4"]
    assert _gain(gain, less_is_better=True)[3] == "1 of 4"
    assert _gain(replace(gain, p=0.0009, low=None), less_is_better=False)[1:3] == ["n/a", "< 0.001"]
    assert _gain(replace(gain, p=0.001), less_is_better=False)[2] == "0.001"
    assert _time(made_run("a", (0, 0), wall_s=3725.4)) == "1:02:05"


def test_pictures_of_a_comparison_are_drawn_from_its_numbers() -> None:
    values: dict[str, dict[Key, float | None]] = {"a": {(0, 0): 0.5, (0, 1): 0.6}, "b": {(0, 0): 0.7, (0, 1): None}}
    spreads = {arm: spread(of_arm) for arm, of_arm in values.items()}
    [axes] = runs_figure({"macro F1": values}, {"macro F1": spreads}, "study", "val").axes
    dots = [np.asarray(found.get_offsets()) for found in axes.collections]
    assert [found[:, 0].tolist() for found in dots] == [[50.0, 60.0], [70.0]]
    assert [found[:, 1].round().tolist() for found in dots] == [[0.0, 0.0], [1.0]]
    lines = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    low, high = spreads["a"].low, spreads["a"].high
    assert low is not None
    assert high is not None
    assert lines == [[50.0, 70.0], pytest.approx([100 * low, 100 * high]), pytest.approx([55.0]), [70.0]]
    sure, unsure = Spread(3, 0.02, 0.01, 0.01, 0.03), Spread(3, -0.02, 0.01, -0.05, 0.01)
    worse = Spread(3, -0.02, 0.01, -0.05, -0.01)
    gains = {"b": {"x": sure, "y": unsure, "z": worse}}
    [axes] = gains_figure(gains, ["x", "y", "z"], "a", "study", "val").axes
    told = {text.get_position(): (text.get_text(), text.get_fontweight()) for text in axes.texts[:3]}
    assert told == {(0, 0): ("+2.0", "bold"), (1, 0): ("-2.0", "normal"), (2, 0): ("-2.0", "bold")}


ENDS = {"": "mean", "_low": "low", "_high": "high"}


def test_every_number_of_a_comparison_is_on_its_page() -> None:
    def run(arm: str, seed: int, f1: float, ece: float, **changes: Any) -> RunResult:
        made = made_run(arm, (2, seed), f1, **changes)
        scores = {**made.scores["val"][TRAINED], "accuracy": f1 + 0.1, "balanced_accuracy": f1 + 0.2, "ece": ece}
        return replace(made, scores={"val": {TRAINED: scores}})

    runs = [
        *(run("a", 0, 0.50, 0.10, taus={"val": [0.25, -0.5]}, wall_s=None), run("a", 1, 0.52, 0.12)),
        *(run("b", 0, 0.56, 0.07, epochs=1200, images=57_000), run("b", 1, 0.60, 0.11, best_epoch=None)),
    ]
    found = compare("study", ["a", "b"], runs, folds=5)
    text = page_html(found, ["a note"], {"scores": ("<svg/>", "Each run.")})
    page = PageText(text)
    scores, differences, recall, f1, listed = page.tables
    assert scores == [
        ["arm", "macro F1", "accuracy", "balanced accuracy", "worst class", "ECE", "runs"],
        ["a", "51.00 ± 1.41", "61.00 ± 1.41", "71.00 ± 1.41", "25.50 ± 0.71", "11.00 ± 1.41", "2"],
        ["b", "58.00 ± 2.83", "68.00 ± 2.83", "78.00 ± 2.83", "29.00 ± 1.41", "9.00 ± 2.83", "2"],
    ]
    assert differences == [
        ["arm", "score", "difference", "95 % interval", "p", "better in"],
        *(["b", score, "+7.00", "n/a", "n/a", "2 of 2"] for score in ("macro F1", "accuracy", "balanced accuracy")),
        ["b", "worst class", "+3.50", "n/a", "n/a", "2 of 2"],
        ["b", "ECE", "-2.00", "n/a", "n/a", "2 of 2"],
    ]
    of_a = [f"{51 + 2 * (place - 3):.1f}" for place in range(7)]
    of_b = [f"{58 + 2 * (place - 3):.1f} (+7.0)" for place in range(7)]
    assert recall == f1 == [["arm", *NAMES], ["a", *of_a], ["b", *of_b]]
    assert listed == [
        [
            *("arm", "fold", "seed", "macro F1 on val", "accuracy on val", "tau", "best epoch", "epochs"),
            *("images drawn", "time"),
        ],
        ["a", "2", "0", "50.00", "60.00", "0.25, -0.5", "3", "5", "500", "n/a"],
        ["a", "2", "1", "52.00", "62.00", "n/a", "3", "5", "500", "0:01:01"],
        ["b", "2", "0", "56.00", "66.00", "n/a", "3", "1,200", "57,000", "0:01:01"],
        ["b", "2", "1", "60.00", "70.00", "n/a", "n/a", "5", "500", "0:01:01"],
    ]
    assert "2 arms, 5 folds, seeds 0, 1: 4 runs." in page.words
    assert "a note" in page.words
    assert "Differences to a, in points:" in page.words
    section = text[text.index('<section id="val-as-trained">') :]
    assert "<figcaption>Each run.</figcaption>" in section[: section.index("</section>")]


def test_classes_are_told_by_recall_and_by_f1_and_intervals_by_both_ends() -> None:
    def run(arm: str, seed: int, f1: float) -> RunResult:
        made = made_run(arm, (0, seed), f1, splits=("val", "test"))
        test = {**made.scores["test"][TRAINED], "f1_angry": 0.9, "f1_macro": f1 - 0.1}
        return replace(made, scores={"val": made.scores["val"], "test": {TRAINED: test, TUNED: {**test, "ece": 0.2}}})

    runs = [run("a", seed, 0.5 + seed / 100) for seed in range(3)]
    found = compare("study", ["a"], runs, missing=[("a", 0, 7)])
    assert found.seeds == (0, 1, 2, 7)
    page = PageText(page_html(found, [], {}))
    [trained, tuned, val, recall, f1, _] = page.tables
    assert trained[1][1] == "41.00 ± 1.00\n38.52 to 43.48"
    assert trained[1][:5] == tuned[1][:5]
    assert val[1][1].startswith("51.00")
    assert (recall[1][1], f1[1][1]) == ("45.0", "90.0")
    titles = ("Scores on test, as trained", "Scores on test, tau tuned", "Scores on val, as trained")
    assert [page.words.index(title) for title in titles] == sorted(page.words.index(title) for title in titles)
    told = terminal_table(found)
    assert "test images, %: mean ± deviation over seeds 0, 1, 2, 7" in told
    assert told.count("41.00 ± 1.00") == 2
    assert "Not finished, and not in these numbers: a fold 0 seed 7." in notes_on(found)


def test_notes_of_several_arms_and_of_shares_that_vary() -> None:
    def notes(*runs: RunResult) -> str:
        return " ".join(notes_on(compare("s", sorted({run.arm for run in runs}), runs)))

    assert "of twenty equal arms" not in notes(made_run("a", (0, 0)), made_run("b", (0, 0)))
    assert "of twenty equal arms" in notes(*(made_run(arm, (0, 0)) for arm in "abc"))
    drawn = [made_run(arm, (0, seed), images=seed * 1000 + 700) for arm in "ab" for seed in range(3)]
    told = notes(*drawn)
    assert "Training images drawn in a run: a 700 to 2,700; b 700 to 2,700." in told
    assert "did not have equal shares" not in told
    assert "a 700 to 2,700; b 9. The arms did not have equal shares" in notes(
        *drawn[:3], made_run("b", (0, 0), images=9)
    )
    assert "chosen by val_f1_macro on its validation images" in told
    assert "as best on" in notes(made_run("a", (0, 0), monitor=""))


@pytest.mark.parametrize(
    ("folds", "arms", "seeds", "told"),
    [
        (None, "ab", 2, "test images; dots: runs, diamonds: means with 95% interval over seeds"),
        (3, "a", 2, "test images; dots: runs, diamonds: means with 95% interval over folds"),
        (None, "ab", 1, "test images; dots: runs, diamonds: means"),
    ],
)
def test_the_picture_says_what_its_intervals_are_over(
    folds: int | None, arms: str, seeds: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr(crossval_report, "figure_png", lambda _: b"")
    monkeypatch.setattr(crossval_report, "figure_svg", lambda *_: "")
    for name in ("runs_figure", "gains_figure"):
        monkeypatch.setattr(crossval_report, name, lambda *what, name=name: given.setdefault(name, what))
    runs = [made_run(arm, (0, seed), 0.4 + seed / 9, splits=("val", "test")) for arm in arms for seed in range(seeds)]
    for run in runs[seeds:]:
        run.scores["test"][TRAINED]["f1_angry"] = 0.9  # unlike its recall
    found = compare("study", list(arms), runs, folds)
    write_comparison(found, tmp_path)
    values, spreads, title, subtitle = given["runs_figure"]
    assert (title, subtitle) == ("study", told)
    assert list(values) == list(spreads) == ["macro F1", "accuracy"]
    assert values["macro F1"]["a"] == {(0, seed): 0.4 + seed / 9 for seed in range(seeds)}
    assert spreads["accuracy"]["a"] == found.scores["test"][TRAINED]["accuracy"]["a"]
    if len(arms) > 1:
        gains, names, reference, _, subtitle = given["gains_figure"]
        assert (names, reference, subtitle) == (NAMES, "a", "test images")
        assert gains == {"b": {name: found.differences["test"][TRAINED][f"recall_{name}"]["b"] for name in NAMES}}
    else:
        assert "gains_figure" not in given


def test_runs_are_listed_with_the_tau_and_the_images_of_each_split(tmp_path: Path) -> None:
    made = made_run("a", (1, 2), splits=("val", "test"))
    scores = {split: {TRAINED: of_split[TRAINED], TUNED: of_split[TRAINED]} for split, of_split in made.scores.items()}
    taus, counts = {"val": [0.25, -0.5], "test": [0.75]}, {"train": 100, "val": 20, "test": 30}
    write_comparison(compare("s", ["a"], [replace(made, scores=scores, taus=taus, counts=counts)]), tmp_path)
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [[row[name] for name in ("split", "decision", "tau", "images", "fingerprint")] for row in rows] == [
        ["val", TRAINED, "", "20", "val 1"],
        ["val", TUNED, "0.25 -0.5", "20", "val 1"],
        ["test", TRAINED, "", "30", "test"],
        ["test", TUNED, "0.75", "30", "test"],
    ]


def test_gains_are_blue_and_losses_red() -> None:
    gains = {"b": {"x": Spread(1, 0.02, None, None, None), "y": Spread(1, -0.02, None, None, None)}}
    gains["b"]["z"] = Spread(0, None, None, None, None)
    [axes] = gains_figure(gains, ["x", "y", "z"], "a", "study", "val").axes
    more, less, unknown = np.asarray(axes.images[0].get_array())[0, :, :3]
    assert more[2] > more[0]
    assert less[0] > less[2]
    assert unknown[0] == unknown[1] == unknown[2]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]


def test_the_first_arm_is_on_top_and_each_has_its_own_colour() -> None:
    values: dict[str, dict[Key, float | None]] = {"a": {(0, 0): 0.5, (0, 1): 0.6}, "b": {(0, 0): 0.7, (0, 1): 0.8}}
    spreads = {arm: spread(of_arm) for arm, of_arm in values.items()}
    [axes] = runs_figure({"macro F1": values}, {"macro F1": spreads}, "study", "val").axes
    lower, upper = axes.get_ylim()
    assert lower > upper
    places = [np.asarray(found.get_offsets())[:, 1] for found in axes.collections]
    np.testing.assert_allclose(places, [[-0.34, 0.06], [0.66, 1.06]])  # the runs of a row one below the other
    colors = [tuple(np.asarray(found.get_facecolor())[0]) for found in axes.collections]
    assert colors[0] != colors[1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def arms_of(gains: dict[str, list[float]], **changes: Any) -> Comparison:
    """Return a comparison of an arm ``a`` and others whose runs exceed its runs by so much."""
    base = [0.5, 0.53, 0.49, 0.52, 0.51][: len(next(iter(gains.values())))]
    more = {"a": [0.0] * len(base), **gains}
    runs = [made_run(arm, (0, seed), base[seed] + gain) for arm in more for seed, gain in enumerate(more[arm])]
    return compare("s", list(more), runs, **changes)


def test_the_verdict_names_the_arms_that_differ_and_what_would_tell_more() -> None:
    sure, unsure = [0.05, 0.051, 0.049, 0.05, 0.052], [0.02, -0.02, 0.01, -0.01, 0.005]
    found = arms_of({"b": sure})
    assert verdict(found).startswith(
        "On val, b has 5.0 points more macro F1 than a (95 % interval +4.9 to +5.2, p < 0.001)."
    )
    assert verdict(arms_of({"b": [-gain for gain in sure]})).startswith("On val, b has 5.0 points less macro F1 than a")
    told = verdict(arms_of({"b": unsure}))
    assert told.startswith(
        "On val, no difference in macro F1 between a and b is shown: b minus a is +0.1 points (95 % interv"
    )
    assert "take" not in told
    assert verdict(arms_of({"b": unsure, "c": sure})).endswith("; no difference to a in macro F1 is shown for b.")
    assert "with 2 seeds an interval is nearly always that wide: take 5." in verdict(arms_of({"b": unsure[:2]}))
    assert "one run of each arm tells nothing: take --seeds 0,1,2,3,4." in verdict(arms_of({"b": [0.1]}))
    assert "is +10.0 points; one run" in verdict(arms_of({"b": [0.1]}))
    alone = compare("s", ["a"], [made_run("a", (0, seed), 0.5 + seed / 100) for seed in range(3)])
    assert verdict(alone) == "a has a macro F1 of 51.0% on val (95 % interval 48.5% to 53.5%)."
    assert verdict(compare("s", ["a"], [made_run("a", (0, 0), 0.5)])) == "a has a macro F1 of 50.0% on val."


def test_the_verdict_is_corrected_for_the_number_of_arms() -> None:
    nearly = [0.02, 0.005, 0.03, 0.001, 0.02]
    p = arms_of({"b": nearly}).differences["val"][TRAINED]["f1_macro"]["b"].p
    assert p is not None
    assert 0.025 < p < 0.05
    assert "b has" in verdict(arms_of({"b": nearly}))
    assert "is shown for b and c" in verdict(arms_of({"b": nearly, "c": [0.01, -0.01, 0.01, -0.01, 0.0]}))


def test_the_page_begins_with_verdict_and_what_the_arms_differ_in(tmp_path: Path) -> None:
    found = arms_of({"b": [0.1]}, settings={"model.lr": {"a": "0.1", "b": "0.2"}}, missing=[("b", 0, 1)])
    page = PageText(page_html(found, ["a note"], {}))
    assert page.tables[0] == [["option", "a", "b"], ["model.lr", "0.1", "0.2"]]
    order = [
        page.words.rindex(text) for text in (verdict(found), "1 of 3 runs are not finished.", "Scores on", "a note")
    ]
    assert order == sorted(order)
    write_comparison(found, tmp_path)
    stored = json.loads((tmp_path / "crossval.json").read_text())
    assert stored["settings"] == {"model.lr": {"a": "0.1", "b": "0.2"}}
    assert stored["verdict"] == verdict(found)
    assert terminal_table(found).endswith(f"\n{verdict(found)}\n")


def test_what_arms_differ_in_is_listed_by_option() -> None:
    def values(optimizer: dict[str, Any], **model: Any) -> dict[str, Any]:
        return {"name": "x", "model": {"optimizer": optimizer, **model}, "trainer": {"max_epochs": 3, "devices": 1}}

    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "foreach": None, "amsgrad": False}}
    faster = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.2, "foreach": None, "amsgrad": False}}
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.3, "nesterov": True}}
    found = arm_settings({"a": values(adam, tau=1), "b": values(faster, tau=1), "c": values(sgd, tau=2)})
    assert found == {
        "model.optimizer": {"a": "Adam(lr=0.1)", "b": "Adam(lr=0.2)", "c": "SGD(lr=0.3, nesterov=true)"},
        "model.tau": {"a": "1", "b": "1", "c": "2"},
    }


def test_intervals_hold_only_values_that_a_score_can_have() -> None:
    runs = [made_run(arm, (0, seed), value) for arm in "ab" for seed, value in enumerate([0.02, 0.9])]
    found = compare(
        "s",
        ["a", "b"],
        [*runs[:2], *(replace(run, scores=runs[1 - place].scores) for place, run in enumerate(runs[2:]))],
    )
    score, gain = found.scores["val"][TRAINED]["f1_macro"]["a"], found.differences["val"][TRAINED]["f1_macro"]["b"]
    assert (score.low, score.high) == (0, 1)
    assert (gain.low, gain.high) == (-1, 1)


def test_tables_that_would_repeat_others_are_left_out() -> None:
    made = made_run("a", (0, 0))
    same = {TRAINED: made.scores["val"][TRAINED], TUNED: made.scores["val"][TRAINED]}
    found = compare("s", ["a"], [replace(made, scores={"val": same})])
    assert found.decisions("val") == (TRAINED,)
    page = PageText(page_html(found, notes_on(found), {}))
    assert "tau tuned" not in page.words
    assert "Choosing tau changes no score" in page.words
    assert "tau tuned" not in terminal_table(found)
    nearly = {TRAINED: {**same[TRAINED], "group_gap": 0.2, "worst_group": 0.3}, TUNED: {**same[TUNED], "ece": 0.100001}}
    assert compare("s", ["a"], [replace(made, scores={"val": nearly})]).decisions("val") == (TRAINED,)
    other = {**same, TUNED: {**same[TUNED], "ece": 0.3}}
    assert compare("s", ["a"], [replace(made, scores={"val": other})]).decisions("val") == (TRAINED, TUNED)


def test_runs_whose_data_names_groups_have_scores_of_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    group, target = rng.choice(["a", "b"], 700), np.arange(700) % 7
    right = rng.random(700) < np.where(group == "a", 0.9, 0.6)
    probs = np.full((700, 7), 0.1, np.float32)
    probs[np.arange(700), np.where(right, target, (target + 1) % 7)] = 0.4
    result = EvaluationResult(NAMES, np.arange(700), target, probs)
    few = np.where(np.arange(700) < 5, "rare", "many")
    predictions = told(result, [str(row) for row in range(700)], "m", groups={"group": group, "few": few})
    context = {"split": "val", "data": {"fingerprints": {}, "counts": {}}}
    write_report(tmp_path / "val", predictions, context, pictures=())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"groups": ["group"]}}}))
    run = read_run("plain", (0, 0), tmp_path)
    scores = run.scores["val"][TRAINED]
    accuracies = {name: standardised_accuracy(right[group == name], target[group == name], target) for name in "ab"}
    assert scores["worst_group"] == pytest.approx(accuracies["b"])
    assert scores["group_gap"] == pytest.approx(accuracies["a"] - accuracies["b"])
    assert group_scores_of(predictions, ["few"]) == {"worst_group": None, "group_gap": None}
    assert group_scores_of(predictions, ["few", "group"])["worst_group"] is not None
    assert group_scores_of(predictions, ["unknown"]) == {"worst_group": None, "group_gap": None}
    other = replace(run, arm="other", scores={"val": {TRAINED: {**scores, "group_gap": 0.1}}})
    found = compare("s", ["plain", "other"], [run, other])
    tables = PageText(page_html(found, [], {})).tables
    assert tables[0][0][-3:] == ["worst group", "group gap", "runs"]
    gap = next(row for row in tables[1] if row[1] == "group gap")
    assert gap[2].startswith("-")
    assert gap[-1] == "1 of 1"  # less is better
    assert "group gap" in terminal_table(found)
    assert "worst group" not in PageText(page_html(compare("s", ["a"], [made_run("a", (0, 0))]), [], {})).tables[0][0]


def standardised_accuracy(right: NDArray[np.bool_], target: NDArray[np.int64], everyone: NDArray[np.int64]) -> float:
    shares = np.bincount(everyone, minlength=7) / len(everyone)
    return float(sum(shares[label] * right[target == label].mean() for label in range(7)))
