from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonargparse import ArgumentParser

from fer_lightning.__main__ import TRAINER_VERBS, main
from fer_lightning.cli import quick_checks
from fer_lightning.cli.early_check import check_command_line
from fer_lightning.cli.known_options import FAMILIES, options_of_data, plain_options, plugins
from fer_lightning.cli.named_configs import with_config_files
from fer_lightning.cli.other_names import NEEDLESS, SHORT, VERBS
from fer_lightning.cli.parsing import prepare_parsing
from fer_lightning.cli.signatures import class_signature
from fer_lightning.cli.trainer_cli import FERCLI
from fer_lightning.commands import COMMANDS
from fer_lightning.errors import CheckpointError, ConfigError, FERError

CONFIGS = Path(__file__).parents[2] / "configs"
QUICKSTART = f"--config {CONFIGS}/quickstart.yaml"
SKETCH = "--data SketchDataModule --model.backbone fer_b_fast"
STOPPING = "--trainer.callbacks EarlyStopping --trainer.callbacks.monitor val_loss --trainer.callbacks"

FILES = {
    "list.yaml": "data: {class_path: SketchDataModule}\nmodel: {backbone: fer_a}\ntrainer: [1, 2]\n",
    "listed.yaml": "trainer:\n  callbacks:\n  - EarlyStopping:\n      monitor: val_loss\n",
    "key.yaml": "data: {class_path: SketchDataModule}\nmodel: {backbonne: fer_a}\n",
    "section.yaml": "data: {class_path: SketchDataModule}\nmodell: {backbone: fer_a}\n",
    "loss.yaml": "model:\n  loss: {class_path: CrossEntropyLoss, init_args: {gama: 2}}\n",
    "value.yaml": "data: {class_path: SketchDataModule}\ntrainer: {max_epochs: three}\n",
    "callback.yaml": "trainer:\n  callbacks:\n  - class_path: EarlyStoping\n    init_args: {monitor: val_loss}\n",
    "inner.yaml": "backbone: fer_a\npretraind: true\n",
    "outer.yaml": "data: {class_path: SketchDataModule}\nmodel: inner.yaml\n",
    "text.yaml": "just words\n",
    "broken.yaml": "model: [\n",
    "faces.yaml": "data: {class_path: SketchDataModule}\n",
    "fit.yaml": "fit:\n  model: {backbone: fer_a}\n",
    "class.yaml": "data: {class: SketchDataModule}\n",
    "args.yaml": "model: {loss: {class_path: FocalLoss, args: {gamma: 2}}}\n",
    "beside.yaml": "model: {loss: {class_path: FocalLoss, gamma: 2}}\n",
    "tab.yaml": "model:\n\tbackbone: fer_a\n",
    "indent.yaml": "model:\n  backbone: fer_a\n pretrained: true\n",
    "twice.yaml": "model: {backbone: fer_a}\ntrainer: {max_epochs: 3}\nmodel: {pretrained: true}\n",
    "space.yaml": "trainer: max_epochs:3\n",
    "colon.yaml": "model: fer_a\n  pretrained: true\n",
    "words.yaml": "max_epochs:3\n",
    "optimizer.yaml": "optimizer: {class_path: SGD}\n",
    "strategy.yaml": "trainer: {strategy: ddpp}\n",
    "named.yaml": "data: {class_path: SketchDataModule}\nname: ../faces\n",
    "searched.yaml": "model.optimizer.learning_rate: {low: 1e-4, high: 1e-2}\n",
    "batch.yaml": "data.batch_sise: {choices: [8, 16]}\n",
    "secret.txt": "hunter2 is\nthe password\n",
    "own_parts.py": "class MyLoss:\n    def __init__(self, scale=1.0):\n        pass\n",
}

