"""The mapping from columns of a table to features, and the conversion of cells."""

import collections
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfds_builders.features import TEXT_FEATURES

# Features that a column may hold. `split` says train, validation or test; `choices` may be several columns.
KNOWN = ("image", "choices", "answer_index", *(name for name in TEXT_FEATURES if name != "source"))
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "validate", "valid", "vaild", "val", "dev"),
    "validation",  # one mirror writes `Vaild`
)
CHINESE = re.compile(r"[\u3400-\u9fff]")
# Names of columns, without underscores, that may hold what this package calls a case.
LIKE_A_CASE = frozenset(
    "patient patientid patientno patientnumber subject subjectid study studyid studyuid studyinstanceuid accession "
    "accessionnumber case caseno casenumber mrn person personid pid record recordid patientnr patientennr".split()
)
# A missing value as pandas, R (`NA`) and spreadsheets write it. In these capitals alone: `none` and `Na` are answers.
NO_OPTION = re.compile(
    r"(?i:<na>|<null>)|#N/?A|#NV|#[\u00a1\u00bf]?[A-Z\u00c0-\u00de\u0410-\u042f][^\sa-z]{1,20}[!?]"  # #REF!, #DIV/0!
)
MISSING = re.compile(rf"(?i:null|[-+]?nan|n/a)|None|NA|NaT|{NO_OPTION.pattern}")
MOST_COLUMNS = 1000  # each becomes a feature of the prepared data set
SHOWN = 30  # names of columns in an error


class Columns:
    """The columns of a table by feature.

    A column is found by the name of its feature in any capitals, with spaces or hyphens for underscores; `mapped` gives
    other names. Each other column becomes a text feature of its own (`extra`).

    Raises:
        ValueError: if a mapping names an unknown feature or column, if the table has no image or no text, or if two
            columns would become one feature. The message names the nearest columns.
    """

    def __init__(self, head: Sequence[str], *, mapped: Iterable[tuple[str, str]] = (), what: str = "The table") -> None:
        self.what, self.head = what, list(head)
        self.of: dict[str, list[str]] = {}
        for feature, column in mapped:
            if feature not in KNOWN:
                raise ValueError(f"data.columns names the feature {feature!r}.{_near(feature, KNOWN)} {_list(KNOWN)}")
            if column not in self.head:
                raise ValueError(f"data.columns: {what} has no column {column!r}.{_near(column, head)} {_list(head)}")
            if feature in self.of and feature != "choices":
                raise ValueError(f"data.columns gives {feature!r} two columns; only `choices` may have several.")
            self.of.setdefault(feature, []).append(column)
        taken = {column for columns in self.of.values() for column in columns}
        rest = [column for column in self.head if column not in taken]
        for column in rest:
            feature = plain_name(column)
            if feature in KNOWN and feature not in self.of:
                self.of[feature] = [column]
                taken.add(column)
        self.extra = self._extra([column for column in rest if column not in taken])
        self._check()

    def text(self, row: Mapping[str, Any], feature: str) -> str:
        """The cell of a feature as text without white space at its edges; empty if it is missing.

        Raises:
            ValueError: for a boolean, infinity, an object or a list as question, answer or caption.
        """
        columns = self.of.get(feature)
        value = row.get(columns[0]) if columns else None
        if feature in TEXTS and (isinstance(value, bool | dict | list) or value in INFINITE):
            raise ValueError(f"{feature} is not text: {json.dumps(value, ensure_ascii=False, default=str):.80}")
        return cell_text(value)

    def choices(self, row: Mapping[str, Any]) -> list[str]:
        """The options of a row, from several columns, or from one with a list, JSON, or `a | b | c`.

        Raises:
            ValueError: if a cell holds something else, or letters would not match the options that the author meant.
        """
        columns = self.of.get("choices", [])
        if len(columns) > 1:
            options = [cell_text(row.get(column)) for column in columns]
            return [] if all(map(is_missing, options)) else _lettered(options)
        return split_choices(row.get(columns[0])) if columns else []

    def _extra(self, columns: Sequence[str]) -> dict[str, str]:
        """{feature: column} of the other columns."""
        found: dict[str, str] = {}
        for column in columns:
            # A table with row numbers in front has a column without a name, and not every name is in Latin letters.
            name = plain_name(column) or f"column_{self.head.index(column) + 1}"
            if name in MADE:
                raise ValueError(
                    f"{self.what}: the column {column!r} would become {name!r}, a feature that every data set has. "
                    f"Rename the column, for example `{name} given`."
                )
            if name in RESERVED or name in found:
                other = found.get(name) or ", ".join(self.of.get(name, [name]))
                raise ValueError(
                    f"{self.what}: the columns {column!r} and {other!r} would both become {name!r}. Rename one, or map "
                    "one of them in data.columns."
                )
            found[name] = column
        return found

    def _check(self) -> None:
        if "image" not in self.of:
            raise ValueError(self._lacks("image", "a path below the folder, or the bytes of a file"))
        if "caption" not in self.of and "question" not in self.of:
            raise ValueError(self._lacks("question", "with its `answer`, or a `caption`"))
        if "question" in self.of and not {"answer", "answer_index"} & set(self.of):
            raise ValueError(self._lacks("answer", "the reference of each question"))

    def _lacks(self, feature: str, meaning: str) -> str:
        return (
            f"{self.what} has no column {feature!r} ({meaning}).{_near(feature, self.head)} {_list(self.head)} Say "
            f"which column it is: --config.data.columns=\"(('{feature}','COLUMN'),)\"."
        )


