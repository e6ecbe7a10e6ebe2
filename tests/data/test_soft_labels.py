from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fer_lightning.data.table.samples import SamplesTable
from fer_lightning.data.table.soft_labels import (
    declared,
    read_soft_labels,
    read_teachers,
    with_soft_labels,
    write_soft_labels,
)
from fer_lightning.emotions import SEVEN
from fer_lightning.errors import ConfigError, DataError
from fer_lightning.evaluation.predictions import predictions_of, write_predictions
from fer_lightning.runs.trained_on import TrainedOn, digest_numbers
from tests.helpers.cli import fit
from tests.helpers.data import StripesDataModule, stripes_table

COUNTS = {"train": 14, "val": 7, "test": 7}
NAMES = SEVEN.class_names


def probabilities(count: int, seed: int = 0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).random((count, 7)) + 0.01
    shares: NDArray[np.float32] = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return shares


def table(soft: bool = False) -> SamplesTable:
    return stripes_table(COUNTS, soft=soft)


def write_csv(path: Path, key: str, names: list[str], values: NDArray[Any], columns: tuple[str, ...] = NAMES) -> str:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow([key, "note", *(f"p_{name}" for name in columns)])
        writer.writerows([[name, "x", *row] for name, row in zip(names, values.tolist(), strict=True)])
    return str(path)


def targets(samples: SamplesTable) -> NDArray[np.float32]:
    assert samples.soft_labels is not None
    return samples.soft_labels


def test_our_own_predictions_are_read(tmp_path: Path) -> None:
    samples, values = table(), probabilities(28)
    rows = np.arange(28)[::-1].copy()
    told = predictions_of(samples, rows, values, "train", "some.ckpt")
    path = write_predictions(tmp_path / "predictions.csv", told)
    found = targets(with_soft_labels(samples, "target", [str(path)])[0])
    np.testing.assert_allclose(found[:14], values[::-1][:14], atol=1e-5)
    np.testing.assert_array_equal(found[14:], np.eye(7)[samples.labels[14:]])  # evaluation sees labels alone


def test_the_files_of_several_folds_go_together(tmp_path: Path) -> None:
    samples, values = table(), probabilities(14)
    files = list(samples.files[:14])
    paths = [
        write_csv(tmp_path / "a.csv", "file", files[:6], values[:6]),
        write_csv(tmp_path / "b.csv", "path", files[6:], values[6:]),
    ]
    found = targets(with_soft_labels(samples, "target", paths)[0])
    np.testing.assert_allclose(found[:14], values, atol=1e-6)


def test_labels_may_have_a_share_in_the_targets(tmp_path: Path) -> None:
    samples, values = table(), probabilities(14)
    path = write_csv(tmp_path / "a.csv", "file", list(samples.files[:14]), values)
    found = targets(with_soft_labels(samples, "target", [path], 0.75)[0])
    labels = np.eye(7)[samples.labels]
    np.testing.assert_allclose(found[:14], 0.75 * values + 0.25 * labels[:14], atol=1e-6)
    np.testing.assert_array_equal(found[14:], labels[14:])
    for weight in (0.0, -1.0, 1.01, math.nan):
        with pytest.raises(ConfigError, match="weight must be above 0 and at most 1, not"):
            with_soft_labels(samples, "target", [path], weight)
    with pytest.raises(ConfigError, match="name that file too"):
        with_soft_labels(samples, "target", [], 0.5)