# Wrong command lines behind `fer`, and what the answer says.
WRONG = {
    "fit": "fer fit needs data and a network, for example: fer fit --data SketchDataModule",
    "fit --model.backbone fer_a": "fer fit needs data: --data CLASS --data.root PATH, or, to try it: fer fit --data Sk",
    f"fit --confg {CONFIGS}/quickstart.yaml": "no option --confg; did you mean --config /",
    f"fit {QUICKSTART} --trainer.max_epoch 3": "no option --trainer.max_epoch; did you mean --trainer.max_epochs 3?",
    f"fit {QUICKSTART} --max_epochs 3": "did you mean --trainer.max_epochs 3?",
    f"fit {QUICKSTART} --trainer.batch_size 8": "did you mean --data.batch_size 8?",
    f"fit {QUICKSTART} --model.lr 0.1": "did you mean --model.optimizer.lr 0.1?",
    f"fit {QUICKSTART} --backbone resnet18": "did you mean --model.backbone resnet18?",
    f"fit {QUICKSTART} --model resnet18": "there is none called 'resnet18'; did you mean --model.backbone resnet18?",
    f"fit {QUICKSTART} --checkpoint best.ckpt": "did you mean --ckpt_path best.ckpt?",
    f"fit {QUICKSTART} --optimizer adamw": "did you mean --model.optimizer AdamW?",
    f"fit {QUICKSTART} --lr_scheduler_type cosine": "did you mean --model.lr_scheduler WarmupCosine?",
    f"fit {QUICKSTART} --pretrained": "did you mean --model.pretrained true?",
    f"fit {QUICKSTART} -b 8": "there is no option -b; did you mean --data.batch_size 8?",
    f"fit {QUICKSTART} -name x": "there is no option -name; did you mean --name x?",
    f"fit {QUICKSTART} --hflip 0.5": "did you mean --data.augment BatchAugment --data.augment.flip 0.5?",
    f"fit {SKETCH} --momentum 0.9": "did you mean --model.optimizer SGD --model.optimizer.momentum 0.9?",
    f"fit {SKETCH} --trainer.max_time 5m": "--trainer.max_time must be DD:HH:MM:SS, not '5m'; an hour is --trainer.ma",
    f"fit {SKETCH} --trainer.max_epochs -3": "--trainer.max_epochs must be at least -1 (-1 for no limit), not -3",
    f"fit {SKETCH} --trainer.devices two": "must be their number, a list as [0,1], or auto, not 'two'",
    f"fit {SKETCH} --trainer.devices 0": "--trainer.devices must be their number, a list as [0,1], or auto, not '0'",
    "fit --config listed.yaml": "write class_path: EarlyStopping, and its arguments below init_args:",
    "fit --config list.yaml": "list.yaml: trainer: expected keys with their values, as {a: b}, found a list",
    f"fit {QUICKSTART} --frobnicate": "there is no option --frobnicate (fer fit --help lists them)",
    f"fit {QUICKSTART} extra": "'extra' belongs to no option",
    f"fit {QUICKSTART} --name": "--name needs a value",
    f"fit {QUICKSTART} --model.num_classes 3": "--model.num_classes",
    f"fit {SKETCH} --lr 0.1": "did you mean --model.optimizer AdamW --model.optimizer.lr 0.1?",
    f"fit {SKETCH} --model.optimizer.lr 0.1": "say for example --model.optimizer AdamW --model.optimizer.lr 0.1",
    f"fit {SKETCH} --model.optimizer.lr abc": "--model.optimizer.lr must be a number, not 'abc'",
    f"fit {SKETCH} --model.optimizer AdamW --model.optimizer.learning_rate 1": "AdamW has no argument 'learning_rate'; "
    "did you mean 'lr'?",
    f"fit {SKETCH} --model.optimizer AdamWW": "there is no optimizer 'AdamWW'; did you mean 'AdamW'?",
    f"fit {SKETCH} --model.lr_scheduler CosineAnealingLR": "no schedule 'CosineAnealingLR'; did you mean 'CosineAnneal",
    f"fit {SKETCH} --model.loss FocalLos": "--model.loss: there is no loss 'FocalLos'; did you mean 'FocalLoss'?",
    f"fit {SKETCH} --model.loss torch.nn.CrossEntropyLos": "torch.nn has no 'CrossEntropyLos'; did you mean 'torch.nn.",
    f"fit {SKETCH} --model.loss my_parts.MyLoss": "no module 'my_parts' for 'my_parts.MyLoss'; put my_parts.py into",
    f"fit {SKETCH} --model.loss own_parts.MyLos": "own_parts has no 'MyLos'; did you mean 'own_parts.MyLoss'?",
    f"fit {SKETCH} --model.loss subprocess.Popen": "'subprocess.Popen' may not be named in a configuration",
    f"fit {SKETCH} --model.head CosinHead": "there is no head 'CosinHead'; did you mean 'CosineHead'?",
    f"fit {SKETCH} --model.backbone resnet81": "unknown backbone 'resnet81'; did you mean 'resnet18'",
    f"fit {SKETCH} --model.pretrained maybe": "--model.pretrained must be true or false, not 'maybe'",
    f"fit {SKETCH} --trainer.callbacks EarlyStoping": "no callback 'EarlyStoping'; did you mean 'EarlyStopping'?",
    f"fit {SKETCH} --trainer.callbacks EarlyStopping --trainer.callbacks.pateince 3": "did you mean 'patience'?",
    f"fit {SKETCH} --trainer.max_epochs three": "--trainer.max_epochs must be a whole number, not 'three'",
    f"fit {SKETCH} --trainer.precision 12": "--trainer.precision must be 32-true or bf16-mixed or 16-mixed, not '12'",
    f"fit {SKETCH} --data.batch_size eight": "--data.batch_size must be a whole number, not 'eight'",
    f"fit {SKETCH} --data.batchsize 8": "SketchDataModule has no argument 'batchsize'; did you mean 'batch_size'?",
    f"fit {SKETCH} --data.interpolation cubic": "--data.interpolation must be area or bilinear, not 'cubic'",
    "fit --data ImageFolder --data.root .": "no data module 'ImageFolder'; did you mean 'ImageFolderDataModule'?",
    "fit --config nowhere.yaml": "there is no config file nowhere.yaml; there is args.yaml, ",
    "fit --config face.yaml": "there is no config file face.yaml; did you mean --config faces.yaml?",
    "fit --config key.yaml": "key.yaml: model.backbonne: there is no such key; did you mean model.backbone?",
    "fit --config section.yaml": "section.yaml: modell: there is no such key; did you mean model?",
    "fit --config loss.yaml": "loss.yaml: model.loss.init_args.gama: CrossEntropyLoss has no argument 'gama'",
    "fit --config value.yaml": "value.yaml: trainer.max_epochs must be a whole number, not 'three'",
    "fit --config callback.yaml": "callback.yaml: trainer.callbacks: there is no callback 'EarlyStoping'; did you mean",
    "fit --config outer.yaml": "inner.yaml: model.pretraind: there is no such key; did you mean model.pretrained?",
    "fit --config text.yaml": "text.yaml: expected sections such as 'model:' and 'data:', found a text",
    "fit --config broken.yaml": "broken.yaml is no YAML",
    f"fit {SKETCH} --trainer.strategy ddpp": "or deepspeed, not 'ddpp'; did you mean --trainer.strategy ddp?",
    f"fit {SKETCH} --trainer.gradient_clip_algorithm foo": "--trainer.gradient_clip_algorithm must be norm or value, n",
    f"fit {SKETCH} --trainer.limit_train_batches 1.5": "a share above 0 and at most 1, or a whole number of "
    "batches, not 1.5; did you mean --trainer.limit_train_batches 1.0?",
    f"fit {SKETCH} --trainer.limit_val_batches=2.0": "did you mean --trainer.limit_val_batches 2?",
    f"fit {SKETCH} --trainer.val_check_interval 2.5": "above 0 and at most 1, or a whole number of batches, not 2.5; d",
    f"fit {SKETCH} --trainer.val_check_interval hourly": "must be DD:HH:MM:SS, not 'hourly'; an hour is --trainer.val_",
    f"fit {SKETCH} --trainer.profiler fast": "--trainer.profiler must be simple or advanced or pytorch, not 'fast'",
    f"fit {SKETCH} --trainer.profiler torch": "did you mean --trainer.profiler pytorch?",
    f"fit {SKETCH} --trainer.precision fp16": "did you mean --trainer.precision 16-mixed?",
    f"fit {SKETCH} --trainer.accumulate_grad_batches 0": "must be at least 1, not 0; did you mean --trainer.accumulate",
    f"fit {SKETCH} --trainer.max_epochs 1e1": "must be a whole number, not '1e1'; did you mean --trainer.max_epochs 10",
    f"fit {SKETCH} --trainer.devices 1.5": "--trainer.devices must be their number, a list as [0,1], or auto, not '1.5",
    f"fit {SKETCH} --seed_everything -1": "must be in 0..4294967295, not -1; did you mean --seed_everything 0?",
    f"fit {SKETCH} --trainer.accelerator cuda:0": "there is no 'cuda:0'; did you mean --trainer.accelerator cuda?",
    f"fit {SKETCH} --trainer.accelerator tpu": "there is no TPU that torch can use; leave it out, or pass --trainer.ac",
    f"fit {SKETCH} --checkpoint.monitor val_accuracy": "'val_accuracy'; did you mean --checkpoint.monitor val_acc?",
    f"fit {SKETCH} --model.monitor loss": "no metric is called 'loss'; did you mean --model.monitor val_loss?",
    f"fit {SKETCH} --checkpoint.mode up": "must be min or max, not 'up'; did you mean --checkpoint.mode max?",
    f"fit {SKETCH} {STOPPING}.mode up": "must be min or max, not 'up'; did you mean --trainer.callbacks.mode max?",
    f"fit {SKETCH} {STOPPING}.patience -3": "must be at least 0, not -3; did you mean --trainer.callbacks.patience 0?",
    f"fit {SKETCH} {STOPPING}.monitor val/f1": "no metric is called 'val/f1'; did you mean --trainer.callbacks.monitor",
    f"fit {SKETCH} --trainer.callbacks EarlyStopping": "needs monitor: pass for example --trainer.callbacks.monitor va",
    f"fit {SKETCH} --trainer.callbacks.patience 3": "did you mean --trainer.callbacks+=EarlyStopping --trainer.callbac",
    f"fit {SKETCH} --trainer.callbacks ModelSummary --trainer.callbacks.max_depth -3": "at least -1 (-1 for all layers",
    f"fit {SKETCH} --trainer.callbacks [EarlyStoping]": "did you mean 'EarlyStopping'?",
    f"fit {SKETCH} --model.lr_scheduler StepLR": "StepLR needs step_size: pass for example --model.lr_scheduler.step_s",
    f"fit {SKETCH} --model.lr_scheduler OneCycleLR": "the number of steps, which the run knows: --model.lr_scheduler O",
    f"fit {SKETCH} --model.lr_scheduler none": "there is no schedule 'none'; did you mean null?",
    f"fit {SKETCH} --model.optimizer Lamb": "there is no optimizer 'Lamb'; did you mean timm.optim.Lamb?",
    f"fit {SKETCH} --model.optimizer SGD --model.optimizer.lr -0.1": "at least 0, not -0.1; did you mean --model.optim",
    f"fit {SKETCH} --model.loss CrossEntropyLoss --model.loss.reduction avg": "did you mean --model.loss.reduction mea",
    f"fit {SKETCH} --model.loss CrossEntropyLoss --model.loss.weight [1,2]": "cannot be set by a configuration; leave",
    f"fit {SKETCH} --model.loss own_part.MyLoss": "no module 'own_part' for 'own_part.MyLoss'; put own_part.py into",
    f"fit {SKETCH} --model.loss fer_lightning.loses.FocalLoss": "there is no module 'fer_lightning.loses'; did you "
    "mean 'fer_lightning.losses.FocalLoss'?",
    f"fit {SKETCH} --model.loss secret.txt": "secret.txt is a file, which must hold class_path: and init_args:, and ho",
    f"fit {SKETCH} --data.augment secret.txt": "secret.txt is a file, which must hold class_path: and init_args:, and",
    'fit --data HybridDataModule --data.sources={"one":"secret.txt"}': "--data.sources: 'one' must say where it lies; "
    "did you mean --data.sources '{one: {path: secret.txt}}'?",
    f"fit {SKETCH} --data.augment flip": "there is no class 'flip'; did you mean --data.augment BatchAugment?",
    f"fit {SKETCH} --data.mean 0.5": "--data.mean must be a list, not '0.5'; did you mean --data.mean '[0.5]'?",
    f"fit {SKETCH} --model.tau nan": "--model.tau must be in -5..5 (-1 decides for classes equally frequent, 0 as trai",
    f"fit {SKETCH} --model.tau=-30": "not -30; did you mean --model.tau -5?",
    f"fit {SKETCH} --model.backbone vitt/resnet18": "unknown backbone 'vitt/resnet18'; did you mean 'resnet18'?",
    f"fit {SKETCH} --name ../faces": "cannot be the name of an experiment: expected a name, or names of folders in "
    "each other as a/b; did you mean --name faces?",
    f"fit {SKETCH} --name a/version_3": "version_3 is a folder of one run; did you mean --name a?",
    f"fit {SKETCH} --name=": "--name: '' cannot be the name of an experiment",
    f"fit {SKETCH} --data.root=": "--data.root needs a value, and has an empty one",
    f"fit {SKETCH} --trainer max_epochs=3": "found 'max_epochs=3'; did you mean --trainer.max_epochs 3?",
    f"fit {SKETCH} model.pretrained=true": "'model.pretrained=true' belongs to no option; did you mean --model.pretrai",
    f"fit {SKETCH} —trainer.max_epochs=3": "begins with a long dash; did you mean --trainer.max_epochs=3?",
    f"fit {SKETCH} --data.mean 0.5 0.5": "'0.5' belongs to no option; did you mean --data.mean '[0.5, 0.5]'?",
    f"fit {SKETCH} --no-channels-last": "did you mean --model.channels_last false?",
    f"fit {SKETCH} --report.top 3": "there is no option --report.top (fer fit --help lists them)",
    f"fit {SKETCH} --model.class_weights [1,2]": "did you mean --model.loss WeightedCrossEntropy?",
    f"fit {SKETCH} --freeze": "did you mean --trainer.callbacks+=GradualUnfreezing --trainer.callbacks.every 2?",
    f"fit {SKETCH} --aa rand-m9-mstd0.5": "there is no option --aa; did you mean --data.augment BatchAugment?",
    f"fit {SKETCH} --drop 0.2": "did you mean --model.head MLPHead --model.head.dropout 0.2?",
    f"fit {SKETCH} --num-classes 7": "there is no option --num-classes: how many classes there are comes from the data",
    "fit --data faces": "did you mean --data ImageFolderDataModule --data.root faces? (fer data inspect faces tells th",
    "fit --data.root faces": "did you mean --data ImageFolderDataModule --data.root faces?",
    "fit faces --model.backbone fer_a": "'faces' belongs to no option; did you mean --data ImageFolderDataModule --dat",
    "fit data=faces": "did you mean --data ImageFolderDataModule --data.root faces?",
    "fit --data ImageFolderDataModule": "ImageFolderDataModule needs root: pass --data.root PATH",
    "train": "there is no verb 'train'; did you mean fer fit?",
    "fit --config configs/quikstart.yaml": "did you mean --config quickstart? (it comes with the package)",
    "fit --config nowhere/nothing.yaml": "there is no config file nowhere/nothing.yaml; there is args.yaml, batch.yaml",
    "fit --config fit.yaml": "fit.yaml: the verb stands on the command line alone: leave out 'fit:' and move what is b",
    "fit --config class.yaml": "class.yaml: data.class: there is no such key; did you mean class_path: SketchDataModul",
    "fit --config args.yaml": "args.yaml: model.loss.args: there is no such key; did you mean init_args?",
    "fit --config beside.yaml": "beside.yaml: model.loss: gamma must stand below init_args:, beside class_path:",
    "fit --config tab.yaml": "tab.yaml is no YAML: line 2 begins with a tab; YAML is indented by spaces",
    "fit --config indent.yaml": "indent.yaml is no YAML: line 3 is not indented as the lines around it",
    "fit --config twice.yaml": "twice.yaml: 'model' is there twice, in lines 1 and 3; put them in one",
    "fit --config space.yaml": "trainer: expected keys with their values, found 'max_epochs:3'; did you mean max_epoch",
    "fit --config colon.yaml": "line 2 has a colon too many, or the line before it should end with one",
    "fit --config words.yaml": "found a text (is there a space behind each colon?)",
    "fit --config optimizer.yaml": "optimizer.yaml: optimizer: there is no such key; did you mean model.optimizer?",
    "fit --config strategy.yaml": "strategy.yaml: trainer.strategy must be auto or ddp or",
    "fit --config named.yaml": "did you mean 'faces'?",
    f"tune --space searched.yaml {SKETCH} --model.optimizer AdamW": "searched.yaml: 'model.optimizer.learning_rate' "
    "cannot be 0.0001: --model.optimizer.learning_rate: AdamW has no argument 'learning_rate'; did you mean 'lr'?",
    f"tune --space batch.yaml {SKETCH}": "batch.yaml: 'data.batch_sise' cannot be 8: --data.batch_sise: SketchDataModu",
    "test --data SketchDataModule": "fer test needs --ckpt_path",
    "validate --ckpt_path runs/nowhere.ckpt": "there is no checkpoint runs/nowhere.ckpt; there is no checkpoint under",
    "data inspect nowhere": "nowhere does not exist; expected a folder, a table or an archive",
    "data inspect faces --mapping x": "did you mean '--data.mapping'?",
    "data inspect faces --data.on_eror skip": "did you mean data.on_error?",
    "data inspect faces --data.on_error skp": "--data.on_error must be raise or skip, not 'skp'; did you mean 'skip'?",
    "data inspect --data ImageFoldr --data.root faces": "did you mean 'ImageFolderDataModule'?",
    f"bench train {SKETCH} --epochs 3": "did you mean --trainer.max_epochs 3?",
    f"tune --space x.yaml {SKETCH} --model.loss FocalLos": "did you mean 'FocalLoss'?",
    "crossval key.yaml --lr 3": "did you mean --model.optimizer.lr 3?",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "faces").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_refused_at_once(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_late(*args: object, **options: object) -> None:
        raise AssertionError("the parser that needs torch was asked")

    monkeypatch.setattr(quick_checks, "_has_gpu", lambda: True)
    for late in ("cli.trainer_verbs.run_trainer_verb", "cli.data_set.data_module", "studies.rehearsal.rehearsed"):
        monkeypatch.setattr(f"fer_lightning.{late}", is_late)
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert WRONG[line] in said
    assert said.count("\n") == 1
    assert not any(word in said for word in ("Namespace", "Parser key", "allowlist", "denylist", "<class", "hunter2"))
    if line.startswith("fit ") and "did you mean --" in said:
        with suppress(CheckpointError):  # there is none
            check_command_line("fit", with_config_files(mended(line.split()[1:], said.strip())))


def mended(args: list[str], said: str) -> list[str]:
    """Return a command line with what a message proposes in place of what is wrong."""
    found = re.search(r"did you mean (--.+?)\?(?:$| \()", said)
    assert found is not None
    pasted = shlex.split(found[1])
    wrong = re.findall(r"(?:error: |option |fit: )(-[^\s':,;]+)|'([^']+)' be(?:longs|gins)|no (config) file", said)
    gone = {f"--{name}" if name == "config" else name for each in wrong for name in each if name}
    gone |= {flag for flag in pasted if flag.startswith("--") and flag != "--data"}
    rest = list(args)
    for place in reversed(range(len(args))):
        flag, equals, _ = args[place].partition("=")
        if args[place] in gone or (flag in gone and equals):
            follows = (
                not equals and flag.startswith(("-", "—")) and not "".join(args[place + 1 : place + 2]).startswith("--")
            )
            rest[place : place + 1 + follows] = []
    return [*rest, *pasted]


# Values of our options, the last ones of what is proposed, and of those that are named by a class.
VALUES = {
    **dict.fromkeys(("model.optimizer", "model.optimizer.betas"), "SGD"),
    "checkpoint.monitor": "val_acc",
    "config": f"{CONFIGS}/quickstart.yaml",
    "data": "ImageFolderDataModule",
    "data.channels": "1",
    "data.class_names": "[happy,sad]",
    "model.backbone": "resnet18",
    "model.loss": "FocalLoss",
    "model.lr_scheduler": "OneCycle",
    "trainer.logger": "wandb",
    "trainer.strategy": "ddp",
}
ROOT = "--data.root=."


def value_for(option: str) -> str:
    """Return a value that an option takes."""
    types = plain_options().get(option, options_of_data().get(option.removeprefix("data.")))
    if option in VALUES or types is None:
        return VALUES.get(option, "3" if option.rpartition(".")[2] in ("every", "patience", "refresh_rate") else "0.1")
    kinds = {bool: "true", int: "3", float: "0.1", str: "x"}
    return next(text for kind, text in kinds.items() if kind in types.scalars)


OF_PREDICT = {"set"}  # fer fit says where it belongs


def test_names_of_other_programs_are_not_ours() -> None:
    assert not set(SHORT) & {option.rpartition(".")[2] for option in plain_options()} - {"mixup"}
    assert not set(NEEDLESS) & {*SHORT, *plain_options()} - OF_PREDICT
    for name, line in VERBS.items():
        verb, _, rest = line.partition(" ")
        assert name not in {**TRAINER_VERBS, **COMMANDS}
        assert verb in {**TRAINER_VERBS, **COMMANDS, "--version": None}
        assert not rest or rest.startswith("--") or rest in COMMANDS[verb].verbs  # type: ignore[union-attr]  # a group


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", SHORT)
def test_what_is_proposed_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_checks, "_has_gpu", lambda: True)
    option = SHORT[name].rpartition(" ")[2].removeprefix("--")
    of_files = option in ("data", "data.class_names", "data.root", "data.val_fraction", "data.test_fraction")
    line = f"--data=ImageFolderDataModule {ROOT} --model.backbone fer_b_fast" if of_files else SKETCH
    value = "[0.9,0.99]" if option.endswith("betas") else value_for(option)
    with pytest.raises(ConfigError, match=r"did you mean (--.*)\?$") as caught:
        check_command_line("fit", [*line.split(), f"--{name.replace('_', '-')}", value])
    pasted = str(caught.value).partition("did you mean ")[2].rstrip("?").split()
    check_command_line("fit", [*line.split(), *pasted])
    if name in ("lr", "gpus", "patience", "mixup", "device"):  # a parser for each would take too long
        parsed([*line.split(), *pasted])


