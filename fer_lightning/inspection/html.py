"""The page of a data set's inspection: plain HTML from its numbers, without scripts and without a network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Picture", "page_html"]

Picture = tuple[str, str, str]
"""Section (its ``id`` in the page), file relative to the page, and what it shows."""

_LISTED = 40  # lines of a list in the page; the CSV files have all

_STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #fff; --ink: #1d2125; --faint: #68707a; --line: #e2e4e8;
  --bar: #cfe3f3; --accent: #0072b2; --warn: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --card: #1d2125; --ink: #e7e9ec; --faint: #98a1ab;
  --line: #343a41; --bar: #1f4a68; --accent: #6fbdf0; --warn: #f5a25d; } figure img { filter: brightness(0.92); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, header, nav > div { max-width: 1080px; margin: 0 auto; padding: 0 20px; }
header { padding-top: 28px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 2px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 0 0 10px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
p { margin: 6px 0 10px; max-width: 78ch; }
.faint, figcaption { color: var(--faint); font-size: 13px; }
a { color: var(--accent); }
nav { position: sticky; top: 0; background: var(--ground); border-bottom: 1px solid var(--line); margin-top: 16px;
  z-index: 1; }
nav > div { display: flex; flex-wrap: wrap; gap: 2px 18px; padding-top: 8px; padding-bottom: 8px; font-size: 14px; }
nav a { text-decoration: none; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
  margin: 18px 0; scroll-margin-top: 52px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
.findings { margin: 0; padding-left: 20px; }
.findings li { margin: 5px 0; }
.findings li::marker { color: var(--warn); content: "\\25B2\\00A0\\00A0"; font-size: 11px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; margin: 6px 0 10px; }
th, td { padding: 4px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--faint); }
th:first-child, td:first-child, .text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; }
td[style] { background: linear-gradient(to left, var(--bar) calc(var(--share) * 100%), transparent 0); }
tfoot td { font-weight: 600; border-bottom: 0; }
figure { margin: 14px 0 6px; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px;
  display: block; }
code { font-size: 13px; }
footer { color: var(--faint); font-size: 13px; margin: 26px 0 40px; }
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: float | None, form: str = ",") -> str:
    return "n/a" if value is None else format(value, form)


def _cell(value: object, share: float | None = None) -> str:
    """Return a cell of a table; a share (0..1) is drawn as a bar behind it."""
    if share is not None:
        return f'<td style="--share:{share:.3f}">{_text(value)}</td>'
    return f"<td>{_text(value)}</td>"


def _table(head: Iterable[object], rows: Iterable[Sequence[str]], foot: Sequence[str] = ()) -> str:
    """Return a table; the cells of the rows are ready HTML, those of the head are text."""
    heads = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(row)}</tr>\n" for row in rows)
    end = f"<tfoot><tr>{''.join(foot)}</tr></tfoot>" if foot else ""
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>{end}</table></div>\n'


def _listing(head: Sequence[str], rows: Sequence[Sequence[object]], file: str) -> str:
    """Return the first lines of a list of files, which may have any names."""
    shown = [[f'<td class="text">{_text(cell)}</td>' for cell in row] for row in rows[:_LISTED]]
    more = f'<p class="faint">The first {_LISTED} of {len(rows):,}: all are in {_link(file)}.</p>\n'
    return _table(head, shown) + (more if len(rows) > _LISTED else "")


def _link(file: str) -> str:
    return f'<a href="{_text(file)}">{_text(file)}</a>'


def page_html(report: Mapping[str, Any], pictures: Sequence[Picture], files: Sequence[str]) -> str:
    """Return the page.

    Args:
        report: content of ``inspect.json``.
        pictures: what is shown, in this order within each section.
        files: tables beside the page, which it links to.
    """
    sections = {
        "classes": ("Classes and splits", _classes(report)),
        "faces": ("Faces", _faces(report)),
        "pixels": ("Pixels", _pixels(report)),
        "duplicates": ("Duplicates", _duplicates(report)),
        "columns": ("Sources and groups", _columns(report)),
        "files": ("Files", _files(report)),
        "votes": ("Soft labels", _votes(report)),
        "map": ("Map of the pixels", ""),
    }
    shown = {place: [picture for picture in pictures if picture[0] == place] for place in sections}
    present = {place: part for place, part in sections.items() if part[1] or shown[place]}
    links = "".join(f'<a href="#{place}">{_text(title)}</a>\n' for place, (title, _) in present.items())
    body = "".join(
        f'<section id="{place}">\n<h2>{_text(title)}</h2>\n{content}{"".join(map(_figure, shown[place]))}</section>\n'
        for place, (title, content) in present.items()
    )
    channels, height, width = report["image_shape"]
    kind = {1: "gray", 3: "colour"}.get(channels, f"{channels} channels")
    about = (
        f"{report['images']:,} images of {width}x{height} pixels, {kind}; classes: {', '.join(report['class_names'])}"
    )
    name = _text(report["name"])
    beside = ", ".join(map(_link, ("inspect.json", *files)))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: the data</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<header>\n<h1>{name}</h1>\n<p class="faint">{_text(about)}</p>\n</header>\n'
        f'<nav><div><a href="#look">What to look at</a>\n{links}</div></nav>\n<main>\n{_tiles(report)}'
        f'<section id="look">\n<h2>What to look at</h2>\n{_findings(report)}</section>\n{body}'
        f"<footer>Seed {report['seed']}, fer_lightning {_text(report['version'])}. All numbers and lists: {beside}. "
        "Labels say how an expression was classified by those who made the set, not what a person felt.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _figure(picture: Picture) -> str:
    _, file, shows = picture
    image = f'<img src="{_text(file)}" alt="{_text(shows)}" loading="lazy">'
    return f'<figure><a href="{_text(file)}">{image}</a><figcaption>{_text(shows)}</figcaption></figure>\n'


def _tiles(report: Mapping[str, Any]) -> str:
    splits, duplicates = report["splits"], report["duplicates"]
    ratio = splits["train"]["imbalance_ratio"]
    shared = sum(count["exact"] for pair, count in duplicates["shared"].items() if pair.endswith("in train"))
    copies = sum(part["exact"]["rows"] - part["exact"]["groups"] for part in duplicates["within"].values())
    tiles = [
        (f"{part['images']:,}", f"images in {name}")
        for name, part in splits.items()
        if part["images"] or name != "unused"
    ]
    tiles += [
        ("n/a" if ratio is None else f"{ratio:.1f} : 1", "largest to smallest class of train"),
        (f"{shared:,}", "images of val and test that train has, too"),
        (f"{copies:,}", "identical copies within the splits"),
        (f"{report['pixels']['blank']['images']:,}", "blank images"),
        (f"{len(report['unreadable']):,}", "files left out"),
    ]
    cells = "".join(
        f'<div class="tile"><b>{_text(number)}</b><span>{_text(what)}</span></div>\n' for number, what in tiles
    )
    return f'<div class="tiles">\n{cells}</div>\n'


def _findings(report: Mapping[str, Any]) -> str:
    if not report["findings"]:
        return "<p>Nothing stands out.</p>\n"
    lines = "".join(f"<li>{_text(sentence[:1].upper() + sentence[1:])}.</li>\n" for sentence in report["findings"])
    return f'<ul class="findings">\n{lines}</ul>\n'


def _classes(report: Mapping[str, Any]) -> str:
    splits = {name: part for name, part in report["splits"].items() if part["images"]}
    weights = report["class_weights"]
    head = ["class"]
    for name in splits:
        head += [name, "share"]
    rows = []
    for label in report["class_names"]:
        row = [_cell(label)]
        for part in splits.values():
            share = part["counts"][label] / part["images"]
            row += [_cell(f"{part['counts'][label]:,}"), _cell(f"{share:.1%}", share)]
        rows.append([*row, *([] if weights is None else [_cell(f"{weights[label]:.4f}")])])
    foot = [_cell("all"), *(cell for part in splits.values() for cell in (_cell(f"{part['images']:,}"), _cell("")))]
    foot += [] if weights is None else [_cell(f"{sum(weights.values()):g}")]
    prints = [
        [_cell(name), _cell(_number(part["imbalance_ratio"], ".2f")), f"<td><code>{part['fingerprint']}</code></td>"]
        for name, part in splits.items()
    ]
    note = "" if weights is None else '<p class="faint">weight: inverse frequency in train, see class_weights.</p>\n'
    table = _table([*head, *([] if weights is None else ["weight"])], rows, foot)
    return table + note + _table(["split", "largest : smallest class", "fingerprint"], prints)


def _faces(report: Mapping[str, Any]) -> str:
    part = "the training images" if report["part"] == "train" else "all images"
    return f"<p>Means over {part}, and examples drawn from them with seed {report['seed']}.</p>\n"


def _pixels(report: Mapping[str, Any]) -> str:
    pixels = report["pixels"]

    def channels(values: Sequence[float]) -> str:
        return "[" + ", ".join(f"{value:.4f}" for value in values) + "]"

    rows = [
        [
            _cell(name),
            f"<td><code>{channels(part['mean'])}</code></td>",
            f"<td><code>{channels(part['std'])}</code></td>",
        ]
        for name, part in pixels["splits"].items()
    ]
    blank = pixels["blank"]
    text = f"Of values in 0 to 1, per channel. Blank images, whose standard deviation is below {blank['threshold']:g}: "
    parts = [_table(["split", "mean", "standard deviation"], rows), f"<p>{text}{blank['images']:,}."]
    parts.append(f" They are listed in {_link('blank.csv')}.</p>\n" if blank["images"] else "</p>\n")
    return "".join(parts)


def _duplicates(report: Mapping[str, Any]) -> str:
    found = report["duplicates"]

    def row(title: str, *values: int) -> list[str]:
        return [_cell(title), *(_cell(f"{value:,}") for value in values)]

    groups = [
        row(name, *(part[kind][key] for kind in ("exact", "near") for key in ("groups", "rows")))
        for name, part in (
            *((f"within {split}", part) for split, part in found["within"].items()),
            ("labels differ, in any splits", found["conflicts"]),
        )
    ]
    head = ["", "groups of identical images", "images in them", "groups of near-duplicates", "images in them"]
    shared = [
        row(f"images of {pair.replace(' in ', ' that also stand in ')}", count["exact"], count["near"])
        for pair, count in found["shared"].items()
    ]
    across = _table(["", "identical", "only nearly so"], shared) if shared else ""
    note = "" if found["near"] else "<p>Near-duplicates were not looked for.</p>\n"
    some = any(part[kind]["groups"] for part in found["within"].values() for kind in ("exact", "near"))
    some = some or any(count["exact"] or count["near"] for count in found["shared"].values())
    link = f'<p class="faint">Every image of every group: {_link("duplicates.csv")}.</p>\n' if some else ""
    return _table(head, groups) + across + note + link


def _columns(report: Mapping[str, Any]) -> str:
    return "".join(_column(report, name, column) for name, column in report["columns"].items())


def _column(report: Mapping[str, Any], name: str, column: Mapping[str, Any]) -> str:
    unknown = f" Unknown: {column['unknown']:,}." if column["unknown"] else ""
    title = f"<h3>{_text(name)}</h3>\n"
    if column["kind"] == "numbers":
        numbers = ", ".join(f"{key} {_number(column[key], '.4g')}" for key in ("mean", "std", "min", "max"))
        return f"{title}<p>{column['known']:,} known: {numbers}.{unknown}</p>\n"
    if column["kind"] == "names":
        largest = f"most images ({column['images_of_largest']:,}): {_text(column['largest'])}"
        return f"{title}<p>{column['distinct']:,} different values, {largest}.{unknown}</p>\n"
    splits = [split for split, part in report["splits"].items() if part["images"]]
    rows = [
        [
            _cell(value),
            _cell(f"{part['images']:,}", part["images"] / report["images"]),
            *(_cell(f"{part['splits'][split]:,}") for split in splits),
            *(_cell(f"{count:,}", count / max(1, part["images"])) for count in part["counts"].values()),
        ]
        for value, part in column["values"].items()
    ]
    note = f'<p class="faint">{unknown.strip()}</p>\n' if unknown else ""
    return title + _table([name, "images", *splits, *report["class_names"]], rows) + note


def _files(report: Mapping[str, Any]) -> str:
    sizes, parts = report["sizes"], []
    if sizes is not None and sizes["known"]:
        rows = [
            [_cell(name), *(_cell(f"{sizes[name][key]:.4g}") for key in ("min", "median", "max"))]
            for name in ("width", "height", "aspect")
        ]
        parts.append(_table(["original files", "smallest", "median", "largest"], rows))
        for key in ("smallest", "largest"):
            file = sizes[key]
            parts.append(f"<p>{key.title()}: {_text(file['file'])} ({file['width']}x{file['height']}).</p>\n")
    if report["unreadable"]:
        rows_left = [[note["file"], note["reason"]] for note in report["unreadable"]]
        parts += ["<h3>Left out</h3>\n", _listing(["file", "reason"], rows_left, "unreadable.csv")]
    return "".join(parts)


def _votes(report: Mapping[str, Any]) -> str:
    soft = report["soft_labels"]
    if soft is None:
        return ""
    text = (
        f"The label has the largest weight for {_number(soft['agreement'], '.1%')} of the images; "
        f"{soft['unanimous']:,} have all weight on one class. Mean entropy: {_number(soft['entropy'], '.3f')} nats."
    )
    rows = [[_cell(name), _cell(_number(value, ".3f"))] for name, value in soft["entropy_of_classes"].items()]
    return f"<p>{text}</p>\n" + _table(["class", "mean entropy, nats"], rows)
