from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_lightning.errors import DataError, NonFiniteError
from fer_lightning.evaluation.predictions import (
    EvaluationResult,
    Predictions,
    digest_texts,
    predictions_of,
    read_predictions,
    write_predictions,
)
from tests.helpers.data import stripes_table
from tests.helpers.predictions import told


def some(rows: int = 5) -> Predictions:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(3), rows).astype(np.float32)
    names = ("sad", "happy", "schöne Miene")
    result = EvaluationResult(names, rng.permutation(rows), rng.integers(0, 3, rows), probs)
    groups = {"gender": np.array(["f", "m", "", "f", 'odd, "one"'])[:rows]}
    return told(result, [f"a b/{row}.png" for row in range(rows)], "tiny", split="test", groups=groups)


def same(first: Predictions, second: Predictions) -> None:
    for name in ("index", "target", "files", "digests"):
        assert getattr(first, name).tolist() == getattr(second, name).tolist()
    np.testing.assert_allclose(first.probs, second.probs, rtol=5e-6)
    assert {name: column.tolist() for name, column in first.groups.items()} == {
        name: column.tolist() for name, column in second.groups.items()
    }
    told = [(each.class_names, each.split, each.model, each.known) for each in (first, second)]
    assert told[0] == told[1]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for predictions in (some(), some(0), replace(some(), known=False, target=np.zeros(5, np.int64), groups={})):
        write_predictions(tmp_path / "predictions.csv", predictions)
        if len(predictions.index):
            same(read_predictions(tmp_path), predictions)
            same(read_predictions(tmp_path / "predictions.csv"), predictions)
        else:
            assert len(read_predictions(tmp_path).probs) == 0


def test_a_table_tells_what_it_knows_of_its_rows() -> None:
    table = stripes_table({"train": 4, "val": 4, "test": 4})
    table.columns["gender"] = np.array(["f", "m"] * 6)
    table.columns["age"] = np.arange(12.0)
    index = np.array([7, 2])
    probs = np.full((2, len(table.class_names)), 1 / len(table.class_names), np.float32)
    found = predictions_of(table, index, probs, "val", "m", table.labels[index])
    assert found.files.tolist() == [table.files[7], table.files[2]]
    assert found.digests.tolist() == [bytes(table.digests[row]).hex()[:16] for row in (7, 2)]
    assert {name: column.tolist() for name, column in found.groups.items()} == {"gender": ["m", "f"]}
    assert digest_texts(np.array([[1, 255] + [0] * 14], np.uint8)).tolist() == ["01ff000000000000"]
    assert not predictions_of(table, index, probs, "val", "m").known


def test_tables_of_older_versions_know_no_digests(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_text("file,p_sad,p_happy,model,scheme,index,target\na.png,0.25,0.75,m,custom,3,sad\n")
    found = read_predictions(path)
    assert (found.digests.tolist(), found.split, found.target.tolist(), found.index.tolist()) == ([""], "", [0], [3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "is no table of predictions: it has the columns 'a, b'"),
        ("", "is no table of predictions: it is empty"),
        ("file,p_sad,p_sad,index,target\nx,1,0,0,sad\n", "is damaged: it has two columns 'p_sad'"),
        ("file,p_sad,p_happy,index,target\nx,1.5,-0.5,0,sad\n", "a sample has the probability -0.5, expected 0 to 1"),
        (
            "file,p_sad,index,digest,target\nx,1,0,zz,sad\n",
            "line 2 has the digest 'zz', expected 16 hexadec",
        ),
        ("file,p_sad,index,target\nx,1,0,happy\n", "line 2 has the class 'happy', which is none of sad"),
        ("file,p_sad,index,target\nx,much,0,sad\n", "is damaged: could not convert"),
        ('file,p_sad\n"x,1', "is damaged"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "p.csv")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_predictions(tmp_path / "q.csv")


def test_columns_fit_together() -> None:
    with pytest.raises(DataError, match="column 'gender' has 2 rows, index has 5"):
        replace(some(), groups={"gender": np.array(["f", "m"])})
    with pytest.raises(NonFiniteError, match="1 sample with NaN"):
        told(
            EvaluationResult(("a", "b"), np.arange(1), np.zeros(1, np.int64), np.array([[0.5, np.nan]], np.float32)),
            ["x"],
            "m",
        )
