"""Which option is meant by one that does not exist; nothing heavy is imported."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from fer_lightning.cli.known_options import FAMILIES, options_of_data, plain_options
from fer_lightning.cli.other_names import NEEDLESS, SHORT
from fer_lightning.text import did_you_mean, nearest

__all__ = ["nearest_argument", "nearest_key", "unknown_option"]


def unknown_option(
    verb: str, key: str, value: str | None, lacks_class: Callable[[str], str] = lambda option: ""
) -> str:
    """Return the message for an option that does not exist, with what to type instead where that can be guessed.

    Args:
        verb: what was called.
        key: the option without its dashes.
        value: what was given with it.
        lacks_class: returns a class that must be named before the arguments of an option, empty if none.
    """
    dashes, last = "" if key.startswith("-") else "--", _plain(key).rpartition(".")[2]
    if last in NEEDLESS:
        return f"there is no option {dashes}{key}: {NEEDLESS[last]}"
    if key.startswith(("–", "—")):  # what word processors make of two dashes
        return f"'{key}' begins with a long dash; did you mean --{key.lstrip('-–—')} {value or ''}".rstrip() + "?"
    denied = [option for option in _meant(last.removeprefix("no_")) if _is_switch(option)]
    if last.startswith("no_") and denied:
        meant = [f"--{option} false" for option in denied]
    else:
        meant = [_typed(option, value, lacks_class) for option in _meant(key)]
    hint = f"; did you mean {' or '.join(meant)}?" if meant else f" (fer {verb} --help lists them)"
    return f"there is no option {dashes}{key}{hint}"


def _plain(key: str) -> str:
    return key.lstrip("-").replace("-", "_").lower().rstrip("+")


def _is_switch(option: str) -> bool:
    types = plain_options().get(option)
    return types is not None and bool in types.scalars


def nearest_key(key: str) -> str:
    """Return the end of a message about a key that does not exist in a config file, empty if none is near."""
    near = [option for option in _meant(key) if option in _known()]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def nearest_argument(name: str, known: Sequence[str]) -> str:
    """Return the end of a message about an argument that a class does not have: the nearest, or all."""
    other = SHORT.get(name, "").rpartition(".")[2]
    near = f"; did you mean '{other}'?" if other in known else did_you_mean(name, known)
    return near or f"; it takes {', '.join(known) or 'none'}"


def _known() -> dict[str, str]:
    """Return all options, and the last part of each."""
    every = [*plain_options(), *(f"data.{name}" for name in sorted(options_of_data()))]
    return {option: option.rpartition(".")[2] for option in every}


def _meant(key: str) -> list[str]:
    """Return the options that a misspelt one may stand for, the surest way of guessing first."""
    known, plain = _known(), _plain(key)
    last = plain.rpartition(".")[2]
    if plain in known:
        return [plain]
    if last in SHORT:
        return [SHORT[last]]
    if "." in plain and plain.partition(".")[0] in {option.partition(".")[0] for option in known}:
        section = plain.partition(".")[0]
        inside = {option: name for option, name in known.items() if option.startswith(f"{section}.")}
        if near := _near(last, inside, 0.75):
            return near
    if same := [option for option, name in known.items() if name == last]:
        return same[:3]
    whole = [option for option in known if "." not in plain or "." in option]
    return _near(last, known, 0.8) or difflib.get_close_matches(plain, whole, n=1, cutoff=0.75)


def _near(word: str, known: dict[str, str], cutoff: float) -> list[str]:
    """Return the options whose last part is nearest to a word."""
    close = difflib.get_close_matches(word, set(known.values()), n=1, cutoff=cutoff)
    return [option for option, name in known.items() if name == close[0]][:3] if close else []


def _typed(option: str, value: str | None, lacks_class: Callable[[str], str]) -> str:
    """Return what to type for an option and the value that was given with the wrong one."""
    if option == "ckpt_path" and value in (None, "true"):
        value = "last"
    if option == "trainer.accelerator" and value is not None and value != "cpu":
        value = "gpu"
    last = option.rpartition(" ")[2]
    if "=" in last or (" " in option and not last.startswith("--")):
        value = None  # the text is complete
    types = plain_options().get(option)
    if value is None and types is not None and bool in types.scalars:
        value = "true"
    if option in FAMILIES and value is not None:
        value = _class_named(option, value)
    parent = next((each for each in FAMILIES if option.startswith(f"{each}.") and each != "data"), "")
    name = lacks_class(parent) if parent else ""
    name = "SGD" if name and option == "model.optimizer.momentum" else name
    text = f"--{option}" + (f" {value}" if value is not None and " " not in value else "")
    return f"--{parent} {name} {text}" if name else text


def _class_named(option: str, name: str) -> str:
    """Return the class that a name means without regard to case, the name itself if none is near."""
    return nearest(name, FAMILIES[option].classes) or name
