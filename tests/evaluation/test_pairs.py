from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from fer_lightning.evaluation.pairs import cluster_mcnemar, holm, mcnemar


@pytest.mark.parametrize(("first", "second"), [(10, 4), (60, 38), (5, 0), (0, 1), (3, 3), (200, 150)])
def test_mid_p_is_the_exact_test_less_half_of_what_was_seen(first: int, second: int) -> None:
    exact = binomtest(first, first + second).pvalue
    seen = binomtest(min(first, second), first + second, alternative="less").pvalue
    below = binomtest(min(first, second) - 1, first + second, alternative="less").pvalue if min(first, second) else 0
    wanted = 1.0 if first == second else exact - (seen - below)
    assert mcnemar(first, second) == pytest.approx(wanted)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_known_values() -> None:
    assert round(mcnemar(10, 4), 3) == 0.118
    assert round(mcnemar(60, 38), 3) == 0.027
    assert round(mcnemar(5, 0), 3) == 0.031


def test_copies_of_an_image_are_no_evidence() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(300) < 0.75, rng.random(300) < 0.62
    alone = cluster_mcnemar(first, second, np.arange(300))
    assert alone == mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
    clusters = np.repeat(np.arange(300), 3)
    copied = cluster_mcnemar(np.repeat(first, 3), np.repeat(second, 3), clusters)
    naive = mcnemar(3 * int((first & ~second).sum()), 3 * int((second & ~first).sum()))
    assert copied == pytest.approx(alone, rel=0.15)
    assert naive < alone / 10


def test_few_differences_are_counted_out() -> None:
    first = np.array([True, True, True, False])
    second = np.array([False, False, False, True])
    # sums 2, 1, -1: |2| of the signs' sums 4, 2, 2, 0, 0, -2, -2, -4 are reached by six of eight
    assert cluster_mcnemar(first, second, np.array([0, 0, 1, 2])) == 6 / 8
    assert cluster_mcnemar(first, first, np.array([0, 0, 1, 2])) == 1.0


def test_holm_keeps_the_order_of_what_was_given() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []
