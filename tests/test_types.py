from __future__ import annotations

from fer_lightning.emotions import SEVEN
from fer_lightning.types import prediction_columns


def test_columns_of_predictions_are_fixed() -> None:
    columns = prediction_columns(SEVEN.class_names)
    assert columns[:9] == ["file", "frame", "time_s", "face_id", "x", "y", "w", "h", "det_score"]
    assert columns[9:13] == ["label", "confidence", "uncertain", "p_angry"]
    assert columns[-3:] == ["p_neutral", "model", "scheme"]
