"""Every file that pydicom has for its own tests: real files of many makers, with the outcome of each.

dicom_outcomes.tsv has one line per file; "image" is followed by its height and width. A file that is not in the list,
of another version of pydicom, must be read or refused with a message, too.
"""

import re
import time
from pathlib import Path

import pytest

from radvqa_jax.data.dicom import read_dicom

try:
    import pydicom.data
    import pylibjpeg  # noqa: F401 the extra brings all decoders or none
except ImportError:
    pytest.skip("the extra dicom is not installed: pip install -e '.[dicom]'", allow_module_level=True)

FILES = Path(pydicom.data.__file__).parent / "test_files"
TABLE = Path(__file__).parent / "dicom_outcomes.tsv"
# Part of a message -> the outcome in the table.
OUTCOMES = {
    "has no image": "no image",
    "not a DICOM file": "not a DICOM",
    "needs pylibjpeg-libjpeg": "needs pylibjpeg-libjpeg",
    "holds a compressed frame of": "damaged frame",
    "pixels .*cannot be read": "damaged pixels",
    "header cannot be read": "damaged header",
}


def outcome(path: Path) -> str:
    try:
        found = read_dicom(path.read_bytes())
    except ValueError as error:
        assert "\n" not in str(error)
        return next(word for pattern, word in OUTCOMES.items() if re.search(pattern, str(error)))
    assert found.image.dtype == "uint8"
    return f"image {found.image.shape[0]} {found.image.shape[1]}"


def test_every_file_has_its_outcome() -> None:
    if not FILES.is_dir():
        pytest.skip("this pydicom does not bring its test files along")
    lines = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
    expected = dict(lines)
    begin = time.process_time()
    found = {path.relative_to(FILES).as_posix(): outcome(path) for path in FILES.rglob("*") if path.is_file()}
    assert time.process_time() - begin < 60
    wrong = {name: (word, expected[name]) for name, word in found.items() if expected.get(name, word) != word}
    assert not wrong
    assert len(set(expected) & set(found)) > 150, "the table is of other files: make it again"
