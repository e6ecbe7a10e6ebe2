"""Names, order and codes of the expressions: the only place that knows them.

Everything downstream reads ``class_names`` from a ``LabelScheme``. A data set declares its own raw codes here and
is mapped *by name*, so that no two sets can disagree silently about what "4" means.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fer_lightning.errors import ConfigError, LabelError

__all__ = [
    "AFFECTNET_CODES",
    "CKPLUS_CODES",
    "CODE_TABLES",
    "EIGHT",
    "FER2013_CODES",
    "FERPLUS_COLUMNS",
    "RAFDB_CODES",
    "SCHEMES",
    "SEVEN",
    "SYNONYMS",
    "LabelScheme",
    "canonical",
    "code_key",
    "code_of",
    "codes_text",
    "fitting_tables",
    "is_expression",
    "mapping_option",
    "read_names",
    "scheme_of",
]


@dataclass(frozen=True)
class LabelScheme:
    """An ordered set of classes.

    Attributes:
        name: short identifier, stored in checkpoints and output files.
        class_names: canonical names; the position is the label.
    """

    name: str
    class_names: tuple[str, ...]

    def index(self, name: str) -> int:
        """Return the label of an expression given by any known name.

        Raises:
            LabelError: if the name is unknown or not part of this scheme.
        """
        found = canonical(name)
        if found not in self.class_names:
            raise LabelError(f"'{name}' is not part of the label scheme '{self.name}' ({', '.join(self.class_names)})")
        return self.class_names.index(found)


SEVEN = LabelScheme("fer7", ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"))
"""The seven expressions in the code order of FER2013 (Goodfellow et al. 2013, arXiv:1307.0414)."""

EIGHT = LabelScheme("fer8", (*SEVEN.class_names, "contempt"))
"""The seven and contempt, as in FER+ and AffectNet, in this project's order."""

SCHEMES: dict[str, LabelScheme] = {scheme.name: scheme for scheme in (SEVEN, EIGHT)}
"""The lists of classes that there are, by name."""

SYNONYMS: dict[str, str] = {
    "anger": "angry",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "calm": "neutral",
    "contemptuous": "contempt",
}
"""Other names in use, mapped to the canonical ones."""

FER2013_CODES: dict[int, str] = dict(enumerate(SEVEN.class_names))
"""``emotion`` column of fer2013.csv."""

FERPLUS_COLUMNS: tuple[str, ...] = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)
"""Vote columns of fer2013new.csv (Barsoum et al. 2016, arXiv:1608.01041); NF means "not a face"."""

_EXPRESSION_OF = {name: SYNONYMS.get(name, name) for name in FERPLUS_COLUMNS[:8]}

AFFECTNET_CODES: dict[int, str] = dict(
    enumerate(("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"))
)
"""``expression`` of AffectNet (Mollahosseini et al. 2019, arXiv:1708.03985); 8 none, 9 uncertain and 10 no-face are not
expressions."""

RAFDB_CODES: dict[int, str] = {
    1: "surprise", 2: "fear", 3: "disgust", 4: "happy", 5: "sad", 6: "angry", 7: "neutral",
}  # fmt: skip
"""RAF-DB, basic expressions (Li and Deng 2019, doi:10.1109/TIP.2018.2868382)."""

CKPLUS_CODES: dict[int, str] = dict(
    enumerate(("neutral", "angry", "contempt", "disgust", "fear", "happy", "sad", "surprise"))
)
"""CK+ (Lucey et al. 2010, doi:10.1109/CVPRW.2010.5543262)."""

CODE_TABLES: dict[str, dict[int, str | None]] = {
    "FER2013": dict(enumerate(EIGHT.class_names)),  # 7 is contempt in copies with eight classes
    "AffectNet": {**AFFECTNET_CODES, 8: None, 9: None, 10: None},
    "FER+": {code: _EXPRESSION_OF.get(name) for code, name in enumerate(FERPLUS_COLUMNS)},
    "CK+": {**CKPLUS_CODES},
    "CK+48": {code - 1: name for code, name in CKPLUS_CODES.items() if code},
    "RAF-DB": {**RAFDB_CODES},
    "alphabetical": dict(enumerate(sorted(SEVEN.class_names))),
    "alphabetical with contempt": dict(enumerate(sorted(EIGHT.class_names))),
}
"""Every table of codes that is in use, by whose it is; ``None`` stands for what is no expression."""


_SHOWN = 12  # names in a proposal
_CODE = re.compile(r"([0-9]{1,3})(?:\.0*)?")
_NUMBERED = re.compile(r"[0-9]{1,3} ?[-_. ] ?(?P<behind>[a-z]+)|(?P<before>[a-z]+) ?[-_. ] ?[0-9]{1,3}")
_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}  # YAML 1.1 does not read these as text


def is_expression(name: str) -> bool:
    """Tell whether ``canonical`` knows a name.

    >>> is_expression("Anger"), is_expression("7_contempt"), is_expression("joyful")
    (True, True, False)
    """
    return _known(name) is not None


