"""How two configurations differ, and which differences leave what is learned alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fer_lightning.runs.lineage import Change

__all__ = [
    "change_text",
    "changes_for",
    "config_changes",
    "differences",
    "flat",
    "goes_on_in",
    "is_harmless",
    "learned_changes",
    "short_value",
    "value_at",
    "what_differs",
]

_HARMLESS = (
    *("name", "set", "mlflow", "mlflow_checkpoints", "report.*", "card.*", "resume_checkpoint.*"),
    # where the data lies: what is in it is compared by fingerprint
    *("data.root", "data.cache_dir", "data.num_workers", "data.eval_batch_size"),
    *(f"trainer.{bound}_{unit}" for bound in ("max", "min") for unit in ("epochs", "steps", "time")),
    # where it is computed: the samples of each step stay the same
    *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy*", "trainer.plugins*"),
    *("trainer.benchmark", "trainer.deterministic", "trainer.detect_anomaly", "trainer.use_distributed_sampler"),
    *("trainer.default_root_dir", "trainer.logger*", "trainer.log_every_n_steps", "trainer.profiler*"),
    *("trainer.enable_*", "trainer.fast_dev_run", "trainer.num_sanity_val_steps", "trainer.inference_mode"),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches", "trainer.barebones"),
)
_WATCHING = (
    *("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor", "*ModelSummary", "*ProgressBar", "Timer"),
    *("EarlyStopping", "OnExceptionCheckpoint"),
)
"""Callbacks that do not change what is learned; early stopping, like ``max_epochs``, decides only how long it takes.
Callbacks that are neither Lightning's nor ours count as such too: most only write something down."""

_OF_ONE_START = ("config", "ckpt_path", "allow_changed_data")
_SECTIONS = ("", "model", "trainer", "checkpoint", "resume_checkpoint", "report", "card")
_CALLBACKS = "trainer.callbacks"


