"""What command lines of ours share: finding the verb, errors in one line. Nothing heavy is imported."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fer_lightning.errors import ConfigError
from fer_lightning.text import table_lines

__all__ = ["OneLineParser", "chosen_verb"]


def chosen_verb(args: Sequence[str], verbs: Mapping[str, str], overview: str, group: str = "") -> str | None:
    """Return the verb that a command line begins with; print the overview if it has none or asks for help.

    Args:
        args: the command line, the verb first.
        verbs: what each does, in a few words.
        overview: text in which ``{verbs}`` stands where they are listed.
        group: the verb that these belong to.

    Raises:
        ConfigError: if there is no such verb.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        listed = table_lines(verbs.items(), left=(0, 1))
        print(overview.format(verbs="\n".join(f"  {line}" for line in listed)).rstrip())
        return None
    verb = args[0]
    if verb not in verbs:
        close = difflib.get_close_matches(verb, verbs, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"there is no verb '{f'{group} {verb}'.strip()}'{hint} (verbs: {', '.join(verbs)})")
    return verb


class OneLineParser(argparse.ArgumentParser):
    """Raises one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}")
