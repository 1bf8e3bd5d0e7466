"""A data set is found by its folder; no file lists the data sets."""

import re
import sys
from pathlib import Path

import pytest

import tfds_builders
from radvqa_jax.command_line.listing import listing
from radvqa_jax.config import DataConfig
from radvqa_jax.data.sources import make_builder
from tfds_builders import catalogue

BUILDER = """
from etils import epath

from tfds_builders.phantom_rad.phantom_rad_dataset_builder import Builder as Phantoms


class Builder(Phantoms):
    name = "another"
    pkg_dir_path = epath.Path(__file__).parent
"""


@pytest.fixture
def another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a data set that no file names."""
    folder = tmp_path / "builders" / "another"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "another_dataset_builder.py").write_text(BUILDER)
    (folder / "README.md").write_text("# another: phantoms under another name. More is said here.\n")
    (folder.parent / "half").mkdir()
    (folder.parent / "half" / "other_dataset_builder.py").write_text("no data set: the folder has another name")
    monkeypatch.setattr(tfds_builders, "__path__", [*tfds_builders.__path__, str(folder.parent)])
    for module in ("tfds_builders.another", "tfds_builders.another.another_dataset_builder"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return folder


def test_a_folder_with_a_builder_is_a_data_set(another: Path, tmp_path: Path) -> None:
    assert catalogue.folders()["another"] == another and "half" not in catalogue.folders()
    assert re.search(r"^another +phantoms under another name$", listing(["datasets"]), re.MULTILINE)
    builder = make_builder("another", builder_config="tiny", data=DataConfig(data_dir=str(tmp_path)))
    assert type(builder).__module__ == "tfds_builders.another.another_dataset_builder"


def test_all_data_sets_of_the_package_are_found(repo: Path) -> None:
    pages = {page.parent.name for page in repo.glob("tfds_builders/*/README.md")}
    assert set(catalogue.folders()) == pages and len(pages) >= 10


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'slak'. Did you mean `slake`\? There are builders for med_halt, "):
        make_builder("slak", builder_config="", data=DataConfig(data_dir=str(tmp_path)))