class Parsed(FERCLI):
    """The parser of ``fer fit``, which makes nothing."""

    def instantiate_classes(self) -> None:
        """Make nothing."""


def parsed(args: list[str]) -> Parsed:
    prepare_parsing()
    return Parsed("fit", args)


def options_in(parser: ArgumentParser) -> set[str]:
    """Return the options of a parser, without those that print and those of a class's own."""
    strings = {text for action in parser._actions for text in action.option_strings if text.startswith("--")}
    return {text[2:].rstrip("+") for text in strings if not text.endswith((".help", "--help", "print_shtab"))}


def test_the_options_are_those_of_the_parser() -> None:
    assert set(plain_options()) - OF_PREDICT == options_in(parsed(SKETCH.split()).parser)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        *(
            ("data", name)
            for name in ("FER2013DataModule", "HybridDataModule", "ImageFolderDataModule", "ShardsDataModule")
        ),
        ("model.loss", "FocalLoss"),
        ("model.loss", "CrossEntropyLoss"),
        ("model.head", "CosineHead"),
        ("model.optimizer", "AdamW"),
        ("model.lr_scheduler", "WarmupCosine"),
        ("model.lr_scheduler", "CosineAnnealingLR"),
        ("trainer.callbacks", "EMA"),
        ("trainer.callbacks", "EarlyStopping"),
        ("trainer.logger", "CSVLogger"),
    ],
)
def test_the_arguments_of_a_class_are_those_of_the_parser(option: str, name: str) -> None:
    family = FAMILIES[option]
    module, _, _ = family.classes[name].rpartition(".")
    parser = ArgumentParser()
    kind = getattr(importlib.import_module(module), name)
    parser.add_class_arguments(kind, "x", skip={family.first} if family.first else None, fail_untyped=False)
    signature = class_signature(family.classes[name])
    assert signature is not None
    assert not signature.open
    assert set(list(signature.arguments)[family.first :]) == {
        key.partition(".")[2] for key in options_in(parser) if key.count(".") == 1
    }


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_our_configs_pass(path: Path) -> None:
    kind = path.parent.name
    if kind == "tune":
        pytest.skip("a search space")
    option = kind if kind in ("data", "model", "trainer") else "config"
    check_command_line("fit", [f"--{option}", str(path)], complete=False)