def config_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return what differs between two configurations, sorted by key.

    Keys are those of the command line: ``model.optimizer.lr``, without ``init_args``; callbacks are named by class.
    Where another class takes the place of one, that is one change; its values are both classes with their arguments.
    """
    old, new = dict(flat(before)), dict(flat(after))
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    return [
        Change(key, _value(old, key), _value(new, key), _is_beside(key, old, new))
        for key in differing
        if key not in _OF_ONE_START and not any(above in differing for above in _above(key))
    ]


def changes_for(verb: str, stored: Mapping[str, Any], used: Mapping[str, Any]) -> list[Change]:
    """Return how the configuration ``used`` by a run differs from what its checkpoint has ``stored`` for this verb.

    ``fit`` takes all values from a checkpoint; other verbs only the stored ones, and nothing of the trainer.
    """
    if verb != "fit":
        stored = {section: values for section, values in stored.items() if section != "trainer"}
        used = {section: used[section] for section in stored if section in used}
        known = dict(flat(stored))
        changes = config_changes(stored, used)
        # a model folder names few options; those that it does not know change nothing
        return [change for change in changes if change.key in known or not change.harmless]
    return config_changes(stored, used)


def _is_beside(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return is_harmless(key) or _is_new_option(key, old) or _is_foreign_callback(key, {**old, **new})


def is_harmless(key: str) -> bool:
    """Tell whether a key does not change what is learned, or changes only how long training lasts."""
    if key.startswith(f"{_CALLBACKS}."):
        name = key.removeprefix(f"{_CALLBACKS}.").split(".")[0].partition("#")[0]
        return any(fnmatchcase(name, pattern) for pattern in _WATCHING)
    return any(fnmatchcase(key, pattern) for pattern in _HARMLESS)


def change_text(change: Change) -> str:
    """Return a change in short form: ``model.optimizer.lr 2e-5 -> 1e-5``."""
    return f"{change.key} {short_value(change.before)} -> {short_value(change.after)}"


def differences(changes: Sequence[Change], verb: str) -> list[str]:
    """Return what to print of how a run differs from its checkpoint; ``fit`` joins harmless changes in one line."""
    apart = [change for change in changes if change.harmless and verb == "fit"]
    lines = [f"changed against the checkpoint: {change_text(change)}" for change in changes if change not in apart]
    if apart:
        lines.append(f"changed beside what is learned: {', '.join(map(change_text, apart))}")
    return lines


def goes_on_in(
    folder: Path | None, changes: Sequence[Change], root: Path, same_data: bool = True
) -> tuple[Path | None, str]:
    """Return where a resumed run writes: the checkpoint's run folder, or ``None`` for a new one, and why a new one.

    ``root`` is the folder of all runs that is asked for now; ``same_data`` compares fingerprints with the checkpoint's.
    """
    if folder is None:
        return None, "the checkpoint lies in no run folder"
    by_key = {change.key: change for change in changes}
    learned = [change.key for change in changes if not change.harmless]
    if learned:
        return None, f"{', '.join(learned[:3])}{' ...' if len(learned) > 3 else ''} changed"
    if not same_data:
        return None, "the data changed"
    if "name" in by_key:
        return None, f"the name is '{by_key['name'].after}' now"
    if "trainer.default_root_dir" in by_key and not folder.resolve().is_relative_to(root.resolve()):
        return None, f"the runs are in {root} now"
    return folder, ""


def short_value(value: Any, limit: int = 100) -> str:
    """Return a value of a configuration as text, cut after ``limit`` characters."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Return keys and plain values; the value of a key that holds a class is its path."""
    if isinstance(value, Mapping) and isinstance(value.get("class_path"), str):
        yield key, value["class_path"]
        value = {**(value.get("init_args") or {}), **(value.get("dict_kwargs") or {})}
        if not value:
            return
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) and "class_path" in one for one in value):
        seen: dict[str, int] = {}
        for one in value:
            name = str(one["class_path"]).rpartition(".")[2]
            seen[name] = seen.get(name, 0) + 1
            yield from flat(one, f"{key}.{name}" + (f"#{seen[name]}" if seen[name] > 1 else ""))
    else:
        yield key, value


def _above(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _value(leaves: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key; of a class, its path with its arguments."""
    inside = {name.removeprefix(f"{key}."): value for name, value in leaves.items() if name.startswith(f"{key}.")}
    if key not in leaves or not inside:
        return leaves.get(key)
    return f"{leaves[key]}({', '.join(f'{name}={short_value(value)}' for name, value in inside.items())})"


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key as ``config_changes`` names it; of a class, its path with its arguments."""
    return _value(dict(flat(config)), key)


def _is_foreign_callback(key: str, leaves: Mapping[str, Any]) -> bool:
    if not key.startswith(f"{_CALLBACKS}."):
        return False
    path = str(leaves.get(".".join(key.split(".")[:3]), ""))
    return "." in path and path.split(".")[0] not in ("fer_lightning", "lightning", "pytorch_lightning")


def _is_new_option(key: str, old: Mapping[str, Any]) -> bool:
    """Tell whether a key is an option that the program which wrote the older configuration did not have yet."""
    block = key.rpartition(".")[0]
    if key in old or block == _CALLBACKS:
        return False
    known = not block or block in old or any(name.startswith(f"{block}.") for name in old)
    return known and (block in _SECTIONS or isinstance(old.get(block), str))


def learned_changes(stored: Mapping[str, Any], used: Mapping[str, Any]) -> list[Change]:
    """Return the differences of two configurations that change what is learned, or for how long."""
    return [
        change
        for change in config_changes(stored, used)
        if not change.harmless or change.key.startswith(("trainer.max_", "trainer.callbacks.EarlyStopping"))
    ]


def what_differs(stored: Mapping[str, Any], used: Mapping[str, Any]) -> list[str]:
    """Return a line for each of the ``learned_changes`` of two configurations."""
    return [change_text(change) for change in learned_changes(stored, used)]
