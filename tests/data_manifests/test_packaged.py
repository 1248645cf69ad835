"""data_manifests.packaged: the file of an installed package, or an error that says what to do."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from data_manifests.packaged import packaged_file

PHOTO = "skimage/data/coffee.png"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution `photo-box` 1.2 with one file; importing it fails."""
    info = tmp_path / "photo_box-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: photo-box\nVersion: 1.2\n")
    (tmp_path / "photo_box").mkdir()
    (tmp_path / "photo_box" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "photo_box" / "cat.jpg").write_bytes(b"cat")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "photo_box" / "cat.jpg"


def test_finds_the_file(package: Path) -> None:
    assert packaged_file("photo-box", "photo_box/cat.jpg", sha256(package)) == package


def test_changed_file(package: Path) -> None:
    expected = sha256(package)
    package.write_bytes(b"dog")
    with pytest.raises(ValueError, match=r"photo-box 1\.2.*constraints\.txt") as error:
        packaged_file("photo-box", "photo_box/cat.jpg", expected)
    for part in (str(package), sha256(package), expected):
        assert part in str(error.value)


def test_missing_file(package: Path) -> None:
    with pytest.raises(ValueError, match=r"photo-box 1\.2 holds no file 'photo_box/dog\.jpg'.*constraints"):
        packaged_file("photo-box", "photo_box/dog.jpg", "")


def test_missing_package() -> None:
    with pytest.raises(ValueError, match=r"x/cat\.jpg: its package 'no-such-box' is not installed.*constraints"):
        packaged_file("no-such-box", "x/cat.jpg", "")


def test_heavy_packages_stay_unimported() -> None:
    """Also from outside: a photo of scikit-image costs no import of it."""
    code = (
        "import sys; from importlib.metadata import distribution; import hashlib\n"
        "from data_manifests.packaged import packaged_file\n"
        f"file = distribution('scikit-image').locate_file({PHOTO!r})\n"
        f"packaged_file('scikit-image', {PHOTO!r}, hashlib.sha256(file.read_bytes()).hexdigest())\n"
        "assert not {'skimage', 'numpy'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
