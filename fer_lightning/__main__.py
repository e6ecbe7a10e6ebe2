"""The console script ``fer``: finds the verb, and imports only what that verb needs."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence

from fer_lightning import __version__
from fer_lightning.cli.named_configs import with_config_files
from fer_lightning.cli.trainer_help import HELP_ALL, short_help
from fer_lightning.cli.verbs import chosen_verb
from fer_lightning.commands import COMMANDS, SECTIONS
from fer_lightning.errors import FERError

__all__ = ["main"]

TRAINER_VERBS = {
    "fit": "train a classifier",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split",
    "predict": "write a checkpoint's predictions for the test split",
}

_OVERVIEW = """\
usage: fer VERB [options]        fer VERB --help        fer --version

Facial expression recognition on PyTorch Lightning. To begin, with nothing to download:
  fer recognize photo.jpg          with the model that comes along
  fer fit --config quickstart      train on drawn faces, in one to two minutes

{verbs}
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run ``fer``.

    Args:
        args: the command line without the program's name; that of the process if ``None``.

    Returns:
        0 done, 1 failure, 2 usage, config or data, 130 Ctrl-C.
    """
    argv = list(sys.argv[1:] if args is None else args)
    try:
        return _dispatch(argv)
    except FERError as error:
        if os.environ.get("FER_DEBUG"):
            traceback.print_exc()
        if not (error.process and error.everywhere):
            where = f"process {error.process}: " if error.process else ""
            print(f"fer: error: {where}{_message(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes one says it
            print("fer: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has gone, as in `fer ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(argv: list[str]) -> int:
    if argv[:1] in (["-V"], ["--version"]):
        print(f"fer_lightning {__version__}")
        return 0
    verb = chosen_verb(argv, _sections(), _OVERVIEW, examples=SECTIONS)
    if verb is None:
        return 0
    argv[1:] = with_config_files(argv[1:])
    if verb in TRAINER_VERBS and {"-h", "--help"} & set(argv):
        print(short_help(verb))
        return 0
    if verb in TRAINER_VERBS:
        argv = ["--help" if word == HELP_ALL else word for word in argv]
        from fer_lightning.cli.early_check import check_command_line  # here, because it reads source files

        check_command_line(verb, argv[1:])
        from fer_lightning.cli.trainer_verbs import run_trainer_verb  # here, because it imports torch and lightning

        return run_trainer_verb(verb, argv[1:])
    return COMMANDS[verb].run(verb, argv[1:])


def _sections() -> dict[str, dict[str, str]]:
    """Return the verbs below their headings, and what each does."""
    found = {
        section: {name: command.help for name, command in COMMANDS.items() if command.section == section}
        for section in SECTIONS
    }
    found["train"] = {**TRAINER_VERBS, **found["train"]}
    return {section: verbs for section, verbs in found.items() if verbs}


def _message(error: FERError) -> str:
    """Return the message of an error; of one from a loader process, what it said there, without torch's traceback."""
    lines = str(error).strip().splitlines()
    if len(lines) > 1 and lines[0].startswith("Caught ") and " worker process " in lines[0]:
        return lines[-1].partition(": ")[2]
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
