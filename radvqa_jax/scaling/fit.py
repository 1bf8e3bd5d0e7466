"""A law fitted to a table: parameters with intervals over runs, a held-out prediction, and warnings."""

from typing import Any, NamedTuple

import numpy as np

from radvqa_jax import progress
from radvqa_jax.scaling.laws import Law, Vector
from radvqa_jax.scaling.solve import DELTA, Points, Solution, project, solve, solve_near
from radvqa_jax.scaling.table import LEAST_SIZES, LEAST_TOKENS, Fittable

AGREE = 1e-3  # the two solvers' objectives may differ by this share
EXACT = 1e-6 * DELTA**2  # an objective below it is 0: that of losses without noise, to rounding
ZERO_SHARE = 0.01  # share of the least loss: an E whose interval reaches down to it is not distinguishable from 0
NEAR_ENDS = 0.01  # relative tolerance: noise-free losses give intervals of no width
LEVEL = (2.5, 97.5)  # percentiles at the ends of an interval


class ScalingFit(NamedTuple):
    """A fitted law.

    Attributes:
        law: the law.
        data: the fitted and the held-out points.
        solution: the parameters.
        intervals: {parameter: (low, high)} at 95 % from resampled runs; empty without resamples.
        resampled: parameters of each resample [R P]; R = 0 with fewer than three runs, or if too few draws of runs
            determine the law.
        projected: the least objective that variable projection found.
        said: warnings, each a sentence.
    """

    law: Law
    data: Fittable
    solution: Solution
    intervals: dict[str, tuple[float, float]]
    resampled: np.ndarray
    projected: float
    said: tuple[str, ...]

    def values(self) -> dict[str, float]:
        """{parameter: value}."""
        return self.law.values(self.solution.parameters)

    def predict(self, x: Vector, d: Vector) -> Vector:
        """The loss that the law predicts at sizes x and tokens d, in nats."""
        return np.exp(self.law.log_loss(self.solution.parameters, np.log(x), np.log(d))[0])

    def band(self, x: Vector, d: Vector) -> tuple[Vector, Vector] | None:
        """The 95 % interval of the law itself at these points, from the resamples; None without them."""
        if not len(self.resampled):
            return None
        log_x, log_d = np.log(x), np.log(d)
        found = np.exp([self.law.log_loss(parameters, log_x, log_d)[0] for parameters in self.resampled])
        low, high = np.percentile(found, LEVEL, axis=0)
        return low, high

    def rmsd(self, points: Points) -> float:
        """The root mean squared difference of log L at these points."""
        return float(np.sqrt(np.mean((np.log(self.predict(points.x, points.d)) - np.log(points.loss)) ** 2)))

    def to_json(self) -> dict[str, Any]:
        """The fit as JSON values."""
        held = self.data.held_out
        predicted = self.predict(held.x, held.d) if len(held.loss) else np.zeros(0)
        return {
            "law": self.law.name,
            "formula": self.law.formula,
            "source": self.law.source,
            "said": list(self.said),
            "parameters": self.values(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "n": len(self.data.points.loss),
            "runs": len(set(self.data.runs.tolist())),
            "sizes": sorted(set(self.data.points.x.tolist())) if self.law.by_size else [],
            "objective": self.solution.objective,
            "objective_by_projection": self.projected,
            "rmsd_of_log": self.rmsd(self.data.points),
            "held_out": [
                {"parameters": x, "tokens": d, "loss": loss, "predicted": value}
                for x, d, loss, value in zip(*map(np.ndarray.tolist, (*held, predicted)), strict=True)
            ],
            "rmsd_of_log_held_out": self.rmsd(held) if len(held.loss) else None,
        }


def _resample(data: Fittable, law: Law, rng: np.random.Generator) -> Points | None:
    """The points of runs drawn with replacement, as many as there are; None if they do not determine the law."""
    runs = np.unique(data.runs)
    drawn = rng.choice(runs, size=len(runs))
    index = np.concatenate([np.flatnonzero(data.runs == run) for run in drawn])
    points = Points(*(values[index] for values in data.points))
    few_sizes = law.by_size and len(np.unique(points.x)) < LEAST_SIZES
    return None if few_sizes or len(np.unique(points.d)) < LEAST_TOKENS else points


def _resampled(data: Fittable, law: Law, solution: Solution, *, resamples: int, seed: int) -> tuple[np.ndarray, int]:
    """(parameters [R P] of the resamples, the number of useless draws); R = 0 as `ScalingFit.resampled` says."""
    none = np.zeros((0, len(law.names)))
    if resamples == 0 or len(np.unique(data.runs)) < LEAST_SIZES:
        return none, 0
    rng, found, useless = np.random.default_rng(seed), [], 0
    with progress.bar(name=f"intervals of the law {law.name}", total=resamples, delay=progress.SOON) as bar:
        while len(found) < resamples and useless < 20 * resamples:
            points = _resample(data, law, rng)
            if points is None:
                useless += 1
            else:
                found.append(solve_near(law, points, solution).parameters)
                bar.update()
    return (np.stack(found) if len(found) == resamples else none), useless


def _percentiles(law: Law, resampled: np.ndarray) -> dict[str, tuple[float, float]]:
    """{parameter: 95 % interval}; empty without resamples."""
    reported = [law.values(parameters) for parameters in resampled]
    ends = {name: np.percentile([values[name] for values in reported], LEVEL) for name in law.names if reported}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def fit_law(law: Law, data: Fittable, *, resamples: int = 1000, seed: int = 0) -> ScalingFit:
    """Fits a law by two solvers, with intervals, and warns of what is wrong with the fit.

    Args:
        law: from `LAWS`.
        data: from `make_fittable`.
        resamples: number of resamples of runs for the intervals, each fitted anew; 0 = no intervals.
        seed: of the resamples.
    """
    solution = solve(law, data.points)
    projected = project(law, data.points).objective
    resampled, useless = _resampled(data, law, solution, resamples=resamples, seed=seed)
    intervals = _percentiles(law, resampled)
    said = [*_problems(law, data, solution, projected, intervals), *data.said]
    if useless:
        said.append(f"{useless} resamples of runs had too few sizes or numbers of tokens, and were drawn again.")
    return ScalingFit(law, data, solution, intervals, resampled, projected, tuple(said))


def _problems(
    law: Law, data: Fittable, solution: Solution, projected: float, intervals: dict[str, tuple[float, float]]
) -> list[str]:
    said = []
    values, least = law.values(solution.parameters), float(data.points.loss.min())
    said += [
        f"The law does not hold here: {name} ended at a bound ({values[name]:.3g}), so the losses do not follow that "
        "term of the law."
        for name in solution.at_bound
        if name != "E"
    ]
    without_e = values["E"] <= ZERO_SHARE * least
    if without_e:
        said.append("E cannot be distinguished from 0: the fit is best without it.")
    if abs(projected - solution.objective) > max(AGREE * solution.objective, EXACT):
        said.append(
            f"The two solvers do not agree (objectives {solution.objective:.4g} and {projected:.4g} by variable "
            "projection): the parameters are not determined by these losses."
        )
    if not intervals:
        said.append(f"No intervals: they need resamples (scaling.resamples) of at least {LEAST_SIZES} runs.")
    close = 1 + NEAR_ENDS
    if outside := [n for n, (low, high) in intervals.items() if not low / close <= values[n] <= high * close]:
        said.append(
            f"Resampled runs lead to another law: the intervals of {', '.join(outside)} do not contain the estimates. "
            "These losses do not determine the law."
        )
    if "E" in intervals and intervals["E"][0] <= ZERO_SHARE * least and not without_e:
        said.append(
            f"E is not identified: its interval reaches from {intervals['E'][0]:.3g} to {intervals['E'][1]:.3g}, and "
            f"the least loss is {least:.3g}. The exponents depend on it; do not extrapolate."
        )
    for name in ("alpha", "beta"):
        if name in intervals and intervals[name][0] < 0.005 and name not in solution.at_bound:
            said.append(f"{name} cannot be distinguished from 0: its interval begins at {intervals[name][0]:.3g}.")
    return said
