"""What people read of a comparison of arms: the page and the table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fer_lightning.evaluation.spread import Spread
from fer_lightning.pages import render
from fer_lightning.studies.crossval.arms import verdict
from fer_lightning.studies.crossval.comparison import Comparison
from fer_lightning.studies.crossval.run_result import LESS_IS_BETTER, SCORES, TRAINED, RunResult
from fer_lightning.text import p_text, table_lines

__all__ = ["page_html", "terminal_table"]


Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Text above the table (may be empty), its head, and its rows."""


def page_html(comparison: Comparison, notes: Sequence[str], drawings: Mapping[str, tuple[str, str]]) -> str:
    """Return the page.

    Args:
        comparison: the scores.
        notes: how to read them, at the end.
        drawings: by the section that they belong to (``scores``, ``gains``), an SVG and what it shows.
    """
    split = comparison.main_split
    folds = "" if comparison.folds is None else f"{comparison.folds} folds, "
    arms = "1 arm" if len(comparison.arms) == 1 else f"{len(comparison.arms)} arms"
    sections = {"verdict": "Verdict"}
    tables: dict[str, list[Table]] = {}
    shown: dict[str, tuple[str, str]] = {}

    def add(section: str, title: str, *listed: Table, drawing: str = "") -> None:
        sections[section], tables[section] = title, list(listed)
        if drawing in drawings:
            shown[section] = drawings[drawing]

    if comparison.settings:
        rows = [[option, *(values[arm] for arm in comparison.arms)] for option, values in comparison.settings.items()]
        add("arms", "What the arms differ in", ("", ["option", *comparison.arms], rows))
    for each in dict.fromkeys((split, *comparison.splits)):
        for decision in comparison.decisions(each):
            listed = [_scores_table(comparison, each, decision)]
            if len(comparison.arms) > 1:
                listed.append(_differences_table(comparison, each, decision))
            main = each == split and decision == TRAINED
            section = f"{each}-{decision}".replace(" ", "-")
            add(section, f"Scores on {each}, {decision}", *listed, drawing="scores" if main else "")
    add("recall", f"Classes: recall on {split}, as trained", _class_table(comparison, split, "recall"), drawing="gains")
    add("f1", f"Classes: F1 on {split}, as trained", _class_table(comparison, split, "f1"))
    add("runs", "Runs", _runs_table(comparison))
    return render(
        "crossval.html",
        name=comparison.name,
        about=f"{arms}, {folds}{_seeds(comparison)}: {len(comparison.runs)} runs. Scores in %: mean ± deviation over "
        "runs, and the 95 % interval of the mean. Worst class: its recall.",
        verdict=verdict(comparison),
        missing=_missing(comparison),
        notes=notes,
        sections={**sections, "notes": "How to read the numbers"},
        tables=tables,
        drawings=shown,
    )


def _missing(comparison: Comparison) -> str:
    """Return a warning if not all runs are finished."""
    total = len(comparison.missing) + len(comparison.runs)
    return f"{len(comparison.missing)} of {total} runs are not finished." if comparison.missing else ""


def _seeds(comparison: Comparison) -> str:
    return f"seed{'s' if len(comparison.seeds) > 1 else ''} {', '.join(map(str, comparison.seeds))}"


def _scores_table(comparison: Comparison, split: str, decision: str) -> Table:
    scores, titles = comparison.scores[split][decision], _titles(comparison, split, decision)
    rows = [
        [arm, *(_spread(scores[score][arm]) for score in titles), str(scores["f1_macro"][arm].runs)]
        for arm in comparison.arms
    ]
    return "", ["arm", *titles.values(), "runs"], rows


def _titles(comparison: Comparison, split: str, decision: str) -> dict[str, str]:
    """Return the titles of the scores that some run has."""
    scores = comparison.scores[split][decision]
    return {
        score: title
        for score, title in comparison.titles.items()
        if score in SCORES or any(found.runs for found in scores[score].values())
    }