def check_count(count: int, name: str) -> None:
    """Raises ValueError, naming the file, if a table has more columns than it may."""
    if count > MOST_COLUMNS:
        raise ValueError(
            f"{name}: the table has {count:,} columns, more than {MOST_COLUMNS:,}. Remove those that are not needed."
        )


def check_head(head: Sequence[str], name: str) -> None:
    """Raises ValueError, naming the file, for too many columns, or for two with the same name."""
    check_count(len(head), name)
    if twice := sorted(column for column, count in collections.Counter(head).items() if count > 1):
        raise ValueError(f"{name}: the columns {twice} occur twice. Rename one.")


TEXTS = ("question", "answer", "caption")
INFINITE = (math.inf, -math.inf)
MADE = {"source", "yes_no", "derived"}  # features that the builder fills
RESERVED = {*KNOWN, *MADE}  # names that a column of another meaning must not take


def plain_name(column: str) -> str:
    """A column's name as a feature: lower case, other characters than letters and digits as underscores.

    >>> plain_name("Answer Type"), plain_name(" Age (years)")
    ('answer_type', 'age_years')
    """
    return re.sub(r"[^a-z0-9]+", "_", column.casefold()).strip("_")


def cell_text(value: Any) -> str:
    """A cell as text: numbers as they are written, lists and objects as JSON, a missing value as ""."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():  # a column of whole numbers with a gap is read as floats
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else str(value)


def is_missing(text: str) -> bool:
    """Whether a cell's text stands for a missing value.

    >>> [is_missing(text) for text in ("NA", "#REF!", "None", "NAN", "<NA>")]
    [True, True, True, True, True]
    >>> [is_missing(text) for text in ("none", "Na", "# 3", "")]
    [False, False, False, False]
    """
    return bool(MISSING.fullmatch(text))


def split_choices(value: Any) -> list[str]:
    """The options in one cell. `NA` alone is a missing value; among others it is an option.

    >>> split_choices('["CT", "MRI"]'), split_choices("CT | NA"), split_choices(None), split_choices("NA")
    (['CT', 'MRI'], ['CT', 'NA'], [], [])

    Raises:
        ValueError: if the cell holds something else, only one option, or options whose letters are not clear.
    """
    if isinstance(value, str) and is_missing(value.strip()):
        return []
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"choices begin with [ but are not JSON: {error}") from error
    if isinstance(value, dict):  # {"A": "CT", "B": "MRI"}
        letters = [chr(65 + number) for number in range(len(value))]
        if sorted(value) != letters and all(re.fullmatch("[A-Z]", str(key)) for key in value):
            raise ValueError(f"choices are lettered {', '.join(value)} instead of {', '.join(letters)}")
        value = [value[key] for key in (letters if sorted(value) == letters else value)]
    if isinstance(value, list | tuple):
        if not all(isinstance(item, str | int | float | None) for item in value):
            raise ValueError("choices must be texts")
        return _lettered([cell_text(item) for item in value])
    parts = _lettered([part.strip() for part in cell_text(value).split("|")])
    if len(parts) == 1:
        raise ValueError("only one choice was found: write choices as JSON or as `a | b`")
    return parts


def _lettered(options: Sequence[str]) -> list[str]:
    """The options without empty ones at the end; A is the first, B the second, …

    Raises:
        ValueError: if one before others is empty, so that letters would be ambiguous.
    """
    options = ["" if NO_OPTION.fullmatch(option) else option for option in options]
    count = max((number for number, option in enumerate(options, 1) if option), default=0)
    if "" in (found := options[:count]):
        raise ValueError(f"option {found.index('') + 1} of {count} is empty, so that the letters would be ambiguous")
    return found


def split_name(raw: str) -> str:
    """The split that a word means (train, validation or test); empty for any other word.

    >>> split_name("Dev"), split_name("train"), split_name("fold 3")
    ('validation', 'train', '')
    """
    return SPLITS.get(raw.strip().casefold(), "")


def language_of(*texts: str) -> str:
    """`zh` if a text holds a Chinese character, else `en`."""
    return "zh" if any(CHINESE.search(text) for text in texts) else "en"


def _near(name: str, known: Iterable[str]) -> str:
    plain = {plain_name(one): one for one in known}
    close = difflib.get_close_matches(plain_name(name), plain, n=1, cutoff=0.6)
    return f" Did you mean {plain[close[0]]!r}?" if close else ""


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"There are: {', '.join(names[:SHOWN])}{more}."
