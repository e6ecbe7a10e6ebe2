"""``fer data``: finds the verb; what the verbs do stands in :mod:`.data_verbs`, which is slow to import."""

from __future__ import annotations

from fer_lightning.cli.verbs import chosen_verb

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
    verb = chosen_verb(args, VERBS, _OVERVIEW, "data")
    if verb is None:
        return 0
    from fer_lightning.commands.data_verbs import run_verb  # here, because it imports torch and lightning

    run_verb(verb, args[1:])
    return 0
