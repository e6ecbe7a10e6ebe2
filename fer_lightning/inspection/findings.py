"""What to look at in a data set, in plain words, from the numbers of its inspection."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from fer_lightning.data.table.bad_rows import reasons_text
from fer_lightning.data.table.samples import SPLITS

__all__ = ["findings"]

_UNEVEN = 1.5  # largest to smallest class: from here on, plain accuracy hides the smallest
_SEVERAL = 30  # images with copies: with fewer, how well their labels agree is not said
_SHIFTED = 0.05  # share of a split that would have to change its class to be distributed like train
_DARKER = 0.05  # how far the mean pixel of a split may lie from that of train, of values in 0..1


def findings(report: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each thing in ``inspect.json`` to know before training, most serious first."""
    parts = (
        _remarks,
        _unreadable,
        _splits,
        _leaks,
        _conflicts,
        _classes,
        _repeats,
        _blank,
        _shifts,
        _sizes,
        _gray,
        _votes,
    )
    return [sentence for part in parts for sentence in part(report)]


def _remarks(report: Mapping[str, Any]) -> Iterator[str]:
    yield from report["remarks"]


def _images(count: int, before: int = 0) -> str:
    """Return a number of images; ``more`` of them if ``before`` others were named already."""
    more = " more" if before else ""
    return f"{count:,}{more} image" if count == 1 else f"{count:,}{more} images"


def _equal(count: int) -> str:
    return "equals" if count == 1 else "equal"


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _unreadable(report: Mapping[str, Any]) -> Iterator[str]:
    count = len(report["unreadable"])
    if count:
        files = "1 file is" if count == 1 else f"{count:,} files are"
        reasons = reasons_text((note["file"], note["reason"]) for note in report["unreadable"])
        yield f"{files} not in the table ({reasons}): see below and unreadable.csv"


def _splits(report: Mapping[str, Any]) -> Iterator[str]:
    missing = [name for name in SPLITS if not report["splits"][name]["images"]]
    if missing:
        yield f"no images in {' and '.join(missing)}: give the set such a part, or let one be split off"
    unused = report["splits"]["unused"]["images"]
    if unused:
        yield f"{_images(unused)} {_stand(unused)} in no split"


def _leaks(report: Mapping[str, Any]) -> Iterator[str]:
    for pair, count in report["duplicates"]["shared"].items():
        first, second = pair.split(" in ")
        if SPLITS.index(first) < SPLITS.index(second):
            continue  # the same overlap, counted in the other split
        exact, near = count["exact"], count["near"]
        cure = "--data.drop_overlap" if second == "train" else "fer data dedupe"
        if exact:
            yield f"{_images(exact)} of {first} also {_stand(exact)} in {second}, pixel for pixel: see {cure}"
        if near:
            yield f"{_images(near, exact)} of {first} nearly {_equal(near)} one of {second}: see fer data dedupe"
    subjects = report["subjects"]
    if subjects is not None and subjects["in_several_splits"]:
        count = subjects["in_several_splits"]
        yield f"{count:,} of {subjects['subjects']:,} subjects stand in more than one split: scores may be too good"


def _conflicts(report: Mapping[str, Any]) -> Iterator[str]:
    for kind, name in (("exact", "identical images"), ("near", "near-duplicates")):
        count = report["duplicates"]["conflicts"][kind]
        if count["groups"]:
            yield f"{name} have different labels: {_groups(count)}"
    agreement = report["duplicates"]["agreement"]
    if agreement["images"] >= _SEVERAL and agreement["share"] < 1:
        share, most = agreement["share"], math.sqrt(agreement["share"])
        yield (
            f"two labels of one photograph agree in {share:.0%} of the cases ({_images(agreement['images'])} with "
            f"copies): the best possible model is right on {share:.0%} to {most:.0%} of such images"
        )


def _groups(count: Mapping[str, int]) -> str:
    return f"{count['groups']:,} {'group' if count['groups'] == 1 else 'groups'} of {count['rows']:,} images"


def _classes(report: Mapping[str, Any]) -> Iterator[str]:
    train = report["splits"]["train"]
    for name in SPLITS:
        part = report["splits"][name]
        if part["images"] and part["absent"]:
            yield f"{name} has no images of {', '.join(part['absent'])}"
    if train["images"] and train["imbalance_ratio"] >= _UNEVEN:
        smallest, largest = train["smallest"], train["largest"]
        yield (
            f"{smallest} has {_images(train['counts'][smallest])} in train, {train['imbalance_ratio']:.1f} times fewer "
            f"than {largest} ({train['counts'][largest]:,}): see --data.class_multipliers, --data.balance, or a "
            "weighted loss"
        )


def _repeats(report: Mapping[str, Any]) -> Iterator[str]:
    for name, count in report["duplicates"]["within"].items():
        copies = count["exact"]["rows"] - count["exact"]["groups"]
        if copies:
            yield f"{_images(copies)} of {name} {'repeats' if copies == 1 else 'repeat'} another one pixel for pixel"
        if count["near"]["groups"]:
            yield f"{name} has near-duplicates: {_groups(count['near'])}"


def _blank(report: Mapping[str, Any]) -> Iterator[str]:
    count, plain = report["pixels"]["blank"]["images"], report["pixels"]["blank"]["one_colour"]
    if count:
        yield f"{_images(count)} {'is' if count == 1 else 'are'} blank, {plain:,} of them of one colour: see blank.csv"


def _shifts(report: Mapping[str, Any]) -> Iterator[str]:
    train = report["splits"]["train"]
    for name in ("val", "test"):
        part = report["splits"][name]
        if not train["images"] or not part["images"]:
            continue
        shares = [
            abs(count / part["images"] - train["counts"][label] / train["images"])
            for label, count in part["counts"].items()
        ]
        if sum(shares) / 2 > _SHIFTED:
            yield f"the classes are distributed otherwise in {name}: {sum(shares) / 2:.0%} would have to change class"
        means = [report["pixels"]["splits"][split]["mean"] for split in ("train", name)]
        lighter = sum(means[1]) / len(means[1]) - sum(means[0]) / len(means[0])
        if abs(lighter) > _DARKER:
            yield f"{name} is {'brighter' if lighter > 0 else 'darker'} than train by {abs(lighter):.2f} (of 0 to 1)"


def _sizes(report: Mapping[str, Any]) -> Iterator[str]:
    sizes = report["sizes"]
    if sizes is not None and sizes["enlarged"]:
        _, height, width = report["image_shape"]
        part = f"{sizes['enlarged']:,} of {sizes['known']:,} files"
        yield f"{part} were enlarged to {width}x{height} pixels: see --data.image_size and --data.min_side"


def _gray(report: Mapping[str, Any]) -> Iterator[str]:
    channels = report["image_shape"][0]
    gray, images = report["pixels"]["gray_images"], report["images"]
    if channels > 1 and gray == images:
        yield f"all images are gray, but stored in {channels} channels: channels 1 needs a third of the memory"
    elif channels > 1 and gray:
        yield f"{gray:,} of {images:,} images are gray among coloured ones: a network may learn colour, not expression"


def _votes(report: Mapping[str, Any]) -> Iterator[str]:
    soft = report["soft_labels"]
    if soft is not None and soft["disagreeing"]:
        count = soft["disagreeing"]
        yield f"the votes favour another class than the label for {_images(count)} ({count / report['images']:.1%})"
