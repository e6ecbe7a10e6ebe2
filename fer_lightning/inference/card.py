"""The card of a model: what it is for, what it was trained on, how well it does and how sure that is, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_lightning.inference.model import Model
from fer_lightning.text import percent

__all__ = ["NOTICE", "card_text"]

NOTICE = (
    "An expression is what a face shows, not what a person feels. Inferring emotions at work and in education is "
    "prohibited in the EU (AI Act, Art. 5(1)(f))."
)
"""What stands on every card, page and answer."""

_LICENCES = ("apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "mit")
"""Licences that the hub knows by name, of those that are usual here."""

_USES = """\
Sorting, searching and describing pictures by the expression that a face shows; research on expressions; programs that
react to a face that somebody shows them on purpose.
"""
_NOT_FOR = """\
- Conclusions about what somebody feels, intends, is able to or suffers from.
- Decisions about people: hiring, schooling, credit, insurance, policing, borders.
- Watching people at work or in education, and people who have not agreed to it.
- Faces unlike those it was trained on (age, skin, pose, light, covered parts), unless it was scored on such faces.
"""


def card_text(model: Model) -> str:
    """Return the card, with the metadata that the Hugging Face hub reads at its head; only what is known is in it."""
    card, images = model.card, model.preprocessing
    colour = "gray" if images["channels"] == 1 else "RGB"
    count = parameters(model)
    sized = f"; {count:,} parameters" if count else ""
    sections = {
        "Uses": [_USES, "", "Not for:", "", _NOT_FOR, "", NOTICE],
        "Scores": _scores(card.metrics, card.training),
        "By class": _classes(card.metrics),
        "Groups of people": _groups(card.metrics),
        "Can the scores be believed?": _believed(model),
        "Calibration": _calibration(model),
        "Data": _data(card.training, model),
        "Training": _training(card.training),
        "Origin": _origin(card.training, model),
        "Licence": [card.licence or "None was stated for the weights."],
    }
    lines = [
        *["---", _metadata(model), "---", "", f"# {card.name}", ""],
        f"Facial expressions ({', '.join(model.class_names)}) from {colour} face crops of "
        f"{images['image_size']}x{images['image_size']} pixels{sized}{_views(model)}.",
        *["", "```python", "from fer_lightning import Recognizer", ""],
        *[f'print(Recognizer.load("{card.name}")("photo.jpg"))', "```"],
    ]
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *(line.rstrip("\n") for line in section)] if section else []
    return "\n".join(lines) + "\n"


def _views(model: Model) -> str:
    """Return of which views of a face the probabilities are averaged, as a part of a sentence."""
    views = "none" if model.architecture is None else model.architecture.get("views", "none")
    told = {"flip": "of the face and its mirror image", "flip_shift": "of ten views of the face, mirrored and moved"}
    return f"; probabilities are averaged, {told[views]}" if views in told else ""


def parameters(model: Model) -> int:
    """Return the number of parameters of a model that has a PyTorch network."""
    network: Any = getattr(model.backend, "network", None)
    return 0 if network is None else sum(each.numel() for each in network.parameters())


def _metadata(model: Model) -> str:
    """Return the head of the card, as the hub reads it: YAML."""
    from huggingface_hub import EvalResult, ModelCardData  # takes a while to import

    card = model.card
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=_data_name(card.training, found).lower(),
            dataset_name=_data_name(card.training, found),
            dataset_split=found.get("split") or name,
            metric_type=metric,
            metric_value=round(found[score], 4),
            metric_args=None if not found.get(f"{score}_ci95") else {"interval_95": _ends(found[f"{score}_ci95"])},
        )
        for name, found in card.metrics.items()
        for score, metric in (("accuracy", "accuracy"), ("f1_macro", "f1"))
        if found.get(score) is not None
    ]
    known = card.licence.lower() if card.licence.lower() in _LICENCES else "other"
    head = ModelCardData(
        library_name="fer_lightning",
        pipeline_tag="image-classification",
        tags=["facial-expression-recognition"],
        license=known if card.licence else None,
        model_name=card.name if results else None,
        eval_results=results or None,
    )
    return head.to_yaml().rstrip()


def _data_name(training: Mapping[str, Any], found: Mapping[str, Any] | None = None) -> str:
    """Return the name of the data set that an evaluation is of, or of the one that was trained on."""
    known = (found or {}).get("data") or training.get("data") or "unknown"
    return str(known).rpartition(".")[2].removesuffix("DataModule")


def _ends(interval: Sequence[float]) -> list[float]:
    return [round(float(end), 4) for end in interval]


def _between(interval: Sequence[float | None] | None) -> str:
    if not interval or None in interval:
        return "-"
    return f"{percent(interval[0])} to {percent(interval[1])}"


def _scores(metrics: Mapping[str, Mapping[str, Any]], training: Mapping[str, Any]) -> list[str]:
    if not metrics:
        return ["Not measured."]
    rows = [
        "| split | images | accuracy | 95 % interval | macro F1 | 95 % interval | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in metrics.items():
        other = _data_name(training, found)
        shown = name if other == _data_name(training) else f"{name} of {other}"
        cells = [shown, f"{found['n']:,}", percent(found["accuracy"]), _between(found.get("accuracy_ci95"))]
        cells += [percent(found["f1_macro"]), _between(found.get("f1_macro_ci95")), percent(found["ece"])]
        rows.append(f"| {' | '.join(cells)} |")
    rows += ["", "The intervals are over the choice of images, not over trainings."]
    for name, found in metrics.items():
        if settings := found.get("settings"):
            rows.append(f"{name} was scored with {', '.join(f'{key} {value}' for key, value in settings.items())}.")
    return rows


def _main(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]]:
    """Return the evaluation that says most of a model: of a test split, else of a validation split."""
    known = {name: found for name, found in metrics.items() if found.get("per_class")}
    order = sorted(known, key=lambda name: (known[name].get("split") != "test", bool(known[name].get("settings"))))
    return (order[0], known[order[0]]) if order else ("", {})


def _classes(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    split, found = _main(metrics)
    if not found:
        return []
    rows = [
        f"On {split}:",
        "",
        "| class | images | recall | 95 % interval | precision | F1 |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found["per_class"].items():
        scores = [percent(row["recall"]), _between(row["recall_ci95"]), percent(row["precision"]), percent(row["f1"])]
        rows.append(f"| {name} | {row['support']:,} | {' | '.join(scores)} |")
    return [*rows, "", *_weakest(found)]


def _weakest(found: Mapping[str, Any]) -> list[str]:
    """Return the sentence that says which class is missed most often, and what it is taken for."""
    names = list(found["per_class"])
    known = [name for name in names if found["per_class"][name]["recall"] is not None]
    if not known:
        return []
    worst = min(known, key=lambda name: found["per_class"][name]["recall"])
    row = list(found["confusion_matrix"][names.index(worst)])
    row[names.index(worst)] = 0
    taken = names[row.index(max(row))]
    support, recall = (found["per_class"][worst][name] for name in ("support", "recall"))
    return [
        f"{worst.capitalize()} is recognized least often: {percent(recall)} of {support:,} images; "
        f"{percent(max(row) / support)} are taken for {taken}."
    ]


def _groups(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    split, found = _main(metrics)
    if not found.get("groups"):
        return ["Not measured: how well the model does on people of different age, gender or skin is not known."]
    rows: list[str] = []
    for attribute in found["groups"]:
        rows += [f"By {attribute['name']}, on {split}:", ""] if not rows else ["", f"By {attribute['name']}:", ""]
        rows += ["| group | images | accuracy | 95 % interval | macro F1 |", "|---|---|---|---|---|"]
        for group in attribute["groups"]:
            ends = group["accuracy_low"], group["accuracy_high"]
            score = "too few images" if group["too_few"] else percent(group["f1_macro"])
            cells = [group["name"], f"{group['images']:,}", percent(group["accuracy"]), _between(ends), score]
            rows.append(f"| {' | '.join(cells)} |")
        rows += ["", _gap(attribute["gap"])]
    return rows


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return "There are too few images of too few groups to compare them."
    return (
        f"The largest gap in accuracy, with equal shares of classes, is {100 * gap['observed']:.1f} points "
        f"({gap['worst']} below {gap['best']}); chance alone makes {100 * gap['expected']:.1f} points "
        f"(p = {gap['p_holm']:.3f})."
    )


def _believed(model: Model) -> list[str]:
    from fer_lightning.evaluation.looks import looks_text  # with torchmetrics, which reading a model does not need
    from fer_lightning.evaluation.seen import seen_text

    rows = []
    for name, found in model.card.metrics.items():
        said = seen_text(found["seen"], found["n"]) if found.get("seen") else []
        said += [looks_text(found["looks"])] if found.get("looks") else []
        rows += [f"- {name}: {' '.join(said)}"] if said else []
    if not rows and model.card.metrics:
        return ["How many of these images the model has seen before is not known: fer test tells it."]
    return rows


def _calibration(model: Model) -> list[str]:
    verdicts = model.card.training.get("calibrated") or []
    if verdicts:
        return [f"- {verdict}" for verdict in verdicts]
    return ["The probabilities are those of the network: nobody has calibrated them."]


def _data(training: Mapping[str, Any], model: Model) -> list[str]:
    rows = []
    if data := training.get("data"):
        rows.append(f"- read by `{data}`")
    for title, key in (("sources", "sources"), ("terms", "terms")):
        value = training.get(key)
        rows += [f"- {title}: {', '.join(value) if isinstance(value, list) else value}"] if value else []
    counts, prints = training.get("counts", {}), training.get("fingerprints", {})
    rows += [f"- {split}: {count:,} images, fingerprint `{prints.get(split, '?')}`" for split, count in counts.items()]
    record = model.trained_on
    if record is None:
        return [*rows, "- which images these were is not stored"]
    if len(record.train) or len(record.val):
        rows.append(f"- digests of {len(record.train):,} training and {len(record.val):,} validation images are stored")
    rows += [f"- further images that are not known: {name}" for name in record.unknown]
    return rows


def _training(training: Mapping[str, Any]) -> list[str]:
    rows = []
    monitor, device = training.get("monitor") or {}, training.get("device") or {}
    if "best" in monitor:
        rows.append(f"- chosen by {monitor['name']} {monitor['best']:.4f}, of epoch {monitor['epoch'] + 1}")
    if training.get("started"):
        seconds = training["seconds"]
        took = f"{seconds} s" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
        rows.append(f"- {training['started'][:10]}, {took}")
    if device:
        rows.append(f"- on {device.get('count')} x {device.get('hardware')}, {device.get('precision')}")
    if training.get("seed") is not None:
        rows.append(f"- seed {training['seed']}")
    if environment := training.get("environment"):
        rows.append(f"- {', '.join(f'{name} {value}' for name, value in environment.items())}")
    if configuration := training.get("configuration"):
        listed = [f"{key}: {value}" for key, value in configuration.items()]
        rows += ["", "```yaml", *listed, "```"]
    return rows


def _origin(training: Mapping[str, Any], model: Model) -> list[str]:
    code = training.get("code") or {}
    commit = f", commit `{code['commit'][:12]}`" if code.get("commit") else ""
    changed = ", changed since" if code.get("dirty") else ""
    rows = [f"- trained by fer_lightning {code['package']}{commit}{changed}"] if code.get("package") else []
    if training.get("sha256"):
        rows.append(f"- `{training['checkpoint']}`, SHA-256 `{training['sha256']}`")
    for parent in training.get("parents", []):
        what = "weights of" if parent["weights_only"] else "went on from"
        rows.append(f"- {what} `{Path(parent['checkpoint']).as_posix()}`, SHA-256 `{parent['sha256']}`")
    for member in training.get("members", []):
        place = "/".join(Path(member["checkpoint"]).parts[-4:])
        rows.append(f"- averages `{place}`, SHA-256 `{member['sha256']}`")
    return rows or (["- written by fer_lightning " + model.card.version] if model.card.version else [])
