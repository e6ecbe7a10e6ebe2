"""``fer completion``: the file that lets a shell complete verbs and options. Nothing heavy is imported."""

from __future__ import annotations

import inspect
from importlib import import_module

from fer_lightning.cli.trainer_help import FIRST_OPTIONS, HELP_ALL

__all__ = ["completion", "options_of_verbs"]

_SCRIPT = """\
# Completion of fer for bash, made by `fer completion`. For zsh, before it: autoload -U bashcompinit; bashcompinit
_fer() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}
    esac
    [[ $COMP_CWORD == 1 ]] && words="{verbs}"
    [[ ${{COMP_WORDS[COMP_CWORD-1]}} == --config ]] && words="{configs}"
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _fer fer
"""


def completion() -> None:
    """Print the file that lets bash or zsh complete verbs, options and the names of configs.

    For bash, once:
      mkdir -p ~/.local/share/bash-completion/completions
      fer completion > ~/.local/share/bash-completion/completions/fer
    """
    from fer_lightning.cli.named_configs import shipped_configs

    words = options_of_verbs()
    groups = {verb.split()[0] for verb in words if " " in verb}
    cases = [f'        "{verb}"*) words="{" ".join(words[verb])}" ;;' for verb in sorted(words, reverse=True)]
    cases += [
        f'        "{group} "*) words="{" ".join(verb.split()[1] for verb in words if verb.startswith(f"{group} "))}" ;;'
        for group in sorted(groups)
    ]
    verbs = sorted({verb.split()[0] for verb in words})
    print(_SCRIPT.format(cases="\n".join(cases), verbs=" ".join(verbs), configs=" ".join(shipped_configs())).rstrip())


def options_of_verbs() -> dict[str, list[str]]:
    """Return the options of each verb; of those that train and evaluate, the ones that matter first."""
    from fer_lightning.commands import COMMANDS, Group

    found = {verb: [option.split()[0] for option in options] for verb, options in FIRST_OPTIONS.items()}
    for name, command in COMMANDS.items():
        commands = command.verbs if isinstance(command, Group) else {"": command}
        for inner, each in commands.items():
            module, _, function = each.function.partition(":")
            parameters = inspect.signature(getattr(import_module(module), function)).parameters.values()
            options = [f"--{one.name}" for one in parameters if one.kind is one.KEYWORD_ONLY and "of_" not in one.name]
            found[f"{name} {inner}".strip()] = options
    return {verb: [*options, "--help", HELP_ALL] for verb, options in found.items()}
