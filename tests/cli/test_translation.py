from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import Trainer

from fer_lightning.cli.translation import of_lightning, readable

LOSS = "Type collections.abc.Callable[[], torch.nn.modules.module.Module] expects a function or a callable class: "
DATA = "Parser key \"data\": Problem with given class_path 'fer_lightning.data.SketchDataModule': "


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        (
            'Parser key "model.loss": - Expected a path but FocalLos either not accessible or invalid - Expected a dot '
            "import path string: FocalLos",
            "model.loss: there is no loss 'FocalLos'; did you mean 'FocalLoss'? (a class of your own: module.Class)",
        ),
        (
            f'Parser key "model.loss": - Expected a path but my_parts.A either not accessible or invalid - {LOSS}'
            "Importing 'my_parts.A' is not allowed, denied by the '*' entry of the import path denylist. Add the "
            "import path to import_path_allowlist in set_parsing_settings to allow it.. Got value: my_parts.A",
            "model.loss: there is no module 'my_parts' for 'my_parts.A'; put my_parts.py into the folder that fer is",
        ),
        (
            f"Parser key \"model.loss\": {LOSS}module 'torch.nn' has no attribute 'CrossEntropyLos'. Got value: x",
            "model.loss: torch.nn has no 'CrossEntropyLos'; did you mean 'CrossEntropyLoss'?",
        ),
        (
            f"Parser key \"model.loss\": {LOSS}Option 'gama' is not accepted. Got value: Namespace(gama=3)",
            "model.loss: the class has no argument 'gama'",
        ),
        (
            f"{DATA}Parser key \"augment\": Problem with given class_path 'fer_lightning.data.BatchAugment': Option "
            "'flp' is not accepted",
            "data.augment: BatchAugment has no argument 'flp'; did you mean 'flip'?",
        ),
        (
            f'{DATA}Parser key "mix": Problem with given class_path \'fer_lightning.data.BatchMix\': Parser key "mixup"'
            ": Expected a <class 'float'>. Got value: abc",
            "data.mix.mixup must be a number, not 'abc'",
        ),
        (
            'Parser key "trainer.limit_val_batches": Does not validate against any of the Union subtypes Subtypes: [int'
            ", float] Errors: - Expected a <class 'int'> - Expected a <class 'float'> Given value type: <class 'str'>",
            "trainer.limit_val_batches must be a number",
        ),
        (
            f"{DATA}Parser key \"interpolation\": Expected a typing.Literal['area', 'bilinear']. Got value: cubic",
            "data.interpolation must be one of 'area', 'bilinear', not 'cubic'",
        ),
        (
            'Parser key "model.optimizer": Type typing.Callable[[collections.abc.Iterable], X] expects a function or a '
            "callable class: Dict must include a class_path and optionally init_args, but got NestedArg(key='lr', "
            "val='abc'). Got value: Namespace(lr='abc')",
            "model.optimizer: name the class before its arguments: --model.optimizer CLASS --model.optimizer.NAME",
        ),
        ("Parser key \"trainer\": Unable to load config 'cpu' - x", "trainer: expected a YAML file, found 'cpu'"),
        (
            'Parser key "data.augment": - Does not validate against any of the Union subtypes Subtypes: [<class \'fer_'
            "lightning.data.batches.augment.BatchAugment'>, <class 'NoneType'>] Errors: - Import path does not "
            "correspond to a subclass of BatchAugment",
            "data.augment: what is given is no BatchAugment; take one of ours or a class that is derived from it",
        ),
        (
            "Parser key \"model.optimizer\": Expected 'torch.optim.lr_scheduler.StepLR' to be a subclass of <class "
            "'Optimizer'>.",
            "model.optimizer: 'torch.optim.lr_scheduler.StepLR' is no Optimizer; take one of ours",
        ),
        (
            f"Parser key \"model.loss\": {LOSS}Expected 'torch.nn.functional.cross_entropy' to be a function that "
            "returns <class 'Module'>.. Got value: torch.nn.functional.cross_entropy",
            "model.loss: 'torch.nn.functional.cross_entropy' is no Module; take one of ours",
        ),
        (
            'Parser key "model.head": - Multiple subclasses with name Linear. Give the full class path to avoid '
            "ambiguity: torch.nn.Linear, torch.ao.nn.qat.Linear.",
            "model.head: several classes are called 'Linear'; did you mean --model.head torch.nn.Linear?",
        ),
        (
            'Parser key "data.augment": - Expected a path but none either not accessible or invalid - Expected a dot '
            "import path string: none",
            "data.augment: there is no class 'none'; did you mean null?",
        ),
        (
            "Parser key \"model.optimizer.betas\": Expected a <class 'tuple'>. Got value: 0.9",
            "model.optimizer.betas must be a list as [a,b], not '0.9'",
        ),
        (
            "Key 'trainr.max_epochs' is not expected",
            "there is no key trainr.max_epochs; did you mean trainer.max_epochs?",
        ),
        (
            'Parser key "data.mix": - Expected a path but off either not accessible or invalid - Expected a dot import '
            "path string: off",
            "data.mix: there is no class 'off'; did you mean null?",
        ),
        (
            'Parser key "trainer": Parser key "trainer": Unable to load config "cpu"',
            "trainer: expected a YAML file, found 'cpu'",
        ),
        ("Parser key \"a\": Expected a <class 'bool'>. Got value: 2", "a must be true or false, not '2"),
        ("Parser key \"a\": Expected a <class 'dict'>. Got value: 2", "a must be a mapping as {a: b}, not '2"),
        ("Parser key \"a\": Expected a <class 'NoneType'>. Got value: 2", "a must be null, not '2"),
        (
            'Parser key "data": required: data.root, val',
            "the command line needs root, val: pass --data.root ... --data.val",
        ),
        ("required: data", "the command line needs data: pass --data"),
        (
            'Parser key "a": Import path does not correspond to a subclass of torch.nn.Module. Got value: my.Thing',
            "a: 'my.Thing",
        ),
        ("argument --name: expected one argument", "--name needs a value"),
        ("unrecognized arguments: --lr 0.1", "there is no option --lr; did you mean --model.optimizer.lr 0.1?"),
        ("one\n  two", "one two"),
        (f"Odd. Got value: Namespace(lr='{'x' * 1000}')", "Odd"),
    ],
)
def test_what_the_parser_says_is_said_in_our_words(said: str, ours: str) -> None:
    assert readable(said).startswith(ours)
    assert len(readable(said + "x" * 1000)) < 700