def test_rows_are_matched_by_digest_whatever_their_names(tmp_path: Path) -> None:
    samples, values = table(), probabilities(14)
    digests = samples.digests[:14][::-1]
    as_hex = [bytes(digest).hex().upper() for digest in digests]
    in_csv = write_csv(tmp_path / "a.csv", "digest", as_hex, values[::-1])
    np.savez(tmp_path / "a.npz", digests=digests, probabilities=values[::-1], class_names=np.array(NAMES))
    for path in (in_csv, str(tmp_path / "a.npz")):
        found = targets(with_soft_labels(samples, "target", [path])[0])
        np.testing.assert_allclose(found[:14], values, atol=1e-6)
    text = (tmp_path / "a.csv").read_text().replace("digest,note", "digest,file").replace(",x,", ",of elsewhere,")
    (tmp_path / "both.csv").write_text(text)
    found = targets(with_soft_labels(samples, "target", [str(tmp_path / "both.csv")])[0])
    np.testing.assert_allclose(found[:14], values, atol=1e-6)


def test_columns_are_matched_by_name(tmp_path: Path) -> None:
    samples, values = table(), probabilities(14)
    turned = ("Happiness", "anger", "disgust", "fear", "sadness", "surprised", "neutral")
    order = [3, 0, 1, 2, 4, 5, 6]
    path = write_csv(tmp_path / "a.csv", "file", list(samples.files[:14]), values[:, order], turned)
    np.testing.assert_allclose(targets(with_soft_labels(samples, "target", [path])[0])[:14], values, atol=1e-6)


def test_spaces_capitals_empty_lines_and_a_mark_at_the_beginning_do_not_matter(tmp_path: Path) -> None:
    samples, values = table(), probabilities(14)
    lines = ["\ufeffFile, Digest ," + ",".join(f"P_{name}" for name in NAMES), ""]
    for digest, row in zip(samples.digests[:14], values.tolist(), strict=True):  # a digest goes before a name
        lines += [f"other.png, {bytes(digest).hex()} ,{','.join(map(str, row))}", ""]
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8")
    found = targets(with_soft_labels(samples, "target", [str(tmp_path / "a.csv")])[0])
    np.testing.assert_allclose(found[:14], values, atol=1e-6)
    own = write_csv(tmp_path / "own.csv", "file", ["a"], np.array([[0.25, 0.75]]), ("Anger", "Joy"))
    assert read_soft_labels(Path(own), ("Joy", "Anger")).probabilities.tolist() == [[0.75, 0.25]]


def test_what_is_written_is_read_again_for_rows_in_any_order(tmp_path: Path) -> None:
    """Image 3 keeps its label; image 4 is named as one that does, but has probabilities, which go before."""
    samples, values = table(), probabilities(14)
    numbers = digest_numbers(samples.digests)
    few = np.array([7, 9], np.uint64)
    train, val = np.concatenate([numbers[:14], few]), np.concatenate([numbers[2:3], few[1:], numbers[14:21]])
    seen = TrainedOn(np.unique(train), np.unique(val), ("one does not tell",))
    labelled = np.delete(np.arange(14), 3)
    path = write_soft_labels(
        tmp_path / "a.npz", samples.digests[labelled], values[labelled], NAMES, samples.digests[[3, 4]], seen, {"a": 1}
    )
    stored = np.load(path)
    assert (stored["digests"].shape, stored["probabilities"].dtype) == ((13, 8), np.float16)
    order = np.random.default_rng(0).permutation(28)
    found = targets(with_soft_labels(samples.select(order), "target", [str(path)])[0])
    wanted = np.eye(7)[samples.labels]
    wanted[labelled] = values[labelled]
    np.testing.assert_allclose(found, wanted[order], atol=1e-3)
    told = read_teachers(path)
    assert told is not None
    assert told.train.tolist() == seen.train.tolist()
    assert sorted(told.val.tolist()) == sorted(numbers[14:21].tolist())  # what was trained on is told as that
    assert told.unknown == seen.unknown


def test_several_entries_for_one_picture_are_averaged(tmp_path: Path) -> None:
    samples = table()
    first, second = probabilities(14), probabilities(14, seed=1)
    paths = [
        write_csv(tmp_path / f"{position}.csv", "file", list(samples.files[:14]), values)
        for position, values in enumerate((first, second))
    ]
    found = targets(with_soft_labels(samples, "target", paths)[0])
    np.testing.assert_allclose(found[:14], (first + second) / 2, atol=1e-6)


