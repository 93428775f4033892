import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from automl import BadInput
from automl.images import ImageError, as_array, header, read, read_all

IMAGES = Path(__file__).parent / "data" / "cases" / "images"


def pixels(name, channels=3, height=16, width=16):
    return as_array(read(IMAGES / name), channels, height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_scaled_and_not_clipped(channels):
    difference = pixels("gray16.png", channels).astype(int) - pixels("gray8.png", channels)
    assert np.abs(difference).max() <= 1
    assert len(np.unique(pixels("gray8.png", channels))) == 256


def test_sixteen_bits_of_the_other_byte_order_and_of_pgm_are_the_same(tmp_path):
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    (tmp_path / "ramp.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    Image.fromarray(values).save(tmp_path / "ramp.tiff")
    for name in ("ramp.pgm", "ramp.tiff"):
        assert np.array_equal(as_array(read(tmp_path / name), 1, 16, 16), pixels("gray8.png", 1))


def test_floats_are_shades_from_0_to_1_or_to_255(tmp_path):
    ramp = np.arange(256, dtype=np.float32).reshape(16, 16)
    for name, values in (("ones.tiff", ramp / 255), ("bytes.tiff", ramp)):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(as_array(read(tmp_path / name), 1, 16, 16), pixels("gray8.png", 1))


@pytest.mark.parametrize("wrong", [-1.0, 256.0, float("nan")])
def test_floats_that_are_no_shades_are_refused(tmp_path, wrong):
    Image.fromarray(np.array([[0, wrong]], dtype=np.float32)).save(tmp_path / "odd.tiff")
    with pytest.raises(ImageError, match="values go from"):
        read(tmp_path / "odd.tiff")


def test_what_transparency_hides_is_white():
    seen = [pixels(f"hidden_{name}.png", 3, 8, 8) for name in ("red", "blue", "palette")]
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])
    assert (seen[0][:, :, 4:] == 255).all()
    assert (seen[0][:, :, 0] == [[0], [255], [0]]).all()


def test_grey_with_alpha_is_grey():
    assert read(IMAGES / "gray_alpha.png").mode == "L"
    assert header(IMAGES / "gray_alpha.png").grey


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"])
def test_every_mode_is_read_as_grey_or_colour(tmp_path, mode):
    image = Image.new("L", (5, 7), 128)
    if mode == "PA":
        image = Image.new("RGBA", (5, 7), (128, 128, 128, 255)).convert("PA")
    elif mode == "LAB":
        image = Image.new("LAB", (5, 7), (137, 128, 128))
    elif mode == "F":
        image = Image.fromarray(np.full((7, 5), 128, np.float32))
    elif mode in ("I", "I;16"):
        image = Image.fromarray(np.full((7, 5), 128 * 257, np.int32 if mode == "I" else np.uint16))
    elif mode != "L":
        image = Image.new("RGB", (5, 7), (128, 128, 128)).convert(mode)
    name = tmp_path / f"image.{'png' if mode in ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16') else 'tiff'}"
    try:
        image.save(name)
    except OSError:
        pytest.skip(f"this Pillow writes no {mode}")
    found = read(name)
    assert found.mode in ("L", "RGB")
    assert found.mode == "L" if header(name).grey else found.mode == "RGB"
    assert found.size == (5, 7)
    shades = as_array(found, 3, 7, 5)
    if mode != "1":
        assert abs(shades.mean() - 128) <= 4  # a palette is dithered


def test_cmyk_red_is_red():
    red, green, blue = pixels("cmyk_red.jpg").mean((1, 2)) / 255
    assert red > 0.8
    assert green < 0.2
    assert blue < 0.2


def test_orientation_is_obeyed_once(tmp_path):
    lying, standing = pixels("rotated_exif6.jpg", 3, 24, 24), pixels("upright.png", 3, 24, 24)
    assert np.abs(lying.astype(int) - standing).mean() / 255 < 0.05
    assert np.abs(np.rot90(lying, axes=(1, 2)).astype(int) - standing).mean() / 255 > 0.05
    read(IMAGES / "rotated_exif6.jpg").save(tmp_path / "again.png")
    assert np.array_equal(as_array(read(tmp_path / "again.png"), 3, 24, 24), lying)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(tmp_path, orientation):
    from PIL import ImageOps

    stored = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "turned.png"))
    assert np.array_equal(np.asarray(read(tmp_path / "turned.png")), np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "damaged or cut off"),
        ("truncated.png", "damaged or cut off"),
        ("empty.png", "it is empty"),
        ("error_page.jpg", "it is a web page"),
        ("nowhere.png", "there is no such file"),
        ("", "it is a folder"),
    ],
)
def test_a_broken_file_is_refused_by_name(name, reason):
    with pytest.raises(BadInput, match=reason) as error:
        read(IMAGES / name)
    assert str(IMAGES / name) in str(error.value)


@pytest.mark.parametrize("end", range(0, 700, 7))
def test_a_jpeg_cut_anywhere_is_read_or_refused_and_raises_nothing_else(tmp_path, end):
    (tmp_path / "cut.jpg").write_bytes((IMAGES / "rotated_exif6.jpg").read_bytes()[:end])
    with suppress(ImageError):
        read(tmp_path / "cut.jpg")


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    Image.new("1", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)  # a warning of Pillow's
    with pytest.raises(ImageError, match="more than 4,095 pixels"):
        read(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # an error of Pillow's
    with pytest.raises(ImageError, match="more than 1,000 pixels"):
        header(tmp_path / "bomb.png")


def test_postscript_is_not_run(tmp_path):
    (tmp_path / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")
    with pytest.raises(ImageError, match="no image of a format"):
        read(tmp_path / "page.png")


@pytest.mark.parametrize("name", ["one_pixel.png", "strip_1x200.png"])
def test_sizes_at_the_edge_are_stretched(name):
    assert pixels(name, 3, 8, 8).shape == (3, 8, 8)


def test_a_very_wide_image_becomes_one_pixel():
    assert as_array(Image.new("RGB", (4000, 3), (9, 8, 7)), 3, 1, 1).ravel().tolist() == [9, 8, 7]


def test_a_smaller_size_takes_in_every_pixel():
    checkers = Image.fromarray(np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 254)
    assert np.abs(as_array(checkers, 1, 8, 8).astype(int) - 127).max() <= 4


def test_a_large_photograph_is_reduced_as_it_is_read_and_looks_the_same(tmp_path):
    rows, columns = np.mgrid[:512, :768]
    Image.fromarray(np.stack([rows // 2, columns // 3, (rows + columns) // 5], -1).astype(np.uint8)).save(
        tmp_path / "photo.jpg", quality=95
    )
    reduced = read(tmp_path / "photo.jpg", at_least=32)
    assert 64 <= reduced.width < 768
    whole = as_array(read(tmp_path / "photo.jpg"), 3, 32, 32).astype(int)
    assert np.abs(as_array(reduced, 3, 32, 32) - whole).mean() < 3


def test_many_files_come_in_order_with_their_errors(tmp_path):
    paths = []
    for shade in range(20):
        paths.append(tmp_path / f"{shade}.png")
        Image.new("L", (4, 4), shade).save(paths[-1])
    paths[7] = IMAGES / "empty.png"
    found = list(read_all(paths, 1, 2, 2))
    assert isinstance(found[7], ImageError)
    assert [image.max() for image in found if not isinstance(image, ImageError)] == [*range(7), *range(8, 20)]


def test_the_filters_of_warnings_are_as_before():
    before = list(warnings.filters)
    list(read_all([IMAGES / "gray8.png"] * 8, 1, 4, 4))
    assert warnings.filters == before
