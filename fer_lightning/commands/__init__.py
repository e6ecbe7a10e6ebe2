"""Our verbs beside Lightning's: the only list of them. A verb is imported when it runs, not before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from fer_lightning.cli.verbs import chosen_verb, run_function

__all__ = ["COMMANDS", "SECTIONS", "Command", "Group"]

SECTIONS = {
    "look at data": "fer data inspect PATH",
    "train": "fer fit --config experiment/fer2013_a --data.root PATH",
    "judge": "fer compare runs/a/version_0 runs/b/version_0",
    "use": "fer recognize photo.jpg",
    "pass on": "fer export runs/a/version_0 --out model",
    "set up": "fer doctor",
}
"""Headings of ``fer --help``, in order, and a command line for each."""


@dataclass(frozen=True)
class Command:
    """A verb of ``fer``.

    Attributes:
        function: where its typed function is, as ``module:name``; see ``fer_lightning.cli.verbs``.
        help: one line for the overview.
        section: one of ``SECTIONS``; empty in a group.
    """

    function: str
    help: str
    section: str = ""

    def run(self, verb: str, args: Sequence[str]) -> int:
        """Call the function with the arguments behind the verb and return the exit code."""
        module, _, name = self.function.partition(":")
        return run_function(verb, getattr(import_module(module), name), args)


@dataclass(frozen=True)
class Group:
    """A verb that has verbs of its own.

    Attributes:
        verbs: by name.
        help: one line for the overview.
        section: one of ``SECTIONS``.
        overview: what ``fer VERB --help`` prints, with ``{verbs}`` where they are listed.
    """

    verbs: Mapping[str, Command]
    help: str
    section: str
    overview: str

    def run(self, verb: str, args: Sequence[str]) -> int:
        """Run the verb that the arguments begin with and return the exit code."""
        helps = {name: command.help for name, command in self.verbs.items()}
        chosen = chosen_verb(args, {"": helps}, self.overview, verb)
        return 0 if chosen is None else self.verbs[chosen].run(f"{verb} {chosen}", args[1:])


_BENCH = """\
usage: fer bench VERB [options]        fer bench VERB --help

{verbs}
"""
_CONFIGS = """\
usage: fer configs VERB [NAME] [options]        fer configs VERB --help

{verbs}

NAME is that of a file that comes with the package, or a path:
  fer configs show experiment/fer2013_a
  fer configs copy experiment/fer2013_a mine
"""
_DATA = """\
usage: fer data VERB PATH [options]        fer data VERB --help

{verbs}

PATH is a folder, a table or an archive, told apart by its layout, or a YAML file as in configs/data:
  fer data inspect faces/
  fer data dedupe fer2013.csv --out cleaned
  fer data inspect configs/data/fer2013.yaml --data.root PATH
Or name the data module:
  fer data convert --data FERPlusDataModule --data.root PATH --to arrow --out ferplus
"""
_MODELS = """\
usage: fer models VERB [options]        fer models VERB --help

{verbs}
"""
_RUNS = """\
usage: fer runs VERB [RUN] [options]        fer runs VERB --help

{verbs}

RUN is a name (its newest run), name/version_3, or a path:
  fer runs list --sort val_acc
  fer runs show fer2013_a
  fer runs lineage fer2013_a/version_3
  fer runs looks
