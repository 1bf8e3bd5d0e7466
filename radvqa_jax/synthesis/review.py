"""A sheet of written pairs for readers to pass or discard, and the quality of each check by their verdicts.

The sheet shows accepted pairs and pairs that each check rejected, in random order, without saying which is which. A
second file keeps the number of pairs that each one represents, so that precision and recall are those of all pairs.
"""

import contextlib
import dataclasses
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from radvqa_jax import typed_json
from radvqa_jax.evaluation.agreement import cohen_kappa
from radvqa_jax.evaluation.intervals import mean_interval
from radvqa_jax.files import atomic_write, write_json
from radvqa_jax.spreadsheet import id_cell, is_filled, original_id, read_rows, write_csv
from radvqa_jax.synthesis.checks import Checked, Result

SHEET = "review_pairs.csv"
DRAW = "review_draw.json"
IMAGES = "review_images"
COLUMNS = ("candidate_id", "dataset", "image_id", "image", "known", "question", "options", "answer")
FILLED = ("reader", "verdict", "comment")
ACCEPTED = "accepted"
_VERDICTS = {"pass": True, "p": True, "yes": True, "1": True, "discard": False, "d": False, "no": False, "0": False}


@dataclasses.dataclass(frozen=True)
class _Draw:
    """review_draw.json: the seed, the number of all pairs, and the number that each pair of the sheet represents."""

    __pydantic_config__ = typed_json.STRICT
    seed: int
    pairs: Annotated[int, Field(ge=0)]
    weights: dict[str, Annotated[float, Field(ge=1, allow_inf_nan=False)]]


class Reading(NamedTuple):
    """One reader's verdict on one pair."""

    reader: str
    candidate_id: str
    good: bool  # pass, or discard
    comment: str


def _strata(checked: Sequence[Checked], *, most: int) -> dict[str, list[Checked]]:
    """Groups of pairs by first failing check, writer and kind; coarser ones if there are more than `most` groups.

    Every group gets a row, so that the rows represent all pairs.
    """
    grouped: defaultdict[str, list[Checked]] = defaultdict(list)
    for parts in (("check", "writer", "kind"), ("check",), ("side",), ()):
        grouped.clear()
        for pair in checked:
            candidate = pair.item.candidate
            known = {
                "check": pair.failed[0] if pair.failed else ACCEPTED,
                "side": str(bool(pair.failed)),
                "writer": candidate.writer,
                "kind": candidate.kind,
            }
            grouped[", ".join(known[part] for part in parts)].append(pair)
        if len(grouped) <= most:
            break
    return grouped


def draw(checked: Sequence[Checked], *, rows: int, seed: int) -> tuple[list[Checked], dict[str, float]]:
    """Pairs of every stratum (first check that rejects them, writer, kind), and {candidate_id: weight}.

    Rows are spread evenly over the strata, as far as they have pairs; strata are coarser if there are more of them than
    rows. A weight is the number of pairs of the stratum that a row represents.
    """
    rng = np.random.default_rng([seed, 3])
    strata = _strata(checked, most=rows)
    take = dict.fromkeys(strata, 0)
    for _ in range(min(rows, len(checked))):
        open_ = [name for name in strata if take[name] < len(strata[name])]
        take[min(open_, key=lambda name: (take[name], name))] += 1
    chosen: list[Checked] = []
    weights: dict[str, float] = {}
    for name, n in sorted(take.items()):
        drawn = [strata[name][int(number)] for number in rng.permutation(len(strata[name]))[:n]]
        chosen += drawn
        weights |= {pair.item.candidate.candidate_id: len(strata[name]) / n for pair in drawn}
    return [chosen[int(number)] for number in rng.permutation(len(chosen))], weights


def write_review(
    folder: Path,
    checked: Sequence[Checked],
    *,
    rows: int,
    seed: int,
    image: Callable[[Checked], bytes] | None = None,
) -> int:
    """Writes review_pairs.csv and the files needed to read it; gives the number of its rows.

    A sheet that was drawn before is kept, with its draw and images and a message; then 0 rows are written. Readers may
    have copies of it, and the weights of their verdicts are in its draw.

    Args:
        folder: for the sheet; images go into a folder of it.
        checked: all pairs.
        rows: the most to draw.
        seed: of the draw and the order.
        image: gives the file of a pair's image; without it no images are written.
    """
    if (folder / DRAW).exists() or is_filled(folder / SHEET, FILLED):
        _restore_draw(folder, checked, rows=rows, seed=seed)
        print(
            f"{folder / SHEET} was drawn before and is kept, with its images and {DRAW}: readers may have copies. For "
            "a new sheet, move both files away.",
            flush=True,
        )
        return 0
    shutil.rmtree(folder / IMAGES, ignore_errors=True)  # the images of an earlier draw have the same names
    chosen, weights = draw(checked, rows=rows, seed=seed)
    lines = []
    for number, pair in enumerate(chosen, 1):
        candidate = pair.item.candidate
        name = ""
        if image is not None:
            data = image(pair)
            name = f"{IMAGES}/{number:04d}.{'jpg' if data[:2] == bytes((0xFF, 0xD8)) else 'png'}"
            (folder / IMAGES).mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / name, "wb") as file:
                file.write(data)
        known = pair.item.evidence.text(literature=not candidate.answerable_from_image)
        options = " | ".join(candidate.choices)
        ids = map(id_cell, (candidate.candidate_id, candidate.dataset, candidate.image_id))
        lines.append([*ids, name, known, candidate.question, options, candidate.answer, *[""] * len(FILLED)])
    written = write_csv(folder / SHEET, [*COLUMNS, *FILLED], lines)
    # Last: without it, the next run draws anew what a kill left incomplete.
    write_json(folder / DRAW, dataclasses.asdict(_Draw(seed, len(checked), weights)))
    return written


