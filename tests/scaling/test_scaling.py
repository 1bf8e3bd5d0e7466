"""Scaling laws on published tables with known answers, and required errors and warnings."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.scaling import solve as solve_module
from radvqa_jax.scaling.fit import fit_law
from radvqa_jax.scaling.laws import LAWS
from radvqa_jax.scaling.page import Fitted, write_fits
from radvqa_jax.scaling.solve import Points, project, solve
from radvqa_jax.scaling.table import Measurement, make_fittable, read_table

HERE = Path(__file__).parent
CHINCHILLA = HERE.parents[2] / "shared" / "data" / "scaling_laws" / "chinchilla_svg_extracted.csv"


def fine_tuned(dataset: str, *, family: str = "", model: str = "") -> list[Measurement]:
    """The losses of Lin et al. for one family or one model; every fine-tuning is a separate run."""
    with (HERE / f"finetuning_{dataset}.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if family in ("", row["family"]) and model in ("", row["config name"])
        ]
    return [
        Measurement(float(row["size"]), float(d), float(row[d]), f"{row['config name']} {d}", "", dataset, "per_token")
        for row in rows
        for d in row
        if d.isdigit() and d != "0"
    ]


def drawn(
    law: str, parameters: dict[str, float], *, noise: float = 0.0, sizes: int = 5, seed: int = 0
) -> list[Measurement]:
    """Losses that follow a law exactly, or up to a relative error."""
    rng = np.random.default_rng(seed)
    x, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e4, 1e6, sizes), np.geomspace(1e4, 1e7, 8)))
    found = LAWS[law]
    logs = {*found.coefficients, *found.logged}
    values = np.array([np.log(parameters[name]) if name in logs else parameters[name] for name in found.names])
    loss = np.exp(found.log_loss(values, np.log(x), np.log(d))[0] + noise * rng.normal(size=len(x)))
    return [
        Measurement(*point, f"run {number}", "", "set", "per_token")
        for number, point in enumerate(zip(x.tolist(), d.tolist(), loss.tolist(), strict=True))
    ]


TRUTH = {
    "multiplicative": {"A": 40.0, "E": 0.6, "alpha": 0.12, "beta": 0.2},
    "additive": {"A": 30.0, "B": 90.0, "E": 0.5, "alpha": 0.35, "beta": 0.4},
}


@pytest.mark.parametrize("law", TRUTH)
def test_losses_that_follow_a_law_give_its_parameters_back(law: str) -> None:
    rows = drawn(law, TRUTH[law])
    data = make_fittable(rows, LAWS[law], hold_out=True)
    fit = fit_law(LAWS[law], data, resamples=0)
    assert fit.values() == pytest.approx(TRUTH[law], rel=1e-3)
    assert fit.rmsd(data.held_out) < 1e-5 and len(data.held_out.loss) == 5
    assert fit.projected == pytest.approx(fit.solution.objective, abs=1e-9)
    assert not any("do not agree" in said for said in fit.said)


@pytest.mark.parametrize("law", LAWS)
def test_the_gradient_is_that_of_the_objective(law: str) -> None:
    rng = np.random.default_rng(1)
    points = Points(*np.exp(rng.normal([[10], [12], [0.5]], 1, (3, 20))))
    problem = solve_module._Centred(LAWS[law], points)
    at = rng.uniform(0.2, 0.9, len(LAWS[law].names))
    _, gradient = problem(at)
    for place in range(len(at)):
        step = np.eye(len(at))[place] * 1e-6
        slope = (problem(at + step)[0] - problem(at - step)[0]) / 2e-6
        assert gradient[place] == pytest.approx(slope, rel=1e-4, abs=1e-2)


def chinchilla() -> Points:
    with CHINCHILLA.open() as file:
        rows = list(csv.DictReader(file))
    n, c, loss = (np.array([float(row[name]) for row in rows]) for name in ("Model Size", "Training FLOP", "loss"))
    kept = np.argsort(loss)[:-5]
    return Points(n[kept], c[kept] / (6 * n[kept]), loss[kept])


@pytest.mark.skipif(not CHINCHILLA.is_file(), reason="needs ../shared/data/scaling_laws")
def test_the_published_answer_is_found_by_both_solvers_and_the_published_trap_is_not() -> None:
    want = {"A": 477.8, "B": 2143.0, "E": 1.817, "alpha": 0.3473, "beta": 0.3672}
    for solver in (solve, project):
        found = LAWS["additive"].values(solver(LAWS["additive"], chinchilla()).parameters)
        assert found == pytest.approx(want, rel=2e-4), solver.__name__
        assert found["alpha"] != pytest.approx(0.380, abs=0.02)  # where the mean of the losses stops


# Of one independent fit: D >= 25,600, the largest held out, X the parameters within a family.
@pytest.mark.parametrize(
    ("dataset", "family", "alpha", "beta"),
    [
        ("gigaword", "BART", (0.20, 0.33, 0.38), (0.08, 0.15, 0.17)),
        ("gigaword", "Cerebras", (0.18, 0.24, 0.34), (0.14, 0.19, 0.26)),
        ("wmt19", "BART", (0.13, 0.14, 0.16), (0.26, 0.28, 0.32)),
    ],
)
def test_fine_tuning_tables_give_the_known_exponents(
    dataset: str, family: str, alpha: tuple[float, ...], beta: tuple[float, ...]
) -> None:
    rows = fine_tuned(dataset, family=family)
    data = make_fittable(rows, LAWS["multiplicative"], hold_out=True, min_tokens=25_600)
    assert set(data.held_out.d) == {1_638_400.0}
    solution = solve(LAWS["multiplicative"], data.points)
    values = LAWS["multiplicative"].values(solution.parameters)
    for name, (low, value, high) in (("alpha", alpha), ("beta", beta)):
        assert low <= values[name] <= high
        assert values[name] == pytest.approx(value, abs=0.02)
    assert not solution.at_bound


def test_an_exponent_at_its_bound_is_reported_first() -> None:
    data = make_fittable(fine_tuned("wmt19", family="OPT"), LAWS["multiplicative"], hold_out=True, min_tokens=25_600)
    fit = fit_law(LAWS["multiplicative"], data, resamples=0)
    assert fit.values()["alpha"] == 0 and fit.said[0].startswith("The law does not hold here: alpha ended at a bound")


@pytest.mark.parametrize("model", ["MBZUAI/LaMini-GPT-124M", "facebook/bart-base"])
def test_the_rectified_law_fits_as_well_as_its_authors_report(model: str) -> None:
    with (HERE / "finetuning_rmsd.csv").open() as file:
        (published,) = [r for r in csv.DictReader(file) if (r["dataset"], r["model"]) == ("WMT19", model)]
    data = make_fittable(fine_tuned("wmt19", model=model), LAWS["rectified"], hold_out=False)
    solution = solve(LAWS["rectified"], data.points)
    fitted, _ = LAWS["rectified"].log_loss(solution.parameters, np.log(data.points.x), np.log(data.points.d))
    rmsd = float(np.sqrt(np.mean((fitted - np.log(data.points.loss)) ** 2)))
    assert rmsd < 1.2 * float(published["our_rmsd_under_log"])
    assert rmsd < 0.3 * float(published["vanilla_rmsd_under_log"])


def test_intervals_resample_runs_and_contain_the_truth() -> None:
    hits = []
    for seed in range(1, 4):
        rows = drawn("multiplicative", TRUTH["multiplicative"], noise=0.01, sizes=6, seed=seed)
        data = make_fittable(rows, LAWS["multiplicative"], hold_out=True)
        fit = fit_law(LAWS["multiplicative"], data, resamples=40, seed=seed)
        hits += [low < TRUTH["multiplicative"][name] < high for name, (low, high) in fit.intervals.items()]
    # Of twelve draws, 46 of 48 intervals contained the truth; the four of one draw miss together.
    assert len(hits) == 12 and sum(hits) >= 8


def test_the_losses_of_one_training_are_one_run() -> None:
    rows = drawn("multiplicative", TRUTH["multiplicative"], noise=0.01, sizes=6)
    merged = [row._replace(run=f"size {row.parameters:g}") for row in rows]
    one = make_fittable(merged, LAWS["multiplicative"], hold_out=True)
    assert len(set(one.runs.tolist())) == 6
    two = make_fittable(
        [row._replace(run=str(i % 2)) for i, row in enumerate(rows)], LAWS["multiplicative"], hold_out=True
    )
    none = fit_law(LAWS["multiplicative"], two, resamples=10)
    assert none.intervals == {} and any(text.startswith("No intervals") for text in none.said)


def test_an_e_that_the_losses_do_not_determine_is_reported() -> None:
    rows = drawn("multiplicative", {"A": 40.0, "E": 1e-9, "alpha": 0.12, "beta": 0.2})
    data = make_fittable(rows, LAWS["multiplicative"], hold_out=True)
    fit = fit_law(LAWS["multiplicative"], data, resamples=0)
    assert fit.said[0].startswith("E cannot be distinguished from 0")


def test_intervals_that_exclude_the_estimate_are_reported_and_no_others() -> None:
    law = LAWS["multiplicative"]
    rows = drawn("multiplicative", TRUTH["multiplicative"], sizes=4)
    accuracies = [row._replace(loss=1 - row.loss / 100) for row in rows]  # a rising column in place of losses
    fit = fit_law(law, make_fittable(accuracies, law, hold_out=True), resamples=20)
    assert any("the intervals of A, E do not contain the estimates" in text for text in fit.said)
    fit = fit_law(law, make_fittable(rows, law, hold_out=True), resamples=20)
    assert not any("do not contain" in text for text in fit.said)


def test_repeated_epochs_are_reported() -> None:
    rows = [row._replace(epochs=row.tokens / 1e6) for row in drawn("multiplicative", TRUTH["multiplicative"])]
    data = make_fittable(rows, LAWS["multiplicative"], hold_out=True)
    assert "after more than one epoch, up to 10 epochs" in data.said[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [r for r in rows if r.parameters < 1e5],
            "alpha of the multiplicative law needs at least 3 sizes",
        ),
        (lambda rows: [r for r in rows if r.tokens < 1e5], "at least 3 numbers of tokens"),
        (lambda rows: [rows[0]._replace(validation="other"), *rows[1:]], r"different `validation`.*\['other', 'set'\]"),
        (lambda rows: [rows[0]._replace(unit="per_row"), *rows[1:]], r"different `unit`"),
        (
            lambda rows: [row._replace(loss=2.5) for row in rows],
            r"all \d+ losses are 2\.5\. Losses that do not vary .*check",
        ),
        (lambda rows: [row._replace(loss=2.5 + 1e-9 * n) for n, row in enumerate(rows)], "do not vary"),
        (lambda rows: [], "alpha of the multiplicative law needs"),
    ],
)
def test_tables_that_cannot_determine_the_law_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_fittable(change(drawn("multiplicative", TRUTH["multiplicative"])), LAWS["multiplicative"], hold_out=True)


def test_a_csv_file_is_read_with_its_own_names_and_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("\ufeffsize,D,loss,run\n1e6,100,2.5,a\n1e6,200,x,a\n")
    columns = {"parameters": "size", "tokens": "D"}
    with pytest.raises(ValueError, match=r"line 3: column 'loss' must be a number above 0; got 'x'"):
        read_table(path, columns)
    path.write_text("\ufeffsize,D,loss,run\n1e6,100,2.5,a\n")
    assert read_table(path, columns) == [Measurement(1e6, 100, 2.5, "a")]
    with pytest.raises(ValueError, match=r"no column 'parameters' for `parameters`"):
        read_table(path, {"tokens": "D"})
    with pytest.raises(ValueError, match=r"scaling\.columns names \['size'\]"):
        read_table(path, {"size": "size"})
    for both in ({"tokens": "size", "parameters": "size"}, columns | {"loss": "D"}, columns | {"run": "loss"}):
        with pytest.raises(ValueError, match=r"scaling\.columns: the fields \[.*\] share the column"):
            read_table(path, both)
    with pytest.raises(ValueError, match=r"is not a file"):
        read_table(tmp_path / "none.csv", {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("parameters,tokens,loss,loss\n1,2,3,4\n", r"columns \['loss'\] occur twice"),
        ('parameters,tokens,loss,run\n1,2,3,"a\n1,4,2,a\n', r"is not CSV"),
        ("parameters,tokens,loss\n1e6,100,2,5\n", r"line 2: 4 fields, but the header names 3 columns"),
        ("parameters,tokens,loss\n1e6,100\n", r"line 2: 2 fields, but the header names 3 columns"),
        ("parameters,tokens,loss\n1_0_0,100,2\n", r"'parameters' must be a number above 0; got '1_0_0'"),
        ("parameters,tokens,loss\n1,2,3\n1,3,1e300\n", r"line 3: column 'loss' must be .* to 3.4e\+38.*; got '1e300'"),
        ("parameters,tokens,loss\n1,2,1e-300\n", r"line 2: column 'loss' must be from 1.18e-38 .*; got '1e-300'"),
        ("parameters,tokens,loss\n1e300,2,3\n", r"line 2: column 'parameters' must be .*float32; got '1e300'"),
        ("parameters,tokens,loss\n1,2,3\n".encode("utf-16"), r"is not UTF-8"),
        ("parameters,tokens,loss\n1,2,3\n1,3,3\n1,2,3.0\n", r"line 4: it repeats line 2, and a measurement counts"),
        ("parameters,tokens,loss,run\n1,2,3,a\n1,2,3,a\n", r"line 3: it repeats line 2.* in the column 'run'"),
    ],
)
def test_a_table_that_could_be_read_wrongly_is_refused(text: str | bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=says):
        read_table(path, {})


def test_equal_losses_of_two_runs_are_two_measurements(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("parameters,tokens,loss,run\n1,2,3,a\n1,2,3,b\n1,2,4,\n1,2,5,\n")
    assert [row.run for row in read_table(path, {})] == ["a", "b", "line 4", "line 5"]


def test_the_page_says_what_is_wrong_before_the_numbers_and_escapes_names(tmp_path: Path) -> None:
    rows = [row._replace(epochs=3) for row in drawn("multiplicative", TRUTH["multiplicative"])]
    data = make_fittable(rows, LAWS["multiplicative"], hold_out=True)
    fits = [
        Fitted("<b>law</b>", fit_law(LAWS["multiplicative"], data, resamples=3)),
        Fitted("other", None, "too few <i>"),
    ]
    text = write_fits(tmp_path, fits, provenance={"file": "<script>"})
    page = (tmp_path / "scaling.html").read_text()
    assert page.index("after more than one epoch") < page.index("<tbody>") and "too few &lt;i&gt;" in page
    assert "<b>law" not in page and "<script>" not in page.split("<body", 1)[1]
    lines = text.splitlines()
    assert lines[1].startswith("  ! ") and "other: refused. too few <i>" in lines
    written = json.loads((tmp_path / "scaling.json").read_text())["fits"]
    assert written[0]["fit"]["parameters"]["alpha"] == pytest.approx(0.12, rel=1e-3)
    assert len(written[0]["fit"]["held_out"]) == 5 and written[1]["fit"] is None
