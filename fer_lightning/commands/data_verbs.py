"""What the verbs of ``fer data`` do, and how their command lines are read."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

import fer_lightning.data as data_wing
from fer_lightning.cli.parsing import prepare_parsing, readable
from fer_lightning.data.datamodule import EmotionDataModule
from fer_lightning.data.detect import detect_datamodule
from fer_lightning.data.sets.balanced import BalancedFER2013DataModule
from fer_lightning.data.splitting.dedupe import Conflicts, clean, find_duplicates, without_blank
from fer_lightning.data.storage.convert import Format, check_target
from fer_lightning.data.storage.convert import convert as convert_table
from fer_lightning.data.storage.encoding import Encoding
from fer_lightning.data.table.samples import SPLITS, SamplesTable
from fer_lightning.data.table.synthesis import Recipe, synthesise, with_kinds
from fer_lightning.errors import ConfigError, FERError
from fer_lightning.inspection.dedupe_report import dedupe_text, write_dedupe_report
from fer_lightning.inspection.page import inspect_table
from fer_lightning.text import folded, one_line, short_path, table_lines

__all__ = ["balance", "convert", "dedupe", "inspect", "run_verb"]

_AT_LEAST = 4500  # of the report on compact networks
_YAML = (".yaml", ".yml")
_NO_DATA = ("-h", "--help", "--config", "--data.help")  # with one of these a data set need not be named

_DATA_HELP = """\
the data set:
  PATH                  a folder, a table or an archive, told apart by its
                        layout, or a YAML file as in configs/data
  --data CLASS          the class that reads it, where the layout does not tell:
                        {classes}
  --data.OPTION VALUE   an option of the class, such as --data.on_error skip
  --data.help CLASS     list the options of a class
"""


def run_verb(verb: str, args: list[str]) -> None:
    """Parse the command line of a verb and run it.

    Args:
        verb: a key of :data:`fer_lightning.commands.data.VERBS`.
        args: the command line behind it.

    Raises:
        FERError: for whatever a user can mend.
    """
    prepare_parsing()
    function = _FUNCTIONS[verb]
    parser = _parser(verb, function)
    if {"-h", "--help"} & set(args):
        print(parser.format_help().rstrip())
        return
    try:
        options = parser.instantiate_classes(parser.parse_args(_with_data(args, verb)))
    except (ArgumentError, TypeError, ValueError) as error:
        complaint = _complaint(error)
        raise complaint from (None if complaint.__traceback__ else error)  # one that was raised has a story of its own
    options.pop("config", None)
    try:
        function(**options.as_dict())
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder without permission: nothing that a traceback explains
        raise FERError(one_line(f"{error.filename or verb}: {error.strerror or error}")) from error


def _complaint(error: BaseException) -> FERError:
    """Return what a class said when it was made, which the parser wraps into its own words, or what the parser says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FERError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return ConfigError(readable(str(error)))