def _differences_table(comparison: Comparison, split: str, decision: str) -> Table:
    found = comparison.differences[split][decision]
    rows = [
        [arm, title, *_gain(found[score][arm], less_is_better=score in LESS_IS_BETTER)]
        for arm in comparison.arms[1:]
        for score, title in _titles(comparison, split, decision).items()
    ]
    head = ["arm", "score", "difference", "95 % interval", "p", "better in"]
    return f"Differences to {comparison.arms[0]}, in points:", head, rows


def _class_table(comparison: Comparison, split: str, kind: str) -> Table:
    scores, gains = comparison.scores[split][TRAINED], comparison.differences[split][TRAINED]
    rows = []
    for arm in comparison.arms:
        row = [arm]
        for name in comparison.class_names:
            gain = gains[f"{kind}_{name}"].get(arm)
            more = "" if gain is None or gain.mean is None else f" ({100 * gain.mean:+.1f})"
            row.append(_percent(scores[f"{kind}_{name}"][arm].mean, 1) + more)
        rows.append(row)
    return "", ["arm", *comparison.class_names], rows


def _runs_table(comparison: Comparison) -> Table:
    split = comparison.main_split
    folds = ["fold"] if comparison.folds is not None else []
    head = ["arm", *folds, "seed", f"macro F1 on {split}", f"accuracy on {split}", "tau", "best epoch", "epochs"]
    rows = []
    for run in comparison.runs:
        found = run.scores.get(split, {}).get(TRAINED, {})
        rows.append([
            run.arm, *([str(run.key[0])] if folds else []), str(run.key[1]), _percent(found.get("f1_macro")),
            _percent(found.get("accuracy")), ", ".join(f"{tau:g}" for tau in run.taus.get(split, [])) or "n/a",
            _whole(run.best_epoch), _whole(run.epochs), _whole(run.images), _time(run),
        ])  # fmt: skip
    return "", [*head, "images drawn", "time"], rows


def _spread(found: Spread) -> str:
    """Return ``71.20 ± 0.43`` and, in a second line, ``70.67 to 71.73``; what is not known is said to be n/a."""
    if found.mean is None:
        return "n/a"
    ends = "" if found.low is None else f"\n{_percent(found.low)} to {_percent(found.high)}"
    return f"{_percent(found.mean)} ± {_percent(found.std)}{ends}"


def _gain(gain: Spread, less_is_better: bool) -> list[str]:
    """Return difference, interval, p-value and in how many runs it was for the better."""
    if gain.mean is None:
        return ["n/a"] * 4
    ends = "n/a" if gain.low is None or gain.high is None else f"{100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
    p = "n/a" if gain.p is None else p_text(gain.p)
    better = gain.below if less_is_better else gain.above
    return [f"{100 * gain.mean:+.2f}", ends, p, f"{better} of {gain.runs}"]


def _percent(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{100 * value:.{digits}f}"


def _whole(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _time(run: RunResult) -> str:
    if run.wall_s is None:
        return "n/a"
    minutes, seconds = divmod(round(run.wall_s), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def terminal_table(comparison: Comparison) -> str:
    """Return the scores as a table for the terminal, in %: a line for each arm, as trained and tuned."""
    split = comparison.main_split
    folds = "" if comparison.folds is None else f"{comparison.folds} folds x "
    lines = [f"{split} images, %: mean ± deviation over {folds}{_seeds(comparison)}"]
    for decision in comparison.decisions(split):
        scores, titles = comparison.scores[split][decision], _titles(comparison, split, decision)
        rows: list[tuple[str, ...]] = [(decision, *(title.removesuffix(" accuracy") for title in titles.values()))]
        for arm in comparison.arms:
            cells = [scores[score][arm] for score in titles]
            rows.append((arm, *(f"{_percent(cell.mean)} ± {_percent(cell.std)}" for cell in cells)))
        lines += ["", *table_lines(rows, narrowest=12)]
    for arm in comparison.arms[1:]:
        lines += ["", f"{arm} against {comparison.arms[0]}, macro F1:"]
        for decision in comparison.decisions(split):
            gain = comparison.differences[split][decision]["f1_macro"][arm]
            points, ends, p, better = _gain(gain, less_is_better=False)
            lines.append(f"  {decision}: {points} points (95 % interval {ends}, p {p}), better in {better} runs")
    return "\n".join([*lines, "", verdict(comparison)]) + "\n"
