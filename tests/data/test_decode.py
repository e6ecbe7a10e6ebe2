"""Each row of the table in `decode`'s docstring: what becomes of which file, down to the pixels."""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fer_lightning.data.files.decode import TooManyPixelsError, _webp_size, cropped, decode, decode_with_facts, inside
from fer_lightning.errors import DataError
from tests.helpers.images import (
    GREEN,
    RED,
    animation,
    encode,
    exif,
    picture,
    plain,
    png,
    png_bomb,
    png_chunk,
    ramp16,
    stored_for,
    tiff16,
    ycck_jpeg,
)

pytestmark = pytest.mark.filterwarnings("error")  # no warning of Pillow's may come through

PICTURE = picture()
RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
FILES: dict[str, bytes] = {
    "JPEG": encode(PICTURE, "JPEG", quality=90),
    "progressive JPEG": encode(PICTURE, "JPEG", quality=90, progressive=True),
    "gray JPEG": encode(PICTURE[:, :, 0], "JPEG", quality=90),
    "PNG": encode(PICTURE, "PNG"),
    "gray PNG": encode(PICTURE[:, :, 0], "PNG"),
    "palette GIF": encode(PICTURE, "GIF"),
    "BMP": encode(PICTURE, "BMP"),
    "WebP": encode(PICTURE, "WEBP"),
    "lossless WebP": encode(PICTURE, "WEBP", lossless=True),
    "TIFF": encode(PICTURE, "TIFF"),
    "TIFF with LZW": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "PNM": encode(PICTURE, "PPM"),
}
EXACT = ("PNG", "BMP", "lossless WebP", "TIFF", "TIFF with LZW", "PNM")


def refusal(source: Path | bytes, **options: int) -> str:
    with pytest.raises(DataError, match="^expected an image") as caught:
        decode(source, **options)
    assert type(caught.value) in (DataError, TooManyPixelsError)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
    return str(caught.value)


