"""The short help of ``fer fit``, ``validate``, ``test`` and ``predict``: the ten options that matter first.

All options are told by the parser, which takes seconds to import: ``fer fit --help-all``.
"""

from __future__ import annotations

__all__ = ["FIRST_OPTIONS", "HELP_ALL", "short_help"]

HELP_ALL = "--help-all"
"""The flag that lists all options of a verb."""

_CHECKPOINT = "the trained model: a run folder, a .ckpt file, a model folder, or best or last of --name"
_EVALUATION = {
    "--ckpt_path RUN": _CHECKPOINT,
    "--name NAME": "the experiment of which 'best' and 'last' are meant",
    "--data CLASS": "other data than the checkpoint was trained with: ImageFolderDataModule, ...",
    "--data.root PATH": "where the data lie",
    "--data.test PART": "FER2013: which part is the test split, such as PublicTest",
    "--data.batch_size N": "images that are computed at once",
    "--data.on_error skip": "leave out files that cannot be read, and count them",
    "--trainer.accelerator WHERE": "cpu or gpu; chosen if it is not given",
    "--trainer.precision KIND": "32-true (the default here), bf16-mixed or 16-mixed",
    "--report.pictures false": "write numbers and tables only",
}

FIRST_OPTIONS: dict[str, dict[str, str]] = {
    "fit": {
        "--config NAME": "a config file: a path or a name of fer configs list; may be given again, later ones win",
        "--name NAME": "what the run is called; it goes to runs/NAME/version_0, version_1, ...",
        "--data CLASS": "what reads the data: FER2013DataModule, ImageFolderDataModule, ManifestDataModule, ...",
        "--data.root PATH": "where the data lie",
        "--data.batch_size N": "images of a step",
        "--model.backbone NAME": "the network: fer_a, fer_b_fast, or any of timm, such as resnet18",
        "--model.optimizer.lr RATE": "the learning rate, behind --model.optimizer AdamW or a config that names one",
        "--trainer.max_epochs N": "how long to train",
        "--trainer.precision KIND": "32-true, bf16-mixed or 16-mixed; measured if it is not given",
        "--ckpt_path WHERE": "auto: go on with the run of this name or begin it; or a run folder to go on with",
    },
    "validate": _EVALUATION,
    "test": _EVALUATION,
    "predict": {
        **{option: text for option, text in _EVALUATION.items() if not option.startswith("--report")},
        "--set 0.9": "also write the classes that hold the true one so often, once fer calibrate has been run",
    },
}
"""By verb: what is told of each option, with its value."""

_ABOUT = {
    "fit": "Train a classifier. What a run leaves is in runs/NAME/version_0; index.html there is its page.",
    "validate": "Evaluate a checkpoint on the validation split: numbers, pictures and a page.",
    "test": "Evaluate a checkpoint on the test split: numbers, pictures and a page.",
    "predict": "Write a checkpoint's predictions for the test split as a table. Your own pictures: fer recognize.",
}
_EXAMPLES = {
    "fit": (
        "fer fit --config quickstart",
        "fer fit --config experiment/fer2013_a --data.root PATH",
        "fer fit --data ImageFolderDataModule --data.root PATH --model.backbone resnet18 --name mine",
        "fer fit --ckpt_path runs/mine/version_0",
    ),
    "validate": ("fer validate --ckpt_path runs/mine/version_0",),
    "test": (
        "fer test --ckpt_path runs/mine/version_0",
        "fer test --ckpt_path runs/mine/version_0 --data ImageFolderDataModule --data.root PATH",
    ),
    "predict": ("fer predict --ckpt_path runs/mine/version_0",),
}


def short_help(verb: str) -> str:
    """Return what ``fer VERB --help`` prints for one of the four verbs."""
    options = FIRST_OPTIONS[verb]
    width = max(map(len, options))
    return "\n".join(
        [
            f"usage: fer {verb} [options]        fer {verb} {HELP_ALL}",
            "",
            _ABOUT[verb],
            "",
            *(f"  {line}" for line in _EXAMPLES[verb]),
            "",
            "the options that matter first:",
            *(f"  {option:<{width}}  {text}" for option, text in options.items()),
            "",
            f"all options: fer {verb} {HELP_ALL}; those of a data set: fer {verb} --data.help CLASS",
            "what a command line comes to, without running it: --print_config",
        ]
    )
