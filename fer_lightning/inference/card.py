"""The card of a model folder: what it is, how it is used, what it was trained on and scores, as Markdown."""

from __future__ import annotations

from typing import Any

from fer_lightning.inference.model import Model

__all__ = ["NOTICE", "card_text"]

NOTICE = (
    "An expression is what a face shows, not what a person feels. Inferring emotions at work and in education is "
    "prohibited in the EU (AI Act, Art. 5(1)(f))."
)


def card_text(model: Model) -> str:
    """Return the card, with the metadata that the Hugging Face hub reads at its head; only what is known is in it."""
    card, images = model.card, model.preprocessing
    colour = "gray" if images["channels"] == 1 else "RGB"
    lines = [
        "---",
        "library_name: fer_lightning",
        "pipeline_tag: image-classification",
        "tags: [facial-expression-recognition]",
        "---",
        "",
        f"# {card.name}",
        "",
        f"Facial expressions ({', '.join(model.class_names)}) from {colour} face crops of "
        f"{images['image_size']}x{images['image_size']} pixels; {parameters(model):,} parameters.",
        "",
        "```python",
        "from fer_lightning import Recognizer",
        "",
        f'print(Recognizer.load("{card.name}")("photo.jpg"))',
        "```",
        "",
        NOTICE,
    ]
    if card.training:
        known = {name: value for name, value in card.training.items() if value not in ("", None)}
        lines += ["", "## Training", "", *(f"- {name}: {value}" for name, value in known.items())]
    if card.metrics:
        lines += ["", "## Scores", "", "| split | images | accuracy | 95 % interval | macro F1 | ECE |"]
        lines += ["|---|---|---|---|---|---|", *(_scores(split, found) for split, found in card.metrics.items())]
    if card.licence:
        lines += ["", "## Licence", "", card.licence]
    return "\n".join(lines) + "\n"


def parameters(model: Model) -> int:
    """Return the number of parameters of a model that has a PyTorch network."""
    network: Any = getattr(model.backend, "network", None)
    return 0 if network is None else sum(each.numel() for each in network.parameters())


def _scores(split: str, found: dict[str, Any]) -> str:
    low, high = found.get("accuracy_ci95", (float("nan"),) * 2)
    shares = (f"{found[name]:.2%}" for name in ("accuracy", "f1_macro", "ece"))
    accuracy, f1, ece = shares
    return f"| {split} | {found['n']:,} | {accuracy} | {low:.2%} to {high:.2%} | {f1} | {ece} |"