@pytest.mark.parametrize(
    "line",
    [
        "--model.loss own_parts.MyLoss --model.loss.scale 3",
        "--model.loss own_parts.MyLoss --model.head MyHead",  # a class of a file that has been imported by then
        "--model.loss torch.nn.HuberLoss --model.loss.delta 2",
        "--model.head torch.nn.Linear",
        "--model.backbone torchvision.models.ResNet",
        "--model.backbone resnet18.a1_in1k --model.backbone_args.drop_rate 0.1",
        "--model.backbone hf-hub:timm/resnet18",
        "--model.optimizer timm.optim.Lamb --model.optimizer.lr 1e-3",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val_loss",
        "--trainer.callbacks=lightning.pytorch.callbacks.ThroughputMonitor --trainer.callbacks.window_size=3",
        "--trainer.logger=false --trainer.max_epochs=null --trainer.max_time=00:01:00:00 --trainer.devices=[0]",
        "--trainer.logger=TensorBoardLogger --trainer.logger.flush_secs=3",
        '--trainer.callbacks=[{"class_path":"EarlyStopping","init_args":{"monitor":"val_loss"}}]',
        "--data.augment=BatchAugment --data.augment.flip=0 --data.mean=[0.5] --data.batch_size=1_0",
        "--model.lr_scheduler=null --model.tau=1e-1 --trainer.limit_val_batches=1.0 --trainer.strategy=mine.Strategy",
        "--print_config",
        "--model.loss.help=FocalLoss",
        "--ckpt_path=last --model.optimizer.lr=0.1 --model.loss=MyLoss",
    ],
)
@pytest.mark.usefixtures("files")
def test_what_may_be_right_is_left_to_the_parser(line: str) -> None:
    check_command_line("fit", [*SKETCH.split(), *line.split()])


def test_short_names_of_plug_ins_may_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FERError):
        check_command_line("fit", ["--data=TheirDataModule"])
    plugin = SimpleNamespace(value="theirs:data")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [plugin])
    monkeypatch.setattr("fer_lightning.cli.early_check.plugins", plugins.__wrapped__)  # which looks again
    check_command_line("fit", ["--data=TheirDataModule"])


@pytest.mark.usefixtures("files")
def test_torch_is_not_imported() -> None:
    code = (
        "import sys, time; from fer_lightning.__main__ import main; code = main(sys.argv[1:]);"
        "sys.exit(', '.join({'torch', 'lightning', 'jsonargparse', 'numpy'} & set(sys.modules)) or code)"
    )
    line = f"fit {QUICKSTART} --model.loss FocalLos"
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
