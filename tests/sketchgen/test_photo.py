"""Photos: what has a meaning is converted, the rest has a reason, nothing raises anything else."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sketchgen.photo import ORIENTATION, Photo, PhotoConfig, PhotoError, decode

CONFIG = PhotoConfig()
UNKNOWN = (0, 0)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red (or dark), right half white."""
    image = Image.new("RGB", size, (255, 255, 255))
    image.paste((200, 30, 30), (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def left_right(photo: Photo) -> tuple[np.ndarray, np.ndarray]:
    width = photo.rgb.shape[1]
    return photo.rgb[:, : width // 2 - 4].mean((0, 1)), photo.rgb[:, width // 2 + 4 :].mean((0, 1))


def test_a_sane_jpeg_keeps_its_bytes() -> None:
    data = save(halves(), "JPEG")
    photo = decode(data, (40, 20), CONFIG)
    assert photo.jpeg == data
    assert photo.scale == (1, 1)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("RGB", "WEBP"), ("RGB", "BMP"), ("CMYK", "TIFF")],
)
def test_other_formats_are_converted(mode: str, kind: str) -> None:
    photo = decode(save(halves(mode), kind), UNKNOWN, CONFIG)
    left, right = left_right(photo)
    assert np.abs(left - (200, 30, 30)).max() < 30
    assert right.min() > 240
    stored = Image.open(io.BytesIO(photo.jpeg))
    assert (stored.format, stored.mode, stored.size) == ("JPEG", "RGB", (40, 20))


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_becomes_rgb(mode: str) -> None:
    photo = decode(save(halves().convert("L").convert(mode), "PNG"), UNKNOWN, CONFIG)
    assert photo.rgb.shape == (20, 40, 3)


def test_sixteen_bits_keep_their_contrast() -> None:
    deep = np.zeros((20, 40), np.uint16)
    deep[:, 20:] = 40000
    photo = decode(save(Image.fromarray(deep), "PNG"), UNKNOWN, CONFIG)
    left, right = left_right(photo)
    assert left.max() < 3
    assert np.abs(right - 40000 / 257).max() < 3  # Pillow's own convert("RGB") would give 255


def test_alpha_is_put_on_white() -> None:
    image = halves().convert("RGBA")
    image.putalpha(Image.new("L", (40, 20), 0))
    assert decode(save(image, "PNG"), UNKNOWN, CONFIG).rgb.min() == 255


def test_an_animation_gives_its_first_frame() -> None:
    frames = [halves(), Image.new("RGB", (40, 20), (0, 0, 255))]
    data = save(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(left_right(decode(data, UNKNOWN, CONFIG))[0] - (200, 30, 30)).max() < 30


@pytest.mark.parametrize("declared", [UNKNOWN, (20, 40)])
def test_exif_rotation_is_honoured(declared: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo = decode(save(halves(), "JPEG", exif=exif), declared, CONFIG)
    assert photo.rgb.shape == (40, 20, 3)
    assert photo.rgb[:16].mean((0, 1))[1] < 60  # the red left half is now on top
    assert Image.open(io.BytesIO(photo.jpeg)).getexif().get(ORIENTATION, 1) == 1


def test_exif_rotation_is_not_applied_where_boxes_were_drawn_on_raw_pixels() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert decode(save(halves(), "JPEG", exif=exif), (40, 20), CONFIG).rgb.shape == (20, 40, 3)


def test_large_photos_are_scaled_and_say_by_how_much() -> None:
    photo = decode(save(halves(size=(400, 100)), "JPEG"), (800, 200), PhotoConfig(max_side=200))
    assert photo.rgb.shape == (50, 200, 3)
    assert photo.scale == (0.25, 0.25)


@pytest.mark.parametrize("size", [(4000, 3001), (3000, 401), (2047, 2047)])
def test_a_large_jpeg_that_is_decoded_at_less_than_its_size_looks_the_same(size: tuple[int, int]) -> None:
    """libjpeg leaves out frequencies that the small photo cannot show: measured 38 to 50 dB against it all."""
    ramp = np.linspace(0, 255, size[0])[None, :] * np.linspace(0.2, 1, size[1])[:, None]
    waves = 40 * np.sin(np.arange(size[0]) / 9)[None, :] * np.sin(np.arange(size[1]) / 7)[:, None]
    picture = Image.fromarray(np.clip(np.stack([ramp, ramp[:, ::-1], waves + 128], -1), 0, 255).astype(np.uint8))
    data = save(picture, "JPEG", quality=95)
    photo = decode(data, size, PhotoConfig(max_side=512))
    whole = Image.open(io.BytesIO(data)).resize(photo.rgb.shape[1::-1], Image.Resampling.LANCZOS)
    error = np.square(photo.rgb.astype(float) - np.asarray(whole, float)).mean()
    assert 10 * np.log10(255**2 / error) > 35
    assert photo.scale == (photo.rgb.shape[1] / size[0], photo.rgb.shape[0] / size[1])


def test_another_aspect_than_annotated_is_refused() -> None:
    with pytest.raises(PhotoError, match="40x20.*20x40") as caught:
        decode(save(halves(), "PNG"), (20, 40), CONFIG)
    assert caught.value.reason == "image-size"


def test_a_hundred_megapixels_are_refused_before_decoding() -> None:
    """The file claims 10,000 x 10,000 and holds nothing: only a reader that looks first says so."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(PhotoError, match=r"100 megapixels.*--draw\.photo\.max-megapixels") as caught:
        decode(bomb, UNKNOWN, CONFIG)
    assert caught.value.reason == "image-too-large"


def test_one_pixel_is_a_photo() -> None:
    assert decode(save(Image.new("RGB", (1, 1)), "PNG"), UNKNOWN, CONFIG).rgb.shape == (1, 1, 3)


def test_an_empty_file_says_so() -> None:
    with pytest.raises(PhotoError, match="0 bytes") as caught:
        decode(b"", UNKNOWN, CONFIG)
    assert caught.value.reason == "image-unreadable"


def test_a_comment_too_long_for_a_jpeg_is_left_out() -> None:
    data = save(halves(), "GIF", comment=b"x" * 70_000)
    assert Image.open(io.BytesIO(decode(data, UNKNOWN, CONFIG).jpeg)).info.get("comment") is None


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "TGA"])
def test_formats_that_no_photo_comes_in_are_not_opened(kind: str) -> None:
    """Pillow would start Ghostscript on an EPS."""
    with pytest.raises(PhotoError, match="cannot identify"):
        decode(save(halves(), kind), UNKNOWN, CONFIG)


VALID = [save(halves(size=(64, 48)), kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")]


@settings(max_examples=300)
@given(
    st.sampled_from(VALID),
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255))),
)
def test_damaged_files_give_a_photo_or_a_reason(data: bytes, cut: int, flips: list[tuple[int, int]]) -> None:
    broken = bytearray(data[: max(1, cut % (len(data) + 1))])
    for place, value in flips:
        broken[place % len(broken)] = value
    try:
        photo = decode(bytes(broken), UNKNOWN, PhotoConfig(max_megapixels=4))
    except PhotoError as error:
        assert error.reason in {"image-unreadable", "image-too-large"}
    else:
        assert photo.rgb.dtype == np.uint8
        assert photo.rgb.ndim == 3
