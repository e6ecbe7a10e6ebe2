"""Archives: each row of the table in the docstring of `archives`; nothing is ever written outside of the target."""

from __future__ import annotations

import io
import os
import signal
import stat
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fer_lightning.data.files.archives import ArchiveLimits, is_archive, open_root
from fer_lightning.errors import DataError

TREE = {
    "set/train/happy/a.txt": b"a" * 3000,
    "set/train/happy/b b.txt": b"b",
    "set/test/sad/ü.txt": b"u",
    "set/none.txt": b"",
}
FORMS = {".zip": "", ".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz", ".tar.bz2": "w:bz2"}


def write_zip(path: Path, entries: dict[str, bytes], kinds: dict[str, int] | None = None) -> Path:
    """Write a zip; ``kinds`` gives file types of Unix by name, for example ``stat.S_IFLNK``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.filename = name  # the constructor mends some names
            entry.external_attr = (kinds or {}).get(name, stat.S_IFREG) << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, len(content)
    entry.pax_headers = {"content": content.decode("latin-1")}  # carried to `write_tar`, not written
    return entry


def write_tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # any mode
        for entry in members:
            content = entry.pax_headers["content"].encode("latin-1")
            entry.pax_headers = {}
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_tree(folder: Path, suffix: str, tree: dict[str, bytes] = TREE) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"faces{suffix}"
    if suffix == ".zip":
        return write_zip(path, tree)
    return write_tar(path, [member(name, content=content) for name, content in tree.items()], FORMS[suffix])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refusal(archive: Path, cache: Path, **options: Any) -> str:
    """Check that an archive is refused and nothing stays behind, and return why."""
    before = everything(archive.parent)
    with pytest.raises(DataError) as caught:
        open_root(archive, cache, **options)
    message = str(caught.value)
    assert archive.name in message
    assert message.isprintable()
    assert len(message) <= 250
    assert everything(archive.parent) == before
    assert everything(cache) in ([], ["archives"])
    return message


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("suffix", FORMS)
def test_an_archive_is_unpacked_once(data: Path, cache: Path, suffix: str) -> None:
    archive = write_tree(data, suffix)
    assert is_archive(archive)
    root = open_root(archive, cache)
    assert root.name == "set"  # the only folder at the top
    assert cache in root.parents
    assert files(root.parent) == TREE
    assert [path.name for path in data.iterdir()] == [archive.name]
    (root / "none.txt").write_bytes(b"touched")
    assert open_root(archive, cache) == root
    assert (root / "none.txt").read_bytes() == b"touched"
    archive.unlink()
    other = open_root(write_tree(data, suffix, {**TREE, "set/none.txt": b"new"}), cache)
    assert other != root
    assert (other / "none.txt").read_bytes() == b"new"


def test_what_is_no_archive_is_returned(data: Path, cache: Path) -> None:
    assert open_root(data, cache) == data
    assert open_root(data / "missing.zip", cache) == data / "missing.zip"
    (data / "table.csv").write_text("path,label\n")
    assert open_root(data / "table.csv", cache) == data / "table.csv"
    assert not is_archive(data / "table.csv")
    assert not cache.exists()
    (data / "set.rar").write_bytes(b"Rar!")
    assert "unpack this archive by hand" in refusal(data / "set.rar", cache)


@pytest.mark.parametrize("top", ["train", "Test", "validation"])
def test_a_folder_that_is_a_split_stays_part_of_the_layout(data: Path, cache: Path, top: str) -> None:
    root = open_root(write_tree(data, ".zip", {f"{top}/happy/a.txt": b""}), cache)
    assert [path.name for path in root.iterdir()] == [top]


def test_several_folders_stay_together(data: Path, cache: Path) -> None:
    tree = {"a/x": b"", "b/x": b"", "__MACOSX/a/._x": b"", "__MACOSX/b": b""}
    root = open_root(write_tree(data, ".zip", tree), cache)
    assert everything(root) == ["a", "a/x", "b", "b/x"]


def test_folders_backslashes_and_dots(data: Path, cache: Path) -> None:
    tree = {"set\\train\\": b"", "set\\train\\a.txt": b"a", "./set//test/./b.txt": b"b", "set/empty/": b""}
    root = open_root(write_tree(data, ".zip", tree), cache)
    assert everything(root) == ["empty", "test", "test/b.txt", "train", "train/a.txt"]
    members = [member("set", tarfile.DIRTYPE), member("set/empty", tarfile.DIRTYPE), member("./", tarfile.DIRTYPE)]
    assert everything(open_root(write_tar(data / "f.tar", members), cache)) == ["empty"]


CLIMBS = ("../evil", "a/../../evil", "/evil", "//evil", "..\\evil", "a\\..\\..\\evil", "C:\\evil", "c:evil", "\\evil")


@pytest.mark.parametrize("name", [*CLIMBS, "a/..", ".."])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_a_path_that_leads_out_is_refused(data: Path, cache: Path, suffix: str, name: str) -> None:
    archive = write_tree(data, suffix, {"fine": b"", name: b"evil"})
    assert "refused: its path leads out of the folder" in refusal(archive, cache)


def tar_case(*members: tarfile.TarInfo) -> Callable[[Path], Path]:
    return lambda folder: write_tar(folder / "faces.tar", list(members))


def zip_case(entries: dict[str, bytes], kinds: dict[str, int]) -> Callable[[Path], Path]:
    return lambda folder: write_zip(folder / "faces.zip", entries, kinds)


SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
OUT, KINDS = "it links out of the folder", "it is "
BAD_ENTRIES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "link up": (tar_case(member("a/x", SYM, "../../evil")), OUT),
    "link to root": (tar_case(member("x", SYM, "/etc/passwd")), OUT),
    "link with backslashes": (tar_case(member("x", SYM, "..\\evil")), OUT),
    "link to a drive": (tar_case(member("x", SYM, "C:\\evil")), OUT),
    "link to nothing": (tar_case(member("x", SYM, "")), OUT),
    "link over a link": (
        tar_case(member("a/b/up", SYM, "../.."), member("x", SYM, "a/b/up/../evil")),
        OUT,
    ),
    "file through a link": (tar_case(member("x", SYM, "."), member("x/evil", content=b"evil")), "it is a link, and"),
    "file through a link out": (tar_case(member("x", SYM, ".."), member("x/evil", content=b"evil")), "it is a link"),
    "link through a link": (tar_case(member("d", SYM, "e"), member("d/f", SYM, "g")), "it is a folder, and a file too"),
    "hard link up": (tar_case(member("x", HARD, "../evil")), "its path leads out of the folder"),
    "hard link to root": (tar_case(member("x", HARD, "/etc/passwd")), "its path leads out of the folder"),
    "hard link to nothing": (tar_case(member("x", HARD, "y")), "it links to 'y', which is no file before it"),
    "hard link to itself": (tar_case(member("x", HARD, "x")), "it links to 'x', which is no file before it"),
    "hard link to a link": (tar_case(member("y", SYM, "z"), member("x", HARD, "y")), "which is no file before it"),
    "pipe": (tar_case(member("x", tarfile.FIFOTYPE)), "it is neither file, folder nor link"),
    "disk": (tar_case(member("x", tarfile.BLKTYPE)), "it is neither file, folder nor link"),
    "terminal": (tar_case(member("x", tarfile.CHRTYPE)), "it is neither file, folder nor link"),
    "unknown kind": (tar_case(member("x", b"Z")), "it is neither file, folder nor link"),
    "file under a file": (tar_case(member("x"), member("x/y")), "it is a folder, and a file too"),
    "folder over a file": (tar_case(member("x"), member("x", tarfile.DIRTYPE)), "it is a folder, and a file too"),
    "file over a folder": (tar_case(member("x/y"), member("x")), "it is a file, and a folder too"),
    "link over a file": (tar_case(member("x"), member("x", SYM, "y")), "it is a link, and something else too"),
    "zip: link up": (zip_case({"a/x": b"../../evil"}, {"a/x": stat.S_IFLNK}), OUT),
    "zip: link to root": (zip_case({"x": b"/etc/passwd"}, {"x": stat.S_IFLNK}), OUT),
    "zip: pipe": (zip_case({"x": b""}, {"x": stat.S_IFIFO}), "it is neither file, folder nor link"),
    "zip: NUL": (zip_case({"x": b"a\0b"}, {"x": stat.S_IFLNK}), OUT),
    "zip: both kinds": (zip_case({"x": b"", "x/": b""}, {}), "it is a folder, and a file too"),
}


@pytest.mark.parametrize("case", BAD_ENTRIES)
def test_an_entry_that_is_not_safe_is_refused(data: Path, cache: Path, case: str) -> None:
    make, expected = BAD_ENTRIES[case]
    message = refusal(make(data), cache)
    assert ": entry '" in message
    assert expected in message


def test_links_that_stay_inside_are_kept(data: Path, cache: Path) -> None:
    members = [
        member("set/link", SYM, "train"),  # before what it links to
        member("set/train/a", content=b"a"),
        member("set/train/up", SYM, "../train/a"),
        member("set/hard", HARD, "set/train/a"),
        member("set/nowhere", SYM, "missing"),
    ]
    root = open_root(write_tar(data / "faces.tar", members), cache)
    assert (root / "link" / "a").read_bytes() == b"a"
    assert (root / "train" / "up").read_bytes() == b"a"
    assert (root / "hard").read_bytes() == b"a"
    assert os.readlink(root / "nowhere") == "missing"
    root = open_root(write_zip(data / "faces.zip", {"s/x": b"y", "s/y": b"7"}, {"s/x": stat.S_IFLNK}), cache)
    assert (root / "x").is_symlink()
    assert (root / "x").read_bytes() == b"7"


def test_the_later_of_two_files_counts(data: Path, cache: Path) -> None:
    members = [member("s/x", content=b"old"), member("s/y", HARD, "s/x"), member("s/x", content=b"new")]
    root = open_root(write_tar(data / "faces.tar", members), cache)
    assert files(root) == {"x": b"new", "y": b"old"}


def test_permissions_are_not_taken_over(data: Path, cache: Path) -> None:
    entry = member("s/x", content=b"1")
    entry.mode = 0o6777
    root = open_root(write_tar(data / "faces.tar", [entry]), cache)
    assert (root / "x").stat().st_mode & 0o7111 == 0


def encrypted(folder: Path) -> Path:
    path = write_tree(folder, ".zip")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    return path


def test_an_encrypted_archive_is_refused(data: Path, cache: Path) -> None:
    message = refusal(encrypted(data), cache)
    assert "entry 'set/train/happy/a.txt' refused: it is encrypted; unpack the archive by hand" in message


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.97, -1.0])
def test_an_archive_that_is_cut_off_is_refused(data: Path, cache: Path, suffix: str, keep: float) -> None:
    archive = write_tree(data, suffix, {f"set/{i}.bin": os.urandom(3000) for i in range(20)})
    content = archive.read_bytes()
    if suffix == ".tar":
        content = content.rstrip(b"\0")  # else a cut may hit nothing but filling
    archive.write_bytes(content[: round(len(content) * keep)] if keep >= 0 else content[:-1])
    expected = "found an empty file (0 bytes)" if keep == 0 else f"expected a whole {archive.suffix} archive, found "
    assert expected in refusal(archive, cache)


def test_a_tar_that_ends_between_two_entries_is_refused(data: Path, cache: Path) -> None:
    archive = write_tar(data / "faces.tar", [member("s/a", content=b"1" * 512), member("s/b", content=b"2" * 512)])
    archive.write_bytes(archive.read_bytes()[:1024])  # header and content of the first: `tarfile` sees nothing wrong
    assert "no end mark where the entries end" in refusal(archive, cache)


def test_a_tar_with_a_damaged_header_is_refused(data: Path, cache: Path) -> None:
    archive = write_tar(data / "faces.tar", [member("s/a", content=b"1" * 512), member("s/b", content=b"2" * 512)])
    content = bytearray(archive.read_bytes())
    content[1024 + 150] ^= 0xFF  # in the checksum of the second header
    archive.write_bytes(content)
    assert "no end mark where the entries end" in refusal(archive, cache)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_flipped_bits_are_refused(data: Path, cache: Path, suffix: str) -> None:
    archive = write_tree(data, suffix, {"set/a": os.urandom(20_000)})
    content = bytearray(archive.read_bytes())
    content[10_000] ^= 0xFF
    archive.write_bytes(content)
    assert "expected a whole" in refusal(archive, cache)


@pytest.mark.parametrize(("content", "found"), [(b"<html>", "an HTML page"), (b"Rar!" + bytes(9), "a RAR archive")])
@pytest.mark.parametrize("suffix", FORMS)
def test_what_is_no_archive_by_its_content_is_named(
    data: Path, cache: Path, suffix: str, content: bytes, found: str
) -> None:
    (data / f"faces{suffix}").write_bytes(content)
    assert f"found {found}" in refusal(data / f"faces{suffix}", cache)


def test_a_bomb_is_refused_while_it_is_unpacked(data: Path, cache: Path) -> None:
    limits = ArchiveLimits(ratio_from=1_000_000)
    for suffix in (".zip", ".tar.gz", ".tar.xz", ".tar.bz2"):
        archive = write_tree(data, suffix, {"set/zeros": bytes(4_000_000)})
        assert "look like an attack" in refusal(archive, cache, limits=limits)
    assert open_root(archive, cache).is_dir()  # well below a GiB it is none
    fine = write_tree(data, ".zip", {"set/noise": os.urandom(1_500_000)})
    assert open_root(fine, cache, limits).is_dir()


def test_the_limit_of_bytes(data: Path, cache: Path) -> None:
    archive = write_tree(data, ".tar", {"set/a": bytes(60), "set/b": bytes(41)})
    assert "'set/b' refused: more than 100 bytes in all" in refusal(archive, cache, limits=ArchiveLimits(size=100))
    assert open_root(archive, cache, ArchiveLimits(size=101)).is_dir()


def test_the_limit_of_entries_counts_folders_too(data: Path, cache: Path) -> None:
    archive = write_tree(data, ".zip", {"a/b/c": b"", "d": b""})
    assert "more than 3 entries" in refusal(archive, cache, limits=ArchiveLimits(entries=3))
    assert open_root(archive, cache, ArchiveLimits(entries=4)).is_dir()


def test_a_header_without_end_is_not_read_into_memory(data: Path, cache: Path) -> None:
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 40
    (data / "faces.tar").write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(5000))
    assert "a header of 1099511627776 bytes" in refusal(data / "faces.tar", cache)


def test_without_a_place_to_unpack_the_user_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_tree(data, ".zip")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="Not a directory.*; unpack it by hand, or pass cache_dir or set FER_CACHE_DIR"):
        open_root(archive, tmp_path / "file")
    monkeypatch.delenv("FER_CACHE_DIR")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(DataError, match="there is no home folder"):
        open_root(archive)


def test_an_archive_that_may_not_be_read_is_named(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("fer_lightning.data.files.archives.file_digest", refuse)
    assert "faces.zip: cannot be read (Permission denied)" in refusal(write_tree(data, ".zip"), cache)


def test_a_full_disk_leaves_nothing(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fer_lightning.data.files.archives.Unpacking._count_bytes", full)
    assert "(No space left on device); unpack it by hand" in refusal(write_tree(data, ".zip"), cache)


def test_stale_parts_are_removed_and_others_are_not(data: Path, cache: Path) -> None:
    stale, fresh = cache / "archives" / ".old-1.0123456789ab.part", cache / "archives" / ".new-1.0123456789ab.part"
    for part in (stale, fresh):
        (part / "deep").mkdir(parents=True)
    for folder in (stale / "deep", stale):
        os.utime(folder, (time.time() - 100_000,) * 2)
    open_root(write_tree(data, ".zip"), cache)
    assert not stale.exists()
    assert fresh.exists()


def test_another_process_that_was_faster_is_accepted(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_tree(data, ".zip")
    first = open_root(archive, cache)
    real = Path.is_dir
    seen: list[Path] = []

    def not_yet(path: Path) -> bool:
        if path == first.parent and not seen:
            seen.append(path)
            return False
        return real(path)

    monkeypatch.setattr(Path, "is_dir", not_yet)
    assert open_root(archive, cache) == first
    assert seen
    assert len(list((cache / "archives").iterdir())) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_leaves_nothing(
    data: Path, cache: Path, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr("fer_lightning.data.files.archives.Unpacking.make_links", interrupt)
    with pytest.raises(error):
        open_root(write_tree(data, ".tar.gz"), cache)
    assert everything(cache) == ["archives"]


def test_ctrl_c_leaves_nothing(data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def press(*_: object) -> None:
        seen.append(everything(cache))
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("fer_lightning.data.files.archives.Unpacking._count_bytes", press)
    with pytest.raises(KeyboardInterrupt):
        open_root(write_tree(data, ".tar"), cache)
    assert [path for path in seen[1] if path.endswith(".part/set/train/happy/b b.txt")]  # half of it was there
    assert everything(cache) == ["archives"]


ZIP_EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
@given(edits=ZIP_EDITS, cut=st.integers(0, 300))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_gives_a_folder_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, edits: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    archive = write_tree(folder / "data", suffix, {"set/train/a": b"a" * 400, "set/link": b"b" * 300})
    content = bytearray(archive.read_bytes())
    for position, value in edits:
        content[position % len(content)] = value
    archive.write_bytes(content[: len(content) - (cut if cut % 3 == 0 else 0)])
    try:
        root = open_root(archive, folder / "cache")
    except DataError as error:
        assert archive.name in str(error)  # noqa: PT017  both outcomes are right
        assert everything(folder / "cache") in ([], ["archives"])
    else:
        assert folder / "cache" in root.parents
    assert sorted(path.name for path in folder.iterdir()) in (["cache", "data"], ["data"])
