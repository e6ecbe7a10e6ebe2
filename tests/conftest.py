"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # two workers with two threads each would fight for two cores


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache folder and the seed variables of other tests out of each test."""
    monkeypatch.setenv("FER_CACHE_DIR", str(_cache(tmp_path_factory)))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.delenv("FER_DEBUG", raising=False)


def _cache(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "fer_cache"
    folder.mkdir(exist_ok=True)
    return folder
