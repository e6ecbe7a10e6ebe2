"""Signatures read off source files: those of a package written for it, and of classes of ours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from fer_lightning.cli.signatures import (
    Signature,
    Types,
    class_signature,
    defines,
    find_class,
    keys_of,
    missing_module,
    module_names,
    names_in,
    package_folder,
)

NONE = type(None)
OPEN = Types(open=True)
FILES = {
    "__init__.py": """
        import signed_parts.tables as tabs
        import signed_parts.deep.inner
        from .shapes import *
        from .tables import Table as Renamed, _Private
        from . import tables
        try:
            from .nowhere import Fast
        except ImportError:
            class Slow:
                pass
        if True:
            FIRST = {"a": 1, "b": 2, **{}}
        else:
            class Other:
                pass
        def work(): ...
        _hidden = 1
        """,
    "shapes.py": """
        __all__ = ["Shape", "Round"]
        class Shape:
            def __init__(self, size: int = 3): ...
        class Round(Shape): ...
        class _Inner: ...
        """,
    "tables.py": """
        class Table:
            def __init__(self, rows): ...
        class _Private: ...
        """,
    "deep/__init__.py": "from ..tables import Table\nfrom .inner import Deep\n",
    "deep/inner.py": "from ...signed_parts.shapes import Shape\nclass Deep: ...\n",
    "lazy.py": "def __getattr__(name): ...\nclass Known: ...\n",
    "made.py": "setattr(object, 'a', 1)\n",
    "run.py": "exec('x = 1')\n",
    "whole.py": "globals()['x'] = 1\n",
    "unread.py": "from _json import *\n",
    "broken.py": "class (:\n",
    "compiled.cpython-311-x86_64-linux-gnu.so": "",
    "types.py": """
        import typing as t
        from collections.abc import Sequence
        from typing import Literal, Optional, Union
        import torch.nn as nn
        from torch import Tensor
        from .shapes import Shape
        from .roles import Role, Far, Plain
        Word = Literal["a", "b"]
        Either = int | str
        Number = float
        class Typed:
            def __init__(
                self, one: int, two: "int | None", three: Optional[str], four: Union[int, float, None], five: Word,
                six: Literal["x", 2, None], seven: Literal[Far.A, "y"], eight: list[int], nine: Sequence[str],
                ten: list[Shape], eleven: dict[str, int], twelve: Shape | None, thirteen: Tensor, fourteen,
                fifteen: Role, sixteen: Either, seventeen: Unknown, eighteen: list[Word] | bool, nineteen: nn.Module,
                twenty: Number, more: list[int] | Shape | Word | Unknown | float = 2,
            ): ...
        """,
    "roles.py": "from typing import Literal\nRole = Literal['m', 'n'] | None\nclass Far: ...\nPlain = 3\n",
    "classes.py": """
        import abc
        from abc import ABC
        from dataclasses import dataclass, field
        from typing import Generic, Protocol
        import torch.nn as nn
        from torch import nn as layers
        from .shapes import Shape
        class Plain: ...
        class Places:
            def __init__(self, a, /, b: int = 1, *args, c: str, d: float = 2.5): ...
        class Left:
            def __init__(self, size: str = "left", left: int = 1): ...
        class Both(Left, Shape): ...
        class Own(Left):
            def __init__(self, size: bool = True, **options): ...
        class Closed(Left):
            def __init__(self, only: int): ...
        @dataclass(frozen=True)
        class Record(ABC):
            name: str
            count: int = 3
            tags: list[str] = field(default_factory=list)
            plain = 4
        @dataclass
        class More(Record):
            count: float = 1.5
        @decorated
        class Decorated:
            def __init__(self, a): ...
        class Meta(metaclass=abc.ABCMeta):
            def __init__(self, a): ...
        class Layer(nn.Module):
            def __init__(self, width: int = 8): ...
        class Bare(layers.Module): ...
        class Unknown(Missing): ...
        class Half(Left, Missing): ...
        class Typed(Generic[int], Protocol): ...
        """,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    root = tmp_path_factory.mktemp("signed")
    for name, text in FILES.items():
        path = root / "signed_parts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (root / "signed_alone.py").write_text("class Alone:\n    def __init__(self, a=1): ...\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        yield


def test_what_two_types_accept_together() -> None:
    left = Types(frozenset([int]), ("a",), ("m.A",), lists=True)
    right = Types(frozenset([str]), ("b",), ("m.B",), open=True)
    both = Types(frozenset([int, str]), ("a", "b"), ("m.A", "m.B"), lists=True, open=True)
    assert left | right == both
    assert (right | left).open
    assert (right | left).lists


def test_where_packages_and_modules_lie() -> None:
    folder = package_folder("signed_parts")
    assert folder is not None
    assert folder.name == "signed_parts"
    alone = package_folder("signed_alone")
    assert alone is not None
    assert alone.name == "signed_alone.py"
    assert package_folder("signed_nowhere") is None
    assert package_folder("_json") is None  # no source file
    assert module_names("signed_parts") == sorted(
        {Path(name).stem if "/" not in name else "deep" for name in FILES if name.endswith(".py")} - {"__init__"}
    )
    assert module_names("signed_parts.tables") == module_names("signed_alone") == []


def test_the_names_of_a_module() -> None:
    assert names_in("signed_parts") == {
        *("tabs", "signed_parts", "Renamed", "tables", "Fast", "Slow", "FIRST", "Other", "work", "Shape", "Round"),
    }
    assert names_in("signed_parts.shapes") == {"Shape", "Round"}
    assert names_in("signed_parts.lazy") is None
    assert names_in("signed_parts.broken") is None
    assert names_in("signed_parts.deep") == {"Table", "Deep"}
    assert keys_of("signed_parts", "FIRST") == ["a", "b"]
    assert keys_of("signed_parts", "Slow") == keys_of("signed_nowhere", "FIRST") == []


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [
        *(("", name, True) for name in ("Slow", "Other", "FIRST", "work", "Renamed", "Shape", "deep", "tabs")),
        *((f".{module}", "x", None) for module in ("lazy", "made", "run", "whole", "unread", "broken")),
        (".shapes", "Nothing", False),
        ("", "Nothing", False),
        ("", "Table", False),
    ],
)  # fmt: skip
def test_whether_a_module_has_a_name(module: str, name: str, found: bool | None) -> None:
    assert defines(f"signed_parts{module}", name) is found


@pytest.mark.parametrize(
    ("module", "name", "place"),
    [
        ("signed_parts", "Renamed", "signed_parts.tables.Table"),
        ("signed_parts", "Round", "signed_parts.shapes.Round"),
        ("signed_parts", "Slow", "signed_parts.Slow"),
        ("signed_parts", "Other", "signed_parts.Other"),
        ("signed_parts.deep", "Table", "signed_parts.tables.Table"),
        ("signed_parts.deep", "Deep", "signed_parts.deep.inner.Deep"),
        ("signed_alone", "Alone", "signed_alone.Alone"),
        ("signed_alone.Alone", "Alone", None),
        ("signed_parts", "tabs", None),
        ("signed_parts", "Table", None),
        ("signed_nowhere", "Table", None),
    ],
)
def test_where_a_class_is_defined(module: str, name: str, place: str | None) -> None:
    assert find_class(module, name) == place


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("signed_parts.nothing", "signed_parts.nothing"),
        ("signed_parts.nothing.more", "signed_parts.nothing"),
        ("signed_parts.deep.nothing", "signed_parts.deep.nothing"),
        ("signed_parts.deep.inner", ""),
        ("signed_parts.compiled", ""),
        ("signed_parts.Slow", ""),  # a class of it may hold what is meant
        ("signed_parts.lazy.nothing", ""),
        ("signed_parts.made.nothing", ""),
        ("signed_nowhere.nothing", ""),
        ("signed_alone.nothing", ""),
    ],
)
def test_which_part_of_a_path_is_no_module(name: str, missing: str) -> None:
    assert missing_module(name) == missing


def test_what_each_annotation_accepts() -> None:
    found = class_signature("signed_parts.types.Typed")
    assert found is not None
    shape, words = ("signed_parts.shapes.Shape",), ("a", "b")
    assert found.arguments == {
        "one": Types(frozenset([int])),
        "two": Types(frozenset([int, NONE])),
        "three": Types(frozenset([str, NONE])),
        "four": Types(frozenset([int, float, NONE])),
        "five": Types(words=words),
        "six": Types(words=("x", "2", "None")),
        "seven": Types(words=("y",), open=True),
        "eight": Types(lists=True),
        "nine": Types(lists=True),
        "ten": OPEN,
        "eleven": OPEN,
        "twelve": Types(frozenset([NONE]), classes=shape),
        "thirteen": Types(),
        "fourteen": OPEN,
        "fifteen": Types(frozenset([NONE]), words=("m", "n")),
        "sixteen": Types(frozenset([int, str])),
        "seventeen": OPEN,
        "eighteen": Types(frozenset([bool]), lists=True),
        "nineteen": Types(classes=("torch.nn.modules.module.Module",)),
        "twenty": OPEN,
        "more": Types(frozenset([float]), words, shape, lists=True, open=True),
    }
    assert found.defaults == {"more": "2"}
    assert not found.open


INT, STR, FLOAT = (Types(frozenset([kind])) for kind in (int, str, float))
LEFT = {"size": STR, "left": INT}
LEFT_DEFAULTS = {"size": "'left'", "left": "1"}


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("Plain", Signature()),
        ("Places", Signature({"a": OPEN, "b": INT, "c": STR, "d": FLOAT}, {"b": "1", "d": "2.5"})),
        ("Both", Signature(LEFT, LEFT_DEFAULTS)),  # as Python looks: the first base decides
        ("Own", Signature({**LEFT, "size": Types(frozenset([bool]))}, {**LEFT_DEFAULTS, "size": "True"}, open=True)),
        ("Closed", Signature({"only": INT})),
        (
            "Record",
            Signature(
                {"name": STR, "count": INT, "tags": Types(lists=True)},
                {"count": "3", "tags": "field(default_factory=list)"},
            ),
        ),
        (
            "More",
            Signature(
                {"name": STR, "count": FLOAT, "tags": Types(lists=True)},
                {"count": "1.5", "tags": "field(default_factory=list)"},
            ),
        ),
        ("Decorated", Signature(open=True)),
        ("Meta", Signature(open=True)),
        ("Layer", Signature({"width": INT}, {"width": "8"})),
        ("Bare", Signature()),
        ("Unknown", Signature(open=True)),
        ("Half", Signature(LEFT, LEFT_DEFAULTS, open=True)),
        ("Typed", Signature(open=True)),  # Generic[...] is no name
    ],
)
def test_the_arguments_of_a_class(name: str, signature: Signature) -> None:
    assert class_signature(f"signed_parts.classes.{name}") == signature


def test_arguments_that_a_class_of_ours_hands_on_are_those_of_its_base() -> None:
    found = class_signature("fer_lightning.losses.FocalLoss")
    assert found is not None
    assert not found.open
    assert set(found.arguments) == {"gamma", "method", "beta", "cap", "multipliers", "label_smoothing"}
    assert (found.defaults["method"], found.defaults["gamma"], found.defaults["beta"]) == ("'none'", "2.0", "0.999")
    assert found.arguments["method"].words == ("none", "inverse", "square_root", "effective_number")
    assert class_signature("fer_lightning.losses.Nothing") is None