def assert_plain(pixels: NDArray[np.uint8], colour: tuple[int, ...], tolerance: int = 0) -> None:
    assert pixels.shape == (16, 16, len(colour))
    assert np.abs(pixels.astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_decoded_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    path = tmp_path / "name.txt"
    path.write_bytes(FILES[name])
    pixels = decode(path)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.shape == (64, 64, 1 if "gray" in name else 3)
    np.testing.assert_array_equal(pixels, decode(FILES[name]))
    truth = PICTURE[:, :, :1] if "gray" in name else PICTURE
    limit = 0 if name in (*EXACT, "gray PNG") else 12  # lossy ones, on the mean
    assert np.abs(pixels.astype(int) - truth).mean() <= limit


def test_channels_as_asked_for() -> None:
    gray = decode(FILES["PNG"], channels=1)
    np.testing.assert_array_equal(gray[:, :, 0], np.array(Image.fromarray(PICTURE).convert("L")))
    colour = decode(FILES["gray PNG"], channels=3)
    np.testing.assert_array_equal(colour, PICTURE[:, :, [0, 0, 0]])
    with pytest.raises(ValueError, match="expected 1 or 3 channels, got 4"):
        decode(FILES["PNG"], channels=4)


@pytest.mark.parametrize("name", ["stränge näme.jpg", "a b  c.JPG", "笑顔.jpg", "x\ny.jpg", "no suffix"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES["JPEG"])
    np.testing.assert_array_equal(decode(path), decode(FILES["JPEG"]))


@pytest.mark.parametrize("name", [name for name in FILES if "PNG" not in name and "GIF" not in name])
def test_a_file_that_is_cut_off_is_refused(name: str) -> None:
    content = FILES[name]
    cuts = {1, 2, 3, 7, 20, 50, *(len(content) * share // 100 for share in (1, 2, 5, 30, 60, 90, 97))}
    for cut in cuts:
        assert "that is damaged or cut off (" in refusal(content[:-cut]), cut


@pytest.mark.parametrize(("name", "harmless"), [("PNG", 12 + 4 + 4), ("gray PNG", 12 + 4 + 4), ("palette GIF", 2)])
def test_a_file_that_lacks_no_pixels_but_an_end_mark_is_decoded(name: str, harmless: int) -> None:
    content = FILES[name]
    for cut in (1, harmless):  # IEND, checksum of IDAT and checksum of the compressed data; GIF's trailer
        np.testing.assert_array_equal(decode(content[:-cut]), decode(content))
    for cut in (harmless + 5, len(content) // 50, len(content) // 20, len(content) // 2):
        assert "that is damaged or cut off (" in refusal(content[:-cut]), cut


OTHER = {
    "empty": (b"", "found an empty file (0 bytes)"),
    "HTML": (b"<!DOCTYPE html><html>404</html>", "found an HTML page"),
    "text": (b"hello there", "found something else (it starts with 'hello there')"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "found a Git LFS pointer"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(60), "found a HEIC, AVIF or video file, which cannot be read; convert it"),
    "ZIP": (b"PK\3\4" + bytes(60), "found a ZIP archive"),
    "sound": (b"RIFF\0\0\0\0WAVEfmt " + bytes(60), "found binary data"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "found something else (it starts with '%!PS"),
    "only a signature": (b"\xff\xd8\xff", "found a JPEG file that is damaged or cut off"),
    "short WebP": (b"RIFF\0\0\0\0WEBP", "found a WebP file that is damaged or cut off"),
    "flipped bits": (FILES["PNG"][:200] + bytes(50) + FILES["PNG"][250:], "found a PNG file that is damaged or cut"),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_is_no_image_is_named(tmp_path: Path, case: str) -> None:
    content, expected = OTHER[case]
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    assert expected in refusal(path)
    assert expected in refusal(content)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "expected an image, found a folder"
    assert refusal(tmp_path / "x.png") == "expected an image, found no file"
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png") == "expected an image, found no regular file"
    (tmp_path / "link.png").symlink_to("nowhere")
    assert refusal(tmp_path / "link.png") == "expected an image, found a link to nowhere"
    (tmp_path / "circle.png").symlink_to("circle.png")
    assert "cannot be read (" in refusal(tmp_path / "circle.png")
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read (Not a directory)" in refusal(tmp_path / "file" / "x.png")


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Root may read everything: be nobody for a moment."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(FILES["PNG"])
    path.chmod(0)
    with without_rights():
        assert refusal(path) == "expected an image, found a file that cannot be read (Permission denied)"


def test_a_failing_disk_is_not_taken_for_a_damaged_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 0:
                raise OSError(5, "Input/output error")
            return super().read(size)

    path = tmp_path / "image.png"
    path.write_bytes(FILES["PNG"])
    monkeypatch.setattr(Path, "open", lambda self, mode: Failing(FILES["PNG"]))
    assert refusal(path) == "expected an image, found a file that cannot be read (Input/output error)"


@pytest.mark.parametrize("side", [7072, 10_000, 12_000, 30_000, 65_000])  # Pillow warns from 9,459 and raises at 13,378
def test_an_enormous_image_is_refused_by_its_header(side: int) -> None:
    message = refusal(png_bomb(side, side))
    assert message == f"expected an image of at most 50,000,000 pixels, found one of {side}x{side}"
    jpeg = bytearray(FILES["JPEG"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = side.to_bytes(2, "big") * 2
    assert f"found one of {side}x{side}" in refusal(bytes(jpeg))
    tiff = FILES["TIFF"].replace(b"\0\1\4\0\1\0\0\0\x40\0\0\0", b"\0\1\4\0\1\0\0\0" + side.to_bytes(4, "little"))
    tiff = tiff.replace(b"\1\1\4\0\1\0\0\0\x40\0\0\0", b"\1\1\4\0\1\0\0\0" + side.to_bytes(4, "little"))
    assert f"found one of {side}x{side}" in refusal(tiff)


@pytest.mark.parametrize("name", ["WebP", "lossless WebP", "extended WebP"])
def test_an_enormous_webp_is_refused_before_its_decoder_is_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encode(PICTURE, "WEBP", exif=exif(1)) if name == "extended WebP" else FILES[name]
    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile._open", lambda self: pytest.fail("decoder was made"))
    assert refusal(content, max_pixels=64 * 64 - 1).endswith("found one of 64x64")


def test_the_limit_of_pixels_counts_exactly() -> None:
    assert decode(FILES["PNG"], max_pixels=64 * 64).shape == (64, 64, 3)
    assert refusal(FILES["PNG"], max_pixels=64 * 64 - 1).startswith("expected an image of at most 4,095 pixels")


@pytest.mark.slow
def test_a_raised_limit_is_not_undone_by_pillows_own() -> None:
    big = encode(Image.new("1", (14_000, 14_000)), "PNG")  # Pillow by itself refuses more than 178,956,970
    assert decode(big, max_pixels=200_000_000).shape == (14_000, 14_000, 1)


def test_no_pixels() -> None:
    assert "found a PNG file that is damaged" in refusal(png_bomb(0, 5))


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (1, 1)])
def test_slivers(size: tuple[int, int]) -> None:
    pixels = decode(encode(Image.new("L", size, 7), "PNG"))
    assert pixels.shape == (size[1], size[0], 1)
    assert (pixels == 7).all()


def test_cmyk_and_ycck_stay_red() -> None:
    assert_plain(decode(encode(plain().convert("CMYK"), "TIFF")), RED)
    jpeg = encode(plain().convert("CMYK"), "JPEG", quality=100)
    assert b"Adobe" in jpeg  # which means: inks are stored inverted
    assert_plain(decode(jpeg), RED, 2)
    assert Image.open(io.BytesIO(ycck_jpeg())).info["adobe_transform"] == 2
    assert_plain(decode(ycck_jpeg()), RED, 4)
    assert_plain(decode(jpeg, channels=1), (76,), 2)


SIXTEEN: dict[str, bytes] = {
    "PNG": png(ramp16(), 0),
    "PNG with alpha": png(np.dstack([ramp16(), np.full_like(ramp16(), 65535)]), 4),
    "TIFF, little endian": tiff16(ramp16()),
    "TIFF, big endian": tiff16(ramp16(), ">"),
    "TIFF, compressed": encode(Image.fromarray(ramp16()), "TIFF", compression="tiff_lzw"),
    "TIFF, white is zero": tiff16(65535 - ramp16(), white_is_zero=True),
    "PGM": b"P5 16 16 65535\n" + ramp16().astype(">u2").tobytes(),
    "TIFF, 32 bits": encode(Image.fromarray(ramp16().astype(np.int32)), "TIFF"),
}


@pytest.mark.parametrize("name", SIXTEEN)
def test_sixteen_bits_are_scaled_not_clipped(name: str) -> None:
    pixels, facts = decode_with_facts(SIXTEEN[name])
    np.testing.assert_array_equal(pixels, RAMP)
    np.testing.assert_array_equal(decode(SIXTEEN[name], channels=3), np.repeat(RAMP, 3, axis=2))
    assert facts.bits == (32 if "32" in name else 16)


def test_sixteen_bits_are_rounded() -> None:
    values = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(png(values, 0))[:, :, 0], expected)
    np.testing.assert_array_equal(decode(tiff16(values, ">"))[:, :, 0], expected)


def test_sixteen_bit_colour() -> None:
    values = np.dstack([ramp16(), ramp16()[::-1], np.full_like(ramp16(), 32768)])
    pixels, facts = decode_with_facts(png(values, 2))
    assert facts.bits == 16
    np.testing.assert_array_equal(pixels, values >> 8)


def test_values_of_unknown_range_are_refused() -> None:
    float32 = encode(Image.fromarray(np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)), "TIFF")
    assert "found one of 32-bit float, whose range is unknown" in refusal(float32)
    negative = encode(Image.fromarray(ramp16().astype(np.int32) - 1), "TIFF")
    assert "found 32-bit integers in -1..65534" in refusal(negative)


def test_one_bit() -> None:
    pattern = Image.fromarray(np.eye(16, dtype=bool))
    pixels, facts = decode_with_facts(encode(pattern, "PNG"))
    np.testing.assert_array_equal(pixels[:, :, 0], np.eye(16) * 255)
    assert facts.bits == 1


def test_palettes() -> None:
    palette = plain().quantize(4)
    assert_plain(decode(encode(palette, "PNG")), RED)
    assert_plain(decode(encode(palette, "GIF")), RED)
    assert_plain(decode(encode(palette, "PNG"), channels=1), (76,))
    index = palette.getpixel((0, 0))
    assert_plain(decode(encode(palette, "PNG", transparency=index)), (128, 128, 128))
    assert_plain(decode(encode(palette, "GIF", transparency=index)), (128, 128, 128))
    half = bytes([128] * 4)  # of each colour of the palette
    assert_plain(decode(encode(palette, "PNG", transparency=half)), (192, 64, 64), 1)


def test_transparency_is_laid_on_mid_gray() -> None:
    for form in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        for alpha, expected in ((255, RED), (0, (128, 128, 128)), (128, (192, 64, 64))):
            assert_plain(decode(encode(plain((*RED, alpha), "RGBA"), form, **options)), expected, 1)
    assert_plain(decode(encode(plain((250, 0), "LA"), "PNG")), (128,))
    assert_plain(decode(encode(plain((250, 255), "LA"), "PNG")), (250,))
    assert_plain(decode(encode(plain((250, 255), "LA"), "PNG"), channels=3), (250, 250, 250))


def test_colour_keys() -> None:
    assert_plain(decode(encode(plain(), "PNG", transparency=RED)), (128, 128, 128))
    assert_plain(decode(encode(plain(), "PNG", transparency=GREEN)), RED)
    assert_plain(decode(encode(Image.new("L", (16, 16), 9), "PNG", transparency=9)), (128,))
    keyed = png(ramp16(), 0, png_chunk(b"tRNS", (257 * 255).to_bytes(2, "big")))
    assert decode(keyed)[15, 14:, 0].tolist() == [254, 128]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(form: str) -> None:
    frames = [plain(RED), plain(GREEN), plain((0, 0, 255))]
    pixels, facts = decode_with_facts(animation(form, frames, **({"lossless": True} if form == "WEBP" else {})))
    assert_plain(pixels, RED)
    assert facts.frames == 3
    assert decode_with_facts(FILES["palette GIF"])[1].frames == 1


def test_of_a_file_of_two_views_the_first_counts() -> None:
    pixels, facts = decode_with_facts(animation("MPO", [plain(RED), plain(GREEN)]))
    assert_plain(pixels, RED, 2)
    assert facts.frames == 1


UPRIGHT = PICTURE[:24, :40]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_undone(form: str, orientation: int) -> None:
    stored = np.ascontiguousarray(stored_for(orientation, UPRIGHT))
    lossless: dict[str, dict[str, int]] = {"WEBP": {"lossless": 1}, "JPEG": {"quality": 100, "subsampling": 0}}
    block = Image.Exif()
    block[0x0112] = orientation
    pixels, facts = decode_with_facts(encode(stored, form, exif=block, **lossless.get(form, {})))
    assert np.abs(pixels.astype(int) - UPRIGHT).max() <= (6 if form == "JPEG" else 0)
    assert (facts.width, facts.height, facts.orientation) == (40, 24, orientation)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_exif_of_either_byte_order(order: str, kind: int) -> None:
    stored = np.ascontiguousarray(stored_for(6, UPRIGHT))
    np.testing.assert_array_equal(decode(encode(stored, "PNG", exif=exif(6, order, kind))), UPRIGHT)


def test_exif_behind_the_pixels() -> None:
    content = encode(np.ascontiguousarray(stored_for(8, UPRIGHT)), "PNG")
    late = content[:-12] + png_chunk(b"eXIf", exif(8)[6:]) + content[-12:]
    np.testing.assert_array_equal(decode(late), UPRIGHT)


BROKEN = {
    "nothing": b"Exif\0\0",
    "no header": b"Exif\0\0" + b"\xff" * 30,
    "cut off": exif(6)[:18],
    "directory elsewhere": exif(6)[:10] + b"\xff\xff\xff\x7f" + exif(6)[14:],
    "too many entries": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "orientation 0": exif(0),
    "orientation 9": exif(9),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_exif_is_ignored(case: str) -> None:
    for form in ("PNG", "JPEG", "WEBP"):
        pixels, facts = decode_with_facts(encode(UPRIGHT, form, exif=BROKEN[case]))
        np.testing.assert_array_equal(pixels, decode(encode(UPRIGHT, form)))
        assert facts.orientation == 1


def test_a_text_that_is_called_exif_is_ignored() -> None:
    content = png(UPRIGHT, 2, png_chunk(b"tEXt", b"exif\0rotated"))
    np.testing.assert_array_equal(decode(content), UPRIGHT)


def test_profile_and_garbage_at_the_end_are_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert_plain(decode(encode(plain(), "PNG", icc_profile=profile)), RED)
    np.testing.assert_array_equal(decode(FILES["JPEG"] + b"garbage" * 99), decode(FILES["JPEG"]))


def test_facts() -> None:
    _, facts = decode_with_facts(FILES["JPEG"], channels=1)
    assert (facts.width, facts.height, facts.format, facts.mode) == (64, 64, "JPEG", "RGB")
    assert (facts.bits, facts.frames, facts.orientation) == (8, 1, 1)


EDITS = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4)


@pytest.mark.parametrize("name", FILES)
@given(edits=EDITS, cut=st.integers(0, 1 << 20))
@example(edits=[], cut=0)
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_gives_pixels_or_a_data_error(name: str, edits: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(FILES[name])
    for position, value in edits:
        content[position % len(content)] = value
    damaged = bytes(content[: len(content) - cut % len(content)] if cut % 3 == 0 else content)
    try:
        pixels = decode(damaged, max_pixels=100_000)
    except DataError as error:
        assert str(error).startswith("expected an image")  # noqa: PT017  both outcomes are right
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] in (1, 3)
        assert pixels.shape[0] * pixels.shape[1] <= 100_000


def test_decoding_in_threads_leaves_the_warnings_of_others_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode, [FILES["TIFF"], FILES["palette GIF"]] * 50))
    assert warnings.filters == before
    for pixels in decoded[::2]:
        np.testing.assert_array_equal(pixels, PICTURE)


def test_a_box_is_a_part_of_the_picture() -> None:
    np.testing.assert_array_equal(cropped(PICTURE, np.array([20, 30, 16, 8])), PICTURE[30:38, 20:36])


@pytest.mark.parametrize("box", [(-5, -3, 20, 20), (50, 60, 20, 20), (-4, 10, 80, 80), (63, 0, 10, 10)])
def test_a_box_across_the_border_repeats_it(box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    rows, columns = np.arange(y, y + height).clip(0, 63), np.arange(x, x + width).clip(0, 63)
    np.testing.assert_array_equal(cropped(PICTURE, np.array(box)), PICTURE[rows][:, columns])


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((0, 0, 0, 10), "no pixels"),
        ((0, 0, 10, -1), "no pixels"),
        ((64, 0, 10, 10), "outside"),
        ((0, -10, 10, 10), "outside"),
        ((-10, 0, 10, 10), "outside"),
        ((0, 0, 641, 10), "far too large"),
        ((0, 0, 2**40, 2**40), "far too large"),
        ((2**62, 2**62, 2**62, 2**62), "outside"),
    ],
)
def test_a_senseless_box_is_refused(box: tuple[int, int, int, int], reason: str) -> None:
    with pytest.raises(DataError, match=rf"in a picture of 64x64, found {', '.join(map(str, box))}: {reason}$"):
        cropped(PICTURE, np.array(box))


def test_ten_times_the_longer_side_is_not_too_large_for_a_box() -> None:
    assert cropped(PICTURE[:16], np.array([0, 0, 640, 10])).shape[:2] == (10, 640)
    assert cropped(PICTURE[:, :16], np.array([0, 0, 10, 640])).shape[:2] == (640, 10)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("train", True), (".", True), ("nowhere", True), ("../outside", False), ("/etc", False), ("train/out", False)],
)
def test_links_out_of_the_tree_are_told_from_others(tmp_path: Path, target: str, expected: bool) -> None:
    root = tmp_path / "root"
    (root / "train").mkdir(parents=True)
    (root / "train" / "out").symlink_to("../../outside")
    (root / "link").symlink_to(target)
    assert inside(root, root / "link" / "x.png") is expected
    assert inside(root, root / "train" / "x.png")
    assert not inside(root, root / ".." / "root2")


def test_links_in_a_circle_raise_nothing(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    assert inside(tmp_path, tmp_path / "link") in (True, False)  # Python's versions see it differently


def test_a_root_that_is_a_link_is_no_link_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to("real")
    assert inside(tmp_path / "root", tmp_path / "root" / "x.png")


@pytest.mark.parametrize(("value", "is_fine"), [(65535, True), (65536, False)])
def test_where_values_of_16_bits_end(value: int, is_fine: bool) -> None:
    content = encode(Image.fromarray(np.array([[0, value]], np.int32)), "TIFF")
    if is_fine:
        assert decode(content).ravel().tolist() == [0, 255]
    else:
        assert "found 32-bit integers in 0..65536" in refusal(content)


def test_the_size_of_an_extended_webp_has_three_bytes_a_side() -> None:
    head = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + bytes.fromhex("010203 040506")
    assert _webp_size(head) == (0x030201 + 1, 0x060504 + 1)