@pytest.mark.parametrize(("total", "read"), [(0.985, False), (0.995, True), (1.005, True), (1.015, False)])
def test_sums_are_one_but_for_rounding_and_are_made_so(tmp_path: Path, total: float, read: bool) -> None:
    samples, values = table(), probabilities(14)
    path = write_csv(tmp_path / "a.csv", "file", list(samples.files[:14]), total * values)
    if read:
        found = targets(with_soft_labels(samples, "target", [path])[0])[:14]
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(found, values, atol=1e-5)
    else:
        with pytest.raises(DataError, match="row 1, .*: expected probabilities of 0 or more that sum to 1, found"):
            with_soft_labels(samples, "target", [path])


def test_votes_are_kept_beside_the_labels() -> None:
    samples = table(soft=True)
    changed, votes = with_soft_labels(samples, "votes", [])
    assert changed.soft_labels is None
    assert votes is samples.soft_labels
    assert with_soft_labels(samples, "target", []) == (samples, None)


def test_votes_and_a_file_of_targets_go_together(tmp_path: Path) -> None:
    samples, values = table(soft=True), probabilities(14)
    path = write_csv(tmp_path / "a.csv", "file", list(samples.files[:14]), values)
    changed, votes = with_soft_labels(samples, "votes", [path])
    np.testing.assert_allclose(targets(changed)[:14], values, atol=1e-6)
    assert votes is samples.soft_labels
    with pytest.raises(ConfigError, match="both data.soft_label_file and the data themselves"):
        with_soft_labels(samples, "target", [path])


def test_votes_need_soft_labels() -> None:
    with pytest.raises(ConfigError, match="these data have no soft labels"):
        with_soft_labels(table(), "votes", [])


def test_a_training_row_without_probabilities_is_named(tmp_path: Path) -> None:
    samples = table()
    path = write_csv(tmp_path / "a.csv", "file", list(samples.files[1:14]), probabilities(13))
    with pytest.raises(DataError, match=r"for 1 of 14 training rows \(first: 'stripes/0', the file has 'stripes/1'\)"):
        with_soft_labels(samples, "target", [path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a column 'file' or 'digest' and columns 'p_<class>', found nothing"),
        ("file,angry\na,1\n", "expected a column 'file' or 'digest'"),
        ("file,p_angry,p_sad\na,0.5,0.5\n", "has the classes angry, sad; the data has angry, disgust"),
        ("file,p_angry,p_smug\na,0.5,0.5\n", "unknown expression 'smug'"),
        ("file,{columns}\na,1,0\n", "line 2: expected 8 columns, found 3"),
        ("file,{columns}\na,1,0,0,0,0,0,0,0\n", "line 2: expected 8 columns, found 9"),
        ("file,{columns}\na,1,0,0,0,0,0,zero\n", "line 2: a probability is no number"),
        ("file,{columns}\na,1,0,0,0,0,0,0\nb,1,1,0,0,0,0,0\n", "row 2, 'b': expected probabilities.*found 1, 1"),
        ("file,{columns}\na,2,-1,0,0,0,0,0\n", "row 1, 'a': expected probabilities of 0 or more"),
        ("file,{columns}\na,nan,0,0,0,0,0,0\n", "row 1, 'a': expected probabilities of 0 or more"),
    ],
)
def test_malformed_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "soft.csv"
    path.write_text(text.format(columns=",".join(f"p_{name}" for name in NAMES)))
    with pytest.raises(DataError, match=f"soft labels .*soft.csv: .*{message}") as caught:
        read_soft_labels(path, NAMES)
    assert "\n" not in str(caught.value)


