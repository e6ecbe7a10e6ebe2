"""``fer data``: finds the verb; what the verbs do stands in :mod:`.data_verbs`, which is slow to import."""

from __future__ import annotations

import difflib

from fer_lightning.errors import ConfigError

__all__ = ["VERBS", "data"]

VERBS = {
    "inspect": "counts, pixels, mean faces, samples, duplicates and bad files as one HTML page",
    "dedupe": "find duplicates and conflicting labels, and list the images that should stay",
    "convert": "store a data set as arrow (memory-mapped), shards (streamed), folders, parquet or csv",
    "balance": "add changed copies to the training split until each class has enough",
}
"""The verbs and what they do, in a few words."""

_OVERVIEW = """\
usage: fer data VERB PATH [options]        fer data VERB --help

{verbs}

PATH is a folder, a table or an archive, told apart by its layout, or a YAML file as in configs/data:
  fer data inspect faces/
  fer data dedupe fer2013.csv --out cleaned
  fer data inspect configs/data/fer2013.yaml --data.root PATH
Or name the data module:
  fer data convert --data FERPlusDataModule --data.root PATH --to arrow --out ferplus
"""


def data(args: list[str]) -> int:
    """Run a verb of ``fer data``.

    Args:
        args: the command line behind ``fer data``.

    Returns:
        0.

    Raises:
        FERError: for whatever a user can mend.
    """
    if not args or args[0] in ("-h", "--help", "help"):
        print(_OVERVIEW.format(verbs="\n".join(f"  {name:<8} {text}" for name, text in VERBS.items())).rstrip())
        return 0
    verb, *rest = args
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"there is no verb 'data {verb}'{hint} (verbs: {', '.join(VERBS)})")
    from fer_lightning.commands.data_verbs import run_verb  # here, because it imports torch and lightning

    run_verb(verb, rest)
    return 0