def _restore_draw(folder: Path, checked: Sequence[Checked], *, rows: int, seed: int) -> None:
    """Writes the draw of a sheet that was filled in although a kill left it without one, if it is the same draw."""
    if (folder / DRAW).exists():
        return
    chosen, weights = draw(checked, rows=rows, seed=seed)
    with contextlib.suppress(ValueError):  # whoever reads the sheet reports what is wrong with it
        lines = list(read_rows(folder / SHEET, needed=("candidate_id",), what="a sheet of written pairs"))
        told = {original_id(row["candidate_id"].strip()) for _, row in lines}
        if told == {pair.item.candidate.candidate_id for pair in chosen}:
            write_json(folder / DRAW, dataclasses.asdict(_Draw(seed, len(checked), weights)))


def read_review(path: Path) -> list[Reading]:
    """Reads a filled sheet; a row without a verdict is left out.

    Raises:
        ValueError: naming the line, for a missing column, an unknown verdict, or a pair that a reader judged twice.
    """
    readings: dict[tuple[str, str], Reading] = {}
    for line, row in read_rows(path, needed=("candidate_id", "verdict"), what="a sheet of written pairs"):
        said = row["verdict"].strip().casefold()
        if not said:
            continue
        if said not in _VERDICTS:
            raise ValueError(f"{path}, line {line}: verdict={said!r} must be pass, discard or empty.")
        reader = row.get("reader", "").strip() or path.stem
        pair_id = original_id(row["candidate_id"].strip())
        if (reader, pair_id) in readings:
            raise ValueError(f"{path}, line {line}: {reader} judged the pair {pair_id} twice. Keep one row.")
        comment = row.get("comment", "").strip()
        readings[reader, pair_id] = Reading(reader, pair_id, _VERDICTS[said], comment)
    return list(readings.values())


def read_reviews(paths: Sequence[str]) -> list[Reading]:
    """Reads several sheets.

    Raises:
        ValueError: as `read_review`, or if two sheets hold the same reader's verdict on a pair.
    """
    readings: dict[tuple[str, str], tuple[str, Reading]] = {}
    for path in paths:
        for reading in read_review(Path(path).expanduser()):
            before, kept = readings.setdefault((reading.reader, reading.candidate_id), (path, reading))
            if kept is not reading:
                raise ValueError(
                    f"{path}: reader {reading.reader!r} judged the pair {reading.candidate_id} in two sheets, here and "
                    f"in {before}. Keep one."
                )
    return [reading for _, reading in readings.values()]


def _ratio(above: np.ndarray, below: np.ndarray, images: Sequence[str], *, seed: int) -> dict[str, Any] | None:
    """A weighted share with its 95 % interval over images; None if the denominator is 0."""
    rows = np.flatnonzero(below).tolist()
    if not rows:
        return None
    found = mean_interval(
        above[rows] / below[rows], [images[row] for row in rows], weights=below[rows], resamples=1000, seed=seed
    )
    return {"value": found.value, "interval": found.interval and list(found.interval), "n": found.n}


def _image_of(pair: Checked) -> str:
    """A name for the image of a pair; two tables may number their images alike."""
    candidate = pair.item.candidate
    return f"{candidate.dataset}/{candidate.builder_config}/{candidate.image_id}"