def _known(name: str) -> str | None:
    """Return the canonical name, ``None`` for an unknown one; a number before or behind the name does not matter."""
    key = name.strip().lower()
    if (numbered := _NUMBERED.fullmatch(key)) is not None:
        key = numbered["before"] or numbered["behind"]
    return key if key in EIGHT.class_names else SYNONYMS.get(key)


def canonical(name: str) -> str:
    """Map any known name of an expression to the canonical one.

    Args:
        name: for example ``"Anger"``, ``"happiness"``, ``"angry"`` or ``"0_angry"``; case, surrounding spaces and a
            number that is joined to the name do not matter.

    Example:
        >>> canonical(" Happiness "), canonical("7_contempt"), canonical("fear-2")
        ('happy', 'contempt', 'fear')

    Raises:
        LabelError: for an unknown name; the message proposes the nearest known one.
    """
    if (found := _known(name)) is not None:
        return found
    key = name.strip().lower()
    known = [*EIGHT.class_names, *SYNONYMS]
    close = difflib.get_close_matches(key, known, n=1)
    proposal = f"; did you mean '{SYNONYMS.get(close[0], close[0])}'?" if close else ""
    raise LabelError(f"unknown expression '{name}'{proposal} (known: {', '.join(EIGHT.class_names)})")


def scheme_of(class_names: Sequence[str]) -> str:
    """Return the name of the scheme with exactly these classes in this order, or ``"custom"``."""
    for scheme in SCHEMES.values():
        if scheme.class_names == tuple(class_names):
            return scheme.name
    return "custom"


def code_key(name: str) -> str:
    """Return a name as it is compared: lower case without spaces around it, a code without zeros and ``.0``.

    Example:
        >>> code_key(" Joy "), code_key("03"), code_key("3.0")
        ('joy', '3', '3')
    """
    key = str(name).strip().lower()  # YAML reads the key of {1: angry} as a number
    code = code_of(key)
    return key if code is None else str(code)


def code_of(name: str) -> int | None:
    """Return the code that a name is, ``None`` for a name of another kind.

    Example:
        >>> code_of("03"), code_of("happy")
        (3, None)
    """
    found = _CODE.fullmatch(str(name).strip())
    return int(found.group(1)) if found else None


def codes_text(table: Mapping[int, str | None]) -> str:
    """Return which code stands for which expression, as messages list it; what is no expression is left out.

    Example:
        >>> codes_text({0: "angry", 1: "disgust", 8: None})
        '0 angry, 1 disgust'
    """
    return ", ".join(f"{code} {name}" for code, name in table.items() if name is not None)


def fitting_tables(codes: Iterable[int]) -> dict[str, dict[int, str | None]]:
    """Return the tables that have a meaning for each of some codes, those codes of them, by whose they are.

    Where the least code is 1, tables that begin with 0 are offered counted from 1, and where it is 0 RAF-DB's, which
    begins with 1, counted from 0. Tables that agree on these codes stand together under both names.

    Example:
        >>> list(fitting_tables(range(1, 8)))[:2]
        ['CK+ or CK+48 (counted from 1)', 'RAF-DB']
        >>> fitting_tables([0, 6])["FER2013"]
        {0: 'angry', 6: 'neutral'}
    """
    wanted = sorted(set(codes))
    names: list[str] = []
    meanings: list[dict[int, str | None]] = []
    for whose, table in _counted_alike(min(wanted, default=0)):
        if not set(wanted) <= set(table):
            continue
        meaning = {code: table[code] for code in wanted}
        if meaning in meanings:
            names[meanings.index(meaning)] += f" or {whose}"
        else:
            names.append(whose)
            meanings.append(meaning)
    return dict(zip(names, meanings, strict=True))


def _counted_alike(least: int) -> Iterator[tuple[str, dict[int, str | None]]]:
    """Yield the tables as sets write them whose least code is this one, those first that are published so."""
    counted: list[tuple[str, dict[int, str | None]]] = []
    for whose, table in CODE_TABLES.items():
        first = min(table)
        if first == least or least > 1 or whose == "CK+":  # most copies of CK+ lack the code 0, neutral
            yield whose, table
        else:
            counted.append((f"{whose} (counted from {least})", {code + least - first: n for code, n in table.items()}))
    yield from counted


