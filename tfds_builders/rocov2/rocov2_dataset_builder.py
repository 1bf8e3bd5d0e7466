"""ROCOv2 from its official files (Zenodo 10821435): radiological images of articles with captions and UMLS concepts.

The README in this folder has the rules.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from tfds_builders.builder import OfficialFilesBuilder, Reading, Row
from tfds_builders.features import common_row
from tfds_builders.official_files import OfficialFiles
from tfds_builders.rejects import Rejects

# Pinned: record 8333645 is an older version with other splits.
RECORD = "https://zenodo.org/records/10821435"
SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # ours -> the authors'
TABLES = ("captions", "concepts", "concepts_manual")

INSTRUCTIONS = f"""\
Get ROCOv2 from {RECORD} (version 2.0.1, no registration) and give the folder that holds, for each of train, valid, test
  <split>_captions.csv  <split>_concepts.csv  <split>_concepts_manual.csv
  <split>_images.zip, or the files ROCOv2_2023_<split>_<number>.jpg from it
and cui_mapping.csv and license_information.csv (may be absent)
as manual_dir: --config.data.manual_dir=FOLDER.
"""


class Builder(OfficialFilesBuilder):
    """ROCOv2, rows in the order of the official files; each is an image with its caption."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="official", description="The official splits.")]  # noqa: RUF012 read by TFDS
    HOMEPAGE = RECORD
    SOURCE = "ROCOv2 2.0.1 (zenodo.org/records/10821435)"
    MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS

    @classmethod
    def urls(cls, config: str) -> Mapping[str, str]:
        names = [f"{theirs}_{table}.csv" for theirs in SPLITS.values() for table in TABLES]
        names += [f"{theirs}_images.zip" for theirs in SPLITS.values()]
        names += ["cui_mapping.csv", "license_information.csv"]
        return {name: f"{RECORD}/files/{name}?download=1" for name in names}

    def extra_features(self) -> dict[str, Any]:
        text = tfds.features.Text
        return {
            "cuis": tfds.features.Sequence(text(), doc="UMLS concepts, manual and automatic"),
            "cuis_manual": tfds.features.Sequence(
                text(), doc="UMLS concepts assigned by hand: modality, body region, …"
            ),
            "cui_names": tfds.features.Sequence(
                text(), doc="canonical name of each of cuis; empty if not in the table"
            ),
            "attribution": text(doc="who is to be named for the image"),
            "link": text(doc="where the image comes from"),
        }

    def missing(self, files: OfficialFiles) -> list[str]:
        tables = [f"{theirs}_{table}.csv" for theirs in SPLITS.values() for table in TABLES]
        absent = [name for name in tables if not files.first(name)]
        images = any(name.startswith("ROCOv2_") and name.endswith(".jpg") for name in files.names())
        return absent + ([] if images else ["<split>_images.zip"])

    def read(self, reading: Reading) -> None:
        files = reading.files
        names, terms = {}, {}
        if "cui_mapping.csv" in files:
            rows = files.read_csv("cui_mapping.csv", required=("CUI", "Canonical name"))
            found = _by_id(rows, "cui_mapping", rejects=reading.rejects, key="CUI")
            names = {cui: row["Canonical name"].strip() for cui, row in found.items()}
        if "license_information.csv" in files:
            rows = files.read_csv("license_information.csv", required=("ID",))
            terms = _by_id(rows, "license_information", rejects=reading.rejects)
        for split, theirs in SPLITS.items():
            reading.start(split)
            automatic, manual = (
                _by_id(
                    files.read_csv(files.first(f"{theirs}_{table}.csv"), required=("ID", "CUIs")),
                    table,
                    rejects=reading.rejects,
                    split=split,
                )
                for table in TABLES[1:]
            )
            for raw in files.read_csv(files.first(f"{theirs}_captions.csv"), required=("ID", "Caption")):
                row = self._row(raw, split, automatic, manual, names, terms, reading=reading)
                reading.add(split, row, raw=raw, needs_text=False)

    def _row(
        self,
        raw: dict[str, str],
        split: str,
        automatic: Mapping[str, dict[str, str]],
        manual: Mapping[str, dict[str, str]],
        names: Mapping[str, str],
        terms: Mapping[str, dict[str, str]],
        *,
        reading: Reading,
    ) -> Row:
        identity = raw["ID"].strip()
        note = reading.rejects.row(split, identity)
        for table, rows in (("concepts", automatic), ("concepts_manual", manual)):
            if identity not in rows:
                note.repaired("CUIs", f"no line in {table}", before=None, after="")
        cuis = split_cuis(automatic.get(identity, {}).get("CUIs", ""))
        term = terms.get(identity, {})
        common = common_row(
            f"{identity}.jpg",
            image_id=identity,
            case_id=term.get("PMCID", "").strip(),
            question_id=identity,
            caption=note.text(raw["Caption"], "Caption"),
            source=self.SOURCE,
            split=split,
            language="en",
        )
        if not common["caption"]:
            reading.counts.add(split, "without caption")
        return common | {
            "cuis": cuis,
            "cuis_manual": split_cuis(manual.get(identity, {}).get("CUIs", "")),
            "cui_names": [names.get(cui, "") for cui in cuis],
            "attribution": term.get("Attribution", "").strip(),
            "link": term.get("Link", "").strip(),
        }


def split_cuis(cell: str) -> list[str]:
    """The concepts of a cell; an empty cell has none.

    >>> split_cuis("C0040405;C0856747"), split_cuis("")
    (['C0040405', 'C0856747'], [])
    """
    return [cui.strip() for cui in cell.split(";") if cui.strip()]


def _by_id(
    rows: list[dict[str, str]], table: str, *, rejects: Rejects, split: str = "", key: str = "ID"
) -> dict[str, dict[str, str]]:
    return rejects.by_id(((row[key].strip(), row) for row in rows), table, split=split, key=key)
