"""Typing what a message proposes."""

from __future__ import annotations

import re
import shlex


def proposed(message: str) -> list[str]:
    """Return the options that a message proposes, each as ``--data.OPTION=VALUE``, ready for a command line.

    Options of ``fer`` stand in messages as ``--data.OPTION VALUE``, quoted for a shell; what follows is prose.
    """
    options = []
    for found in re.finditer(r"--data(?:\.\w+)?(?= )", message):
        lexer = shlex.shlex(message[found.end() :], posix=True, punctuation_chars=";,)")
        lexer.whitespace_split = True
        options.append(f"{found.group()}={lexer.get_token()}")
    return options