def _quality(pairs: Sequence[Checked], good: Mapping[str, bool], weights: Mapping[str, float], *, seed: int) -> Any:
    """{check: {precision, recall}} by the verdicts on some pairs, all of which have a weight."""
    ids = [pair.item.candidate.candidate_id for pair in pairs]
    images = [_image_of(pair) for pair in pairs]
    weight = np.array([weights[pair_id] for pair_id in ids])
    bad = np.array([not good[pair_id] for pair_id in ids], np.float64)
    names = [name for name in pairs[0].results if any(name in pair.failed for pair in pairs)] if pairs else []
    flags = {name: np.array([name in pair.failed for pair in pairs], np.float64) for name in names}
    flags["all checks"] = np.array([not pair.accepted for pair in pairs], np.float64)
    return {
        name: {
            "precision": _ratio(weight * flag * bad, weight * flag, images, seed=seed),
            "recall": _ratio(weight * flag * bad, weight * bad, images, seed=seed),
        }
        for name, flag in flags.items()
    }


def score_review(
    readings: Sequence[Reading], checked: Sequence[Checked], folder: Path, *, seed: int = 0
) -> dict[str, Any]:
    """The readers' verdicts, and the quality of each check by them.

    Keys: `readers` {reader: {n, passed, checks: {check: {precision, recall}}}}, where a check should reject the pairs
    that the reader discards; `kappa`: a list of a, b and Cohen's kappa; `unknown`: rows about other pairs;
    `unweighted`: rows about pairs that review_draw.json does not name, on which precision and recall do not rest;
    `weighted_to`: the number of pairs that the rows of the sheet represent, and the number of all at the draw.
    """
    drawn = typed_json.read(folder / DRAW, _Draw) if (folder / DRAW).exists() else _Draw(seed, 0, {})
    by_id = {pair.item.candidate.candidate_id: pair for pair in checked}
    said: defaultdict[str, dict[str, bool]] = defaultdict(dict)
    for reading in readings:
        if reading.candidate_id in by_id:
            said[reading.reader][reading.candidate_id] = reading.good
    readers = {}
    for reader, verdicts in said.items():
        weighted = [by_id[pair_id] for pair_id in verdicts if pair_id in drawn.weights]
        readers[reader] = {
            "n": len(verdicts),
            "passed": sum(verdicts.values()),
            "checks": _quality(weighted, verdicts, drawn.weights, seed=seed),
        }
    kappa = []
    for a, b in combinations(said, 2):
        both = [pair_id for pair_id in said[a] if pair_id in said[b]]
        images = [_image_of(by_id[pair_id]) for pair_id in both]
        found = cohen_kappa([said[a][i] for i in both], [said[b][i] for i in both], images, seed=seed)
        if found is not None:
            kappa.append({"a": a, "b": b} | found.to_json())
    return {
        "readers": readers,
        "kappa": kappa,
        "unknown": sum(reading.candidate_id not in by_id for reading in readings),
        "unweighted": sum(pair_id not in drawn.weights for verdicts in said.values() for pair_id in verdicts),
        "weighted_to": [round(sum(drawn.weights.values())), drawn.pairs],
    }


def describe_left_out(review: Mapping[str, Any], folder: Path) -> list[str]:
    """Tells how many verdicts have no effect, or none on precision and recall, and the way out; empty if none."""
    lines = []
    if review["unknown"]:
        lines.append(
            f"{review['unknown']} verdicts of the sheets (synthesis.review_sheets) have no effect: no written pair has "
            "their candidate_id. The sheet is of another set, or a spreadsheet changed its ids."
        )
    if review["unweighted"]:
        lines.append(_unweighted(review["unweighted"], folder))
    return lines


def _unweighted(count: int, folder: Path) -> str:
    return (
        f"{count} verdicts are about pairs that {folder / DRAW} does not name: precision and recall of "
        f"the checks leave them out. Put the {DRAW} of their sheet there. If it is lost, move {SHEET} and {DRAW} away "
        "and give the command that wrote the sheet, without review_sheets: the same pairs and checks give it again."
    )


def apply_review(
    checked: Sequence[Checked], readings: Sequence[Reading], *, use: Literal["report", "drop", "keep"]
) -> list[Checked]:
    """The pairs with a result `review` from the readers' verdicts.

    With `drop`, a pair that any reader discards is rejected. With `keep`, a rejected pair that every reader passes is
    also accepted; its line keeps the results of the checks.
    """
    said: defaultdict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        said[reading.candidate_id].append(reading)

    def result(pair: Checked) -> Result:
        own = said.get(pair.item.candidate.candidate_id, [])
        if not own:
            return Result("not_run", "nobody read it")
        against = [reading for reading in own if not reading.good]
        if against and use != "report":
            comment = f": {against[0].comment[:120]}" if against[0].comment else ""
            return Result("failed", f"discarded by {', '.join(r.reader for r in against)}{comment}")
        if against:
            return Result("tagged", f"discarded by {', '.join(reading.reader for reading in against)}")
        if use == "keep" and pair.failed:
            return Result("kept", f"passed by {', '.join(reading.reader for reading in own)}")
        return Result("passed")

    return [pair._replace(results={**pair.results, "review": result(pair)}) for pair in checked]