"""
_HERE = "fer_lightning.commands"

COMMANDS: dict[str, Command | Group] = {
    "tune": Command(f"{_HERE}.tune:tune", "search settings, each trial a run of its own", "train"),
    "crossval": Command(f"{_HERE}.crossval:crossval", "compare arms over folds and seeds", "train"),
    "soft_labels": Command(
        f"{_HERE}.soft_labels:soft_labels",
        "label training images by the networks of other folds",
        "train",
    ),
    "configs": Group(
        {
            "list": Command(f"{_HERE}.configs:list_configs", "list the config files that come with the package"),
            "show": Command(f"{_HERE}.configs:show", "print a config file and the fragments that it names"),
            "copy": Command(f"{_HERE}.configs:copy", "copy them into a folder of yours, to be changed there"),
        },
        "list, show and copy the configs that come with the package",
        "set up",
        _CONFIGS,
    ),
    "data": Group(
        {
            "inspect": Command(
                f"{_HERE}.data:inspect",
                "counts, pixels, mean faces, samples, duplicates and bad files as one HTML page",
            ),
            "dedupe": Command(
                f"{_HERE}.data:dedupe", "find duplicates and conflicting labels, and list the images that should stay"
            ),
            "convert": Command(
                f"{_HERE}.data:convert",
                "store a data set as arrow (memory-mapped), shards (streamed), folders, parquet or csv",
            ),
            "balance": Command(
                f"{_HERE}.data:balance", "add changed copies to the training split until each class has enough"
            ),
            "framing": Command(
                f"{_HERE}.framing:framing", "measure how faces sit in the training images, and keep it for a model"
            ),
        },
        "inspect, clean, convert or balance a data set; measure its framing",
        "look at data",
        _DATA,
    ),
    "runs": Group(
        {
            "list": Command(f"{_HERE}.runs:list_runs", "a line for each run"),
            "show": Command(f"{_HERE}.runs:show", "configuration, results, starts and files of a run"),
            "lineage": Command(
                f"{_HERE}.runs:lineage", "what a run comes from and what came from it, with what changed on the way"
            ),
            "looks": Command(f"{_HERE}.looks:looks", "how often each test split was looked at, and by which models"),
        },
        "list runs, show one, and where it comes from",
        "judge",
        _RUNS,
    ),
    "compare": Command(f"{_HERE}.compare:compare", "compare models on the same images, with intervals", "judge"),
    "calibrate": Command(
        f"{_HERE}.calibrate:calibrate",
        "make a run's probabilities believable: scaling, threshold, prediction sets",
        "judge",
    ),
    "audit": Command(f"{_HERE}.audit:audit", "compare how a model does on groups of people", "judge"),
    "explain": Command(f"{_HERE}.explain:explain", "show what a model looks at, and test these maps", "judge"),
    "embed": Command(f"{_HERE}.embed:embed", "map a model's features before and after training", "judge"),
    "bench": Group(
        {
            "infer": Command(f"{_HERE}.bench:infer", "measure size, latency and throughput of a trained network"),
            "train": Command(f"{_HERE}.bench:train", "time the network, the data and the whole trainer, turn by turn"),
            "recognize": Command(
                f"{_HERE}.bench:recognize", "time the stages of recognizing a video, and all of them together"
            ),
            "storage": Command(
                f"{_HERE}.bench:storage", "measure how fast folders, Arrow and shards are read, and the memory it takes"
            ),
        },
        "measure the time of training, of reading, of a network or of recognizing",
        "judge",
        _BENCH,
    ),
    "recognize": Command(
        f"{_HERE}.recognize:recognize", "find the faces in pictures and tell their expressions", "use"
    ),
    "endtoend": Command(
        f"{_HERE}.endtoend:endtoend", "score detector and classifier together on whole pictures", "use"
    ),
    "export": Command(f"{_HERE}.export:export", "write a model for other programs (ONNX, int8, ...)", "pass on"),
    "card": Command(f"{_HERE}.card:card", "write the card of a model: uses, data, scores, groups, origin", "pass on"),
    "serve": Command(f"{_HERE}.serve:serve", "answer over HTTP, with a page for pictures and videos", "pass on"),
    "models": Group(
        {
            "list": Command(f"{_HERE}.models:list_models", "list the models that come with the package"),
            "fetch": Command(f"{_HERE}.models:fetch", "fetch the files of a face detector"),
        },
        "list the models that come with the package, fetch face detectors",
        "set up",
        _MODELS,
    ),
    "completion": Command(
        f"{_HERE}.completion:completion", "print the file that lets a shell complete verbs and options", "set up"
    ),
    "doctor": Command(
        f"{_HERE}.doctor:doctor",
        "say what is installed, what is wrong, and what this machine is good for",
        "set up",
    ),
}
"""All verbs but those of the trainer, by name, in the order of the help."""