def test_malformed_arrays(tmp_path: Path) -> None:
    path = tmp_path / "soft.npz"
    np.savez(path, files=np.array(["a"]), probabilities=np.ones((2, 7)), class_names=np.array(NAMES))
    with pytest.raises(DataError, match=r"probabilities are \(2, 7\), expected \(1, 7\)"):
        read_soft_labels(path, NAMES)
    np.savez(path, probabilities=np.ones((2, 7)))
    with pytest.raises(DataError, match="expected arrays 'files' or 'digests', 'probabilities' and 'class_names'"):
        read_soft_labels(path, NAMES)
    np.savez(path, files=np.array(["a", None]), probabilities=np.ones((2, 7)), class_names=np.array(NAMES))
    with pytest.raises(DataError, match="damaged or of another kind"):  # objects would run code when read
        read_soft_labels(path, NAMES)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged or of another kind"):
        read_soft_labels(path, NAMES)


def test_missing_files_and_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_soft_labels(tmp_path / "none.csv", NAMES)
    with pytest.raises(DataError, match="expected a .csv or .npz file"):
        read_soft_labels(tmp_path / "none.txt", NAMES)


def test_a_file_of_the_package_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path("checkpoints/fer2013_soft_labels.npz")
    found = read_soft_labels(named, NAMES)
    assert len(found.names) == 28709
    assert read_teachers(named) is not None
    assert len(read_soft_labels(Path(named.name), NAMES).names) == 28709
    with pytest.raises(DataError, match="soft labels checkpoints/other.npz: cannot be read"):
        read_soft_labels(Path("checkpoints/other.npz"), NAMES)
    named.parent.mkdir()
    write_csv(tmp_path / named.with_suffix(".csv"), "file", ["a.png"], probabilities(1))
    named.with_suffix(".csv").rename(named)  # what is there wins, even if it is damaged
    with pytest.raises(DataError, match="is damaged or of another kind"):
        read_soft_labels(named, NAMES)


def test_the_report_says_so() -> None:
    assert declared(None, []) == {}
    assert declared(probabilities(1), ["a.csv"])["further_annotation"] == [
        "votes of the training rows, for an auxiliary head",
        "probabilities of the training rows from a.csv",
    ]
    assert declared(None, ["a.csv"], 0.75)["further_annotation"] == [
        "probabilities of the training rows from a.csv, 0.75 of the target beside the label"
    ]


class VotedStripes(StripesDataModule):
    """Stripes with votes that say the same as the labels."""

    def scan(self) -> SamplesTable:
        return stripes_table(self.counts, soft=True)


def test_batches_carry_votes_in_training_only() -> None:
    data = VotedStripes(batch_size=8, soft_label_role="votes")
    batch = next(iter(data.train_dataloader()))
    assert batch["votes"].shape == (8, 7)
    assert batch["votes"].argmax(1).tolist() == batch["label"].tolist()
    assert "soft_label" not in batch
    assert "votes" not in next(iter(data._eval_loader("val")))
    assert data.describe()["further_annotation"] == ["votes of the training rows, for an auxiliary head"]


def test_a_run_distils_stored_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = StripesDataModule().table
    rows = samples.rows("train")
    path = write_csv(tmp_path / "soft.csv", "file", list(samples.files[rows]), probabilities(len(rows)))
    given = [f"--data.soft_label_file={path}", "--data.soft_label_weight=0.6"]
    assert fit(tmp_path, *given, "--data.mix=BatchMix", epochs=1) == 0
    assert "0.6 of the target beside the label" in (tmp_path / "tiny/version_0/val/report.json").read_text()
    assert fit(tmp_path, f"--data.soft_label_file={tmp_path}/none.csv", name="none") == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err


def test_rounded_probabilities_sum_to_one_again(tmp_path: Path) -> None:
    rounded = np.full((14, 7), 0.142)  # sums to 0.994
    path = write_csv(tmp_path / "p.csv", "file", list(table().files[:14]), rounded)
    np.testing.assert_allclose(targets(with_soft_labels(table(), "target", [path])[0])[:14].sum(1), 1.0, atol=1e-6)