class _Help(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the line breaks of the text about data sets."""


def _parser(verb: str, function: Callable[..., Any]) -> ArgumentParser:
    names = [name for name in data_wing.__all__ if name.endswith("DataModule") and name != "EmotionDataModule"]
    parser = ArgumentParser(
        prog=f"fer data {verb}",
        usage=f"fer data {verb} PATH [options]",
        description=(function.__doc__ or "").partition("\n")[0],
        epilog=_DATA_HELP.format(classes=f"\n{'':24}".join(names)),
        formatter_class=_Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="File with values of these options.")
    parser.add_subclass_arguments(EmotionDataModule, "data", as_group=False, required=True)
    parser.add_function_arguments(function, as_group=False, skip={"data"}, fail_untyped=True)
    for action in parser._actions:
        if action.dest in ("data", "data.help", "print_config"):
            action.help = argparse.SUPPRESS  # the text on data sets says it in fewer words
    return parser


def _with_data(args: list[str], verb: str) -> list[str]:
    """Turn a path among the arguments into the data module that reads it.

    Raises:
        ConfigError: if neither a path nor a data module is named, or there is no such class.
        DataError: if no data set lies there.
    """
    flags = [argument.partition("=")[0] for argument in args]
    place = next((place for place in range(len(args)) if _is_path(args, place)), None)
    if place is None:
        if not {"--data", *_NO_DATA} & set(flags):
            raise ConfigError(f"name the data set: fer data {verb} PATH, or --data CLASS --data.root PATH")
        for flag, argument, value in zip(flags, args, [*args[1:], ""], strict=True):
            if flag == "--data":
                _check_named(argument.partition("=")[2] if "=" in argument else value)
        return args
    path, rest = args[place], [*args[:place], *args[place + 1 :]]
    if "--data" in flags:
        return [*_with_data(rest, verb), f"--data.root={path}"]
    if path.endswith(_YAML):
        _check_named(path)
        return [f"--data={path}", *rest]
    name, root = detect_datamodule(Path(path).expanduser())
    if "--data.help" in rest:
        return [f"--data.help={name}"]
    print(f"{path}: read by {name}")
    return [f"--data={name}", f"--data.root={root}", *rest]


def _is_path(args: list[str], place: int) -> bool:
    """Tell whether an argument is neither an option nor the value of one; every option has one value."""
    before = args[place - 1] if place else ""
    return not args[place].startswith("-") and (not before.startswith("--") or "=" in before)


def _check_named(named: str) -> None:
    """Check what stands behind ``--data``, where the parser's complaint would be about import paths.

    Raises:
        ConfigError: for a file that is not there or no data set's, and for a class that does not exist.
    """
    if named.endswith(_YAML):
        _check_config(Path(named))
    known = _named_below(EmotionDataModule)
    if named.isidentifier() and named not in known:
        close = difflib.get_close_matches(named, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(f"there is no data module {named}{hint} (classes of your own: module.Class)")


def _check_config(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(one_line(f"{short_path(path)} does not exist; expected a file as in configs/data"))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(one_line(f"{short_path(path)}: expected YAML ({folded(error)})")) from None
    if not isinstance(values, dict) or "class_path" not in values:
        raise ConfigError(one_line(f"{short_path(path)}: expected a class_path and its init_args, as in configs/data"))


def _named_below(base: type[EmotionDataModule]) -> set[str]:
    """Return the names of all classes derived from one, as far as they have been imported."""
    return {name for kind in base.__subclasses__() for name in (kind.__name__, *_named_below(kind))}


def inspect(
    data: EmotionDataModule,
    out: str = "inspect",
    tsne: bool = False,
    tsne_samples: int = 3000,
    mirrored: bool = False,
    seed: int = 0,
) -> None:
    """Counts, pixel statistics, mean faces, samples, duplicates and bad files, as one HTML page, PNGs and JSON.

    Args:
        data: the data set; bad files are listed and left out.
        out: folder to write into.
        tsne: also a map of the raw pixels: PCA to 50, then t-SNE (needs scikit-learn).
        tsne_samples: training images on that map, at most.
        mirrored: count mirrored images as near-duplicates.
        seed: chooses the images shown.
    """
    folder = _checked_folder(out, data)
    if hasattr(data, "on_error"):
        vars(data)["on_error"] = "skip"  # bad files belong on the page
    table = data.table
    result = inspect_table(
        table,
        folder,
        name=_name(data),
        notes=table.left_out,
        tsne=tsne,
        tsne_samples=tsne_samples,
        mirrored=mirrored,
        seed=seed,
    )
    print(_counts_text(table))
    for finding in result["findings"]:
        print(f"- {finding}")
    print(f"page: {folder / 'index.html'}")


def dedupe(
    data: EmotionDataModule,
    out: str = "dedupe",
    near: bool = True,
    mirrored: bool = False,
    conflicts: Conflicts = "majority",
    blank: bool = False,
) -> None:
    """Exact and near-duplicates within and across splits, conflicting labels, and a cleaned manifest.

    Args:
        data: the data set.
        out: folder to write into: ``dedupe.json``, ``duplicates.csv``, ``removed.csv``, ``manifest.csv``, pictures.
        near: also look for near-duplicates, and leave them out of the manifest.
        mirrored: count mirrored images as near-duplicates.
        conflicts: what becomes of equal images with different labels: the label of the ``majority`` (none if it is a
            tie), ``drop`` all, or ``keep`` the first.
        blank: keep images of one colour in the manifest.
    """
    folder = _checked_folder(out, data)
    table = data.table
    duplicates = find_duplicates(table, near=near, mirrored=mirrored)
    cleaning = clean(table, duplicates, conflicts=conflicts, near=near)
    if not blank:
        cleaning = without_blank(cleaning, duplicates)
    options = {"near": near, "mirrored": mirrored, "conflicts": conflicts, "blank": blank}
    print(dedupe_text(write_dedupe_report(table, duplicates, cleaning, folder, name=_name(data), options=options)))
    manifest = folder / "manifest.csv"
    print(f"cleaned manifest: {manifest} (train on it: fer fit ... --data.keep {manifest})")


def convert(
    data: EmotionDataModule,
    to: Format,
    out: str,
    size: int | None = None,
    channels: int | None = None,
    encoding: Encoding = "png",
    quality: int = 92,
) -> None:
    """Store a data set in another form: arrow (memory-mapped), shards (streamed), folders, parquet or csv.

    Args:
        data: the data set.
        to: the form. Arrow and Parquet have random access; shards stream from a disk or an object store; folders come
            with a manifest; csv is the pixel form of FER2013.
        out: folder, or for parquet and csv the file, to write; must not exist or be empty.
        size: side of the stored images, pixels; the data module's own if not given.
        channels: 1 (gray) or 3 (RGB); the data module's own if not given.
        encoding: ``png`` is lossless.
        quality: of JPEG and WebP, 1..100.
    """
    target = _checked_place(out, data)
    check_target(target, to)
    written = convert_table(
        data.table,
        target,
        to,
        size=size,
        channels=channels,
        encoding=encoding,
        quality=quality,
        description=data.describe(),
    )
    print(_counts_text(data.table))
    left_out = f", {written['left_out']:,} left out" if written["left_out"] else ""
    print(f"{to}: {target} ({written['images']:,} images, {written['bytes'] / 1e6:,.1f} MB{left_out})")
    reader, root = detect_datamodule(target)
    print(f"train on it: fer fit ... --data {reader} --data.root {root}")


def balance(
    data: EmotionDataModule,
    out: str,
    at_least: int | None = None,
    rotation: float = 15.0,
    shift: float = 0.1,
    zoom: float = 0.1,
    flip: bool = True,
    seed: int = 0,
) -> None:
    """Add changed copies to the training split until each class has enough, as images and a manifest with parents.

    Args:
        data: the data set.
        out: folder to write; must not exist or be empty.
        at_least: training images that each class has at the end; 4500 if not given, none for a data set that balances
            itself, such as ``BalancedFER2013DataModule``.
        rotation: largest angle, degrees, either way.
        shift: largest shift along each axis, as a share of the side.
        zoom: largest change of scale.
        flip: mirror every other one.
        seed: chooses the changes.
    """
    target = _checked_place(out, data)
    check_target(target, "folders")
    if at_least is None:
        at_least = 0 if isinstance(data, BalancedFER2013DataModule) else _AT_LEAST
    recipe = Recipe(rotation=rotation, shift=shift, zoom=zoom, flip=flip)
    table = synthesise(data.table, at_least, seed=seed, recipe=recipe)
    convert_table(table, target, "folders", encoding="png", description=data.describe())
    print(_counts_text(table))
    print(f"{(with_kinds(table).groups['parent'] != '').sum():,} of them are synthetic")
    manifest = target / "manifest.csv"
    print(f"manifest: {manifest}")
    print(f"train on it: fer fit ... --data ManifestDataModule --data.root {manifest}")


_FUNCTIONS: dict[str, Callable[..., None]] = {
    "inspect": inspect,
    "dedupe": dedupe,
    "convert": convert,
    "balance": balance,
}


def _checked_place(out: str, data: EmotionDataModule) -> Path:
    """Return where to write, checked before anything that takes long.

    Raises:
        ConfigError: if nothing can be written there, or it lies inside of the data set, which would grow by it.
    """
    place = Path(out).expanduser()
    nearest = next(path for path in place.absolute().parents if path.exists())
    if not nearest.is_dir():
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is a file"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(one_line(f"{short_path(place)}: cannot be written, {short_path(nearest)} is read-only"))
    root = getattr(data, "root", None)
    if isinstance(root, str | Path):
        folder = Path(root).expanduser()
        if folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(
                one_line(f"{short_path(place)}: lies inside of the data set {short_path(folder)}; pass another --out")
            )
    return place


def _checked_folder(out: str, data: EmotionDataModule) -> Path:
    """Return the folder to write into, which may exist, checked likewise."""
    folder = _checked_place(out, data)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(one_line(f"{short_path(folder)}: expected a folder to write into, found a file"))
    return folder


def _name(data: EmotionDataModule) -> str:
    root = getattr(data, "root", None)
    return type(data).__name__ if root is None else f"{type(data).__name__}, {root}"


def _counts_text(table: SamplesTable) -> str:
    """Return the number of images of each class in each split, as lines for a terminal."""
    splits = [split for split in (*SPLITS, "") if len(table.rows(split))]
    counts = {split: table.class_counts(split) for split in splits}
    rows: list[tuple[str, ...]] = [("", *(split or "unused" for split in splits))]
    rows += [(name, *(f"{counts[split][name]:,}" for split in splits)) for name in table.class_names]
    rows.append(("all", *(f"{sum(counts[split].values()):,}" for split in splits)))
    return "\n".join(table_lines(rows, narrowest=8))
