"""What all tests share."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonargparse import _typehints as class_lookup

from tests.helpers.cli import fit

torch.set_num_threads(1)  # two workers with two threads each would fight for two cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests of whole runs first, which take longest: workers that end with short ones end at the same time."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection_finish() -> None:
    """Let the garbage collector leave alone what was imported, through which it would else go in each of its rounds.

    It makes about as many rounds as before, and a tenth of the time of all tests is saved.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 30)


def pytest_unconfigure() -> None:
    """Let the end of the process clear all away as ever: libraries look for what is left then."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache folder and variables out of all tests, and let Ctrl-C mean something.

    A job that a script starts with ``&`` or ``nohup`` ignores SIGINT, and so would all processes that it starts.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.getbasetemp() / "fer_cache"
        folder.mkdir(exist_ok=True)
        patch.setenv("FER_CACHE_DIR", str(folder))
        for name in ("PL_GLOBAL_SEED", "FER_DEBUG"):
            patch.delenv(name, raising=False)
        yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="session")
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Let ``os.fsync`` wait for no disk, which takes a tiny run as long as all it computes; it refuses as before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _what_names_no_class_is_seen_at_once() -> Iterator[None]:
    """Spare the parser to ask of every network that is imported from where, to find that none is called ``resnet18``.

    By the end of all tests thousands are imported; each command looks through them several times.
    """
    resolve = class_lookup.resolve_class_path_by_name

    def names_a_class(base: Any, name: str) -> bool:
        waiting = list(class_lookup.get_class_types(base))
        while waiting:
            found = waiting.pop()
            if found.__name__ == name:
                return True
            waiting += type.__subclasses__(found)
        return False

    def resolved(base: Any, name: str) -> str:
        if "." in name or isinstance(base, tuple) or names_a_class(base, name):
            return str(resolve(base, name))
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_lookup, "resolve_class_path_by_name", resolved)
        yield


@pytest.fixture(autouse=True)
def _no_seed_is_left() -> Iterator[None]:
    """Keep the seed variable of a test out of the next."""
    yield
    os.environ.pop("PL_GLOBAL_SEED", None)


@pytest.fixture(autouse=True, scope="session")
def _images_for_framing() -> Iterator[int]:
    """Spare all runs, also those of fixtures, the look for faces at their end; give the images it is of elsewhere."""
    framing = importlib.import_module("fer_lightning.cli.framing")  # here, because it imports lightning
    with pytest.MonkeyPatch.context() as patch:
        images: int = framing.IMAGES
        patch.setattr(framing, "IMAGES", 0)
        yield images


@pytest.fixture(autouse=True)
def _framing_is_measured_where_marked(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _images_for_framing: int
) -> None:
    """Let runs of tests marked ``measures_framing`` look for faces at their end."""
    if request.node.get_closest_marker("measures_framing") is not None:
        monkeypatch.setattr("fer_lightning.cli.framing.IMAGES", _images_for_framing)


@pytest.fixture
def blank_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare ``fer data inspect`` to turn its figures, which are made as ever, into pixels: most of its time."""
    blank = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr("fer_lightning.inspection.page.figure_pixels", lambda figure: blank)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that trains the tiny task without a stop, once for each options, and returns the run folder."""

    @functools.cache
    def trained(*options: str, epochs: int = 2) -> Path:
        root = tmp_path_factory.mktemp("whole")
        assert fit(root, *options, name="whole", epochs=epochs) == 0
        return root / "whole/version_0"

    return trained