def read_names(
    names: Iterable[str],
    where: str,
    mapping: Mapping[str, str | None] | None = None,
    class_names: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Give each class name of a data set its label.

    Args:
        names: as they stand in the data: folder names, a label column.
        where: what they come from, for messages.
        mapping: other meanings of names, ``None`` (or an empty text) to leave a class out; case does not matter.
        class_names: the classes to use; ``None`` takes the seven, and the eight if contempt is among the names.

    Returns:
        The class names, and the label of each name, -1 for those left out.

    Raises:
        ConfigError: if ``class_names`` are not two or more, or one stands twice.
        LabelError: if names are unknown; the message lists them and proposes a mapping.
    """
    wanted = {code_key(name): value for name, value in ({} if mapping is None else mapping).items()}
    own = _own_classes(class_names)
    meant: dict[str, str | None] = {}
    unknown: list[str] = []
    for name in dict.fromkeys(names):
        target = wanted.get(code_key(name), name)
        if target is None or not target.strip():
            meant[name] = None
            continue
        try:
            meant[name] = own[code_key(target)] if code_key(target) in own else canonical(target)
        except LabelError as error:
            if target != name:
                raise LabelError(f"data.mapping of '{name}': {error}") from None
            unknown.append(name)
    if unknown and all(code_of(name) is not None for name in unknown):
        raise LabelError(_unknown_codes(where, unknown, class_names))
    every = sorted({*meant, *unknown}) if class_names is None else []
    if class_names is None:
        class_names = EIGHT.class_names if "contempt" in meant.values() else SEVEN.class_names
    outside = [name for name, value in meant.items() if value is not None and value not in class_names]
    if unknown or outside:
        raise LabelError(_unknown_names(where, unknown, outside, class_names, every))
    labels = {name: -1 if value is None else list(class_names).index(value) for name, value in meant.items()}
    return tuple(class_names), labels


def _own_classes(class_names: Sequence[str] | None) -> dict[str, str]:
    """Return the classes that a user has named, by their names in lower case without surrounding spaces."""
    if class_names is None:
        return {}
    own = {code_key(name): name for name in class_names}
    if len(own) < len(class_names) or len(own) < 2:
        raise ConfigError(f"data.class_names must be two different names or more, not {', '.join(class_names)}")
    return own


def mapping_option(meanings: Mapping[str, str | None]) -> str:
    """Return the option that gives names of a data set these meanings, as it is typed in a shell.

    Example:
        >>> mapping_option({"0": "angry", "other": None})
        "--data.mapping '{0: angry, other: null}'"
    """
    pairs = ", ".join(f"{_yaml_key(name)}: {meaning or 'null'}" for name, meaning in meanings.items())
    return f"--data.mapping {shlex.quote(f'{{{pairs}}}')}"


def _unknown_codes(where: str, codes: Sequence[str], class_names: Sequence[str] | None) -> str:
    """Return the message that offers the tables which fit some codes, each ready to paste."""
    name_of = {code: name for name in codes if (code := code_of(name)) is not None}
    known = sorted(name_of)
    tables = fitting_tables(known)
    while not tables:  # a code that no table has stands for no expression
        known.pop()
        tables = fitting_tables(known)
    if not known:
        tables = {"no known table has them": {}}
    if class_names is not None:
        tables = {
            whose: {code: name if name in class_names else None for code, name in table.items()}
            for whose, table in tables.items()
            if sum(name in class_names for name in table.values()) > 1
        }
        if len(class_names) == len(name_of):
            in_order: dict[int, str | None] = dict(zip(sorted(name_of), class_names, strict=True))
            others = {whose: table for whose, table in tables.items() if table != in_order}
            tables = {"in the order of data.class_names": in_order, **others}
    offers = []
    for whose, table in (tables or {"no known table has data.class_names": {}}).items():
        offers.append(f"{whose}: {mapping_option({name: table.get(code) for code, name in name_of.items()})}")
    shown = ", ".join(codes[:_SHOWN]) + (", ..." if len(codes) > _SHOWN else "")
    return (
        f"{where}: the codes {shown} stand for different expressions in different data sets, and nothing here shows "
        f"which; look at some images and pass the one that fits (null leaves a class out): {'; '.join(offers)}"
    )


def _unknown_names(
    where: str, unknown: Sequence[str], outside: Sequence[str], class_names: Sequence[str], every: Sequence[str]
) -> str:
    names = [*unknown, *outside]
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    guesses = {name: _guess(name, class_names) for name in names[:_SHOWN]}
    what = "unknown class names" if unknown else "classes outside the label scheme"
    text = f"{where}: {what} {shown}{more} (known: {', '.join(class_names)}); pass"
    classes = ", ".join(_yaml_key(name) if code_of(name) is None else f'"{name}"' for name in every)
    own = f"--data.class_names {shlex.quote(f'[{classes}]')}" if 0 < len(every) <= _SHOWN else "data.class_names"
    own = f"{own} for classes of your own"
    if any(guesses.values()) or not every:
        return f"{text} {mapping_option(guesses)} after checking it (null leaves a class out), or {own}"
    return f"{text} {own}, or in data.mapping which expression each one means, such as {{{names[0]}: {class_names[0]}}}"


def _yaml_key(name: str) -> str:
    """Return a name as a key of YAML, in quotes where it would be read as something else."""
    if name == str(code_of(name)):
        return name
    is_plain = re.fullmatch(r"[A-Za-z][\w -]*\w|[A-Za-z]", name) and name.lower() not in _YAML_WORDS
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _guess(name: str, class_names: Sequence[str]) -> str | None:
    """Return the class that a name contains or is spelled like, ``None`` if there is no such class."""
    known = {**{key: key for key in class_names}, **{k: v for k, v in SYNONYMS.items() if v in class_names}}
    key = code_key(name)
    inside = [value for word, value in known.items() if len(word) > 2 and word in key]
    if inside:
        return inside[0]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return known[close[0]] if close else None