def test_how_a_long_message_is_cut() -> None:
    assert readable("a" * 400) == "a" * 400
    assert readable("a" * 401) == "a" * 400 + " ..."
    assert readable("a" * 9, limit=8) == "a" * 8 + " ..."
    known = 'Parser key "a": Expected one of ' + "b" * 1000
    assert readable(known) == f"a must be one of {'b' * 1000}"[:600] + " ..."
    assert readable(known.removesuffix("b" * 500)) == f"a must be one of {'b' * 500}"


@pytest.mark.parametrize("kind", ["Namespace", "NestedArg"])
def test_nothing_of_the_parsers_own_objects_is_said(kind: str) -> None:
    assert readable(f"Odd. Got value: {kind}(key='lr')") == "Odd"
    assert readable(f"Parser key \"name\": Expected a <class 'str'>. Got value: {kind}(a=1)") == "name must be text"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "`val_check_interval` (7) must be less than or equal to the number of the training batches (5). If you",
            "trainer.val_check_interval 7 is more than an epoch's 5 batches; pass --trainer.val_check_interval 5",
        ),
        (
            "You requested to check 0.01 of the `val_dataloader` but 0.01 * 20 < 1. Please increase the "
            "`limit_val_batches` argument. Try at least `limit_val_batches=0.05`",
            "trainer.limit_val_batches 0.01 of 20 batches is less than one; pass --trainer.limit_val_batches 0.05",
        ),
        ("Anything else", ""),
    ],
)
def test_what_lightning_says_of_values_is_said_with_one_that_works(theirs: str, ours: str) -> None:
    assert of_lightning(ValueError(theirs)) == ours


@pytest.mark.parametrize(
    ("options", "ours"),
    [
        ({"devices": [0, 1]}, "processes on a CPU are counted, not listed; pass for example --trainer.devices 2"),
        ({"strategy": "dpp"}, "trainer.strategy: there is no 'dpp'; pass --trainer.strategy ddp"),
        ({"strategy": "deepspeed"}, "needs a package: pip install deepspeed; or pass --trainer.strategy ddp"),
        ({"strategy": "fsdp"}, "trainer.strategy fsdp needs a GPU; pass --trainer.strategy ddp"),
    ],
)
def test_what_lightning_says_of_its_trainer_is_known(options: dict[str, Any], ours: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # of several classes
        Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    assert of_lightning(caught.value).endswith(ours)


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        (
            "Parser key \"model.optimizer\": Expected 'my.Thing' to be a subclass of <class 'torch.optim.Optimizer'>",
            "model.optimizer: 'my.Thing' is no Optimizer; take one of ours or a class that is derived from it",
        ),
        (
            f"{DATA}Validation failed: the following are required: data.root, classes",
            "SketchDataModule needs root, classes: pass --data.root ... --data.classes ...",
        ),
        ("required: data, name", "the command line needs data, name: pass --data ... --name ..."),
        (
            "Option 'x' is not accepted in class_path='my.parts.Thing'",
            "Thing: the class has no argument 'x'",
        ),
    ],
)
def test_classes_are_named_without_their_module(said: str, ours: str) -> None:
    assert readable(said) == ours
