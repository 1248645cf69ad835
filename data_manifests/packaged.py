"""Files that lie inside installed Python packages, found without importing the package."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_REMEDY = "install the versions that the project pins: pip install -c constraints.txt -e '.[gen]'"


def packaged_file(package: str, path: str, sha256: str) -> Path:
    """Local path of a file of an installed distribution, its content verified.

    package: name of the distribution, as pip knows it ("scikit-image"); path: relative to
    site-packages, with forward slashes ("skimage/data/coffee.png"); sha256: of the file, in hex.
    Nothing is imported: packages serve as containers here, and importing some costs seconds.
    Raises ValueError where the package or the file is missing, or the content is another one.
    """
    try:
        found = distribution(package)
    except PackageNotFoundError:
        raise ValueError(f"{path}: its package {package!r} is not installed; {_REMEDY}") from None
    file = Path(str(found.locate_file(path)))
    if not file.is_file():
        raise ValueError(f"{package} {found.version} holds no file {path!r} (looked at {file}); {_REMEDY}")
    with file.open("rb") as stream:
        seen = hashlib.file_digest(stream, "sha256").hexdigest()
    if seen != sha256:
        raise ValueError(f"{file} of {package} {found.version} has sha256 {seen}, expected {sha256}; {_REMEDY}")
    return file
