"""Fits the parameters of a law: the least Huber loss of log L, by two solvers that must agree.

The objective is the SUM over points of the Huber loss of log L_fit - log L with delta = 1e-3 (Hoffmann et al. 2022,
approach 3). With the mean instead, values fall below a solver's tolerance and it stops early with other exponents
(Besiroglu et al. 2024). Residuals are divided by delta here, which only changes the scale that the tolerance applies
to. X and D are divided by their geometric means, which makes coefficients and exponents less dependent on each other.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult, minimize

from radvqa_jax.scaling.laws import Law, Vector

DELTA = 1e-3  # of the Huber loss, in units of log L
_LOG_COEFFICIENT = (-30.0, 60.0)  # bounds of log coefficients, for centred X and D
_GRID = (0.05, 0.15, 0.3, 0.5, 0.8, 1.3)  # starts of exponents
_LOG_GRID = (-2.0, 1.0, 4.0, 7.0)  # starts of exponents that are logarithms
_RESTARTS = 6  # most searches of variable projection, which end when one gains nothing
_PROJECTED_STARTS = 1  # starts of variable projection
_KEPT_STARTS = 6  # starts that are kept of the grid: those with the least objective after solving for coefficients
_TIGHT = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 20_000, "maxfun": 200_000}
_NOTHING = 1e-6  # a smaller gain of the scaled objective counts as none: exact losses have an objective near 0
_LOOSE = {"ftol": 1e-7, "maxiter": 500}  # to rank the starts of the grid
_INNER = {"ftol": 1e-13, "maxiter": 2000}  # for the coefficients alone, from the last step's values


class Points(NamedTuple):
    """Sizes, tokens and losses of N measurements, all positive."""

    x: Vector
    d: Vector
    loss: Vector


class Solution(NamedTuple):
    """The minimum of the objective.

    Attributes:
        parameters: in the order of `law.names`; coefficients are logarithms.
        objective: summed Huber loss, in the units of log L squared.
        at_bound: names of the parameters that ended at one of their bounds.
    """

    parameters: np.ndarray
    objective: float
    at_bound: tuple[str, ...]


class _Centred:
    """The objective of a law on points whose X and D are divided by their geometric means."""

    def __init__(self, law: Law, points: Points) -> None:
        self.law = law
        self.mean_x, self.mean_d = (float(np.log(v).mean()) for v in (points.x, points.d))
        self.log_x, self.log_d = np.log(points.x) - self.mean_x, np.log(points.d) - self.mean_d
        self.log_loss = np.log(points.loss)
        self.bounds = [_LOG_COEFFICIENT] * len(law.coefficients) + list(law.bounds)

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """(objective / delta^2, its gradient)."""
        fitted, slopes = self.law.log_loss(parameters, self.log_x, self.log_d)
        residual = (fitted - self.log_loss) / DELTA
        size = np.abs(residual)
        value = np.where(size <= 1, 0.5 * residual**2, size - 0.5).sum()
        return float(value), slopes @ np.clip(residual, -1, 1) / DELTA

    def with_exponents(self, exponents: np.ndarray, start: np.ndarray, *, loose: bool = False) -> OptimizeResult:
        """Solves for the coefficients alone; `start` holds their logarithms to start from."""
        k = len(self.law.coefficients)

        def partial(coefficients: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self(np.concatenate([coefficients, exponents]))
            return value, gradient[:k]

        options = _LOOSE if loose else _INNER
        return minimize(partial, start, jac=True, method="L-BFGS-B", bounds=self.bounds[:k], options=options)

    def solution(self, parameters: np.ndarray) -> Solution:
        """The solution in the original units of X and D."""
        named = dict(zip(self.law.names, parameters, strict=True))
        ends = zip(self.law.names, parameters, self.bounds, strict=True)
        at = tuple(name for name, value, (low, high) in ends if min(value - low, high - value) < 1e-6 * (high - low))
        if "alpha" in named and "A" in named:
            named["A"] += named["alpha"] * self.mean_x
        # The coefficient of the term with D: A in a product, B in a sum.
        by_d = "B" if "B" in named else "A"
        named[by_d] += named["beta"] * self.mean_d
        if "D_l" in named:
            named["D_l"] += named["beta"] * self.mean_d
        moved = np.array([named[name] for name in self.law.names])
        return Solution(moved, self(parameters)[0] * DELTA**2, at)


def _starts(problem: _Centred) -> list[np.ndarray]:
    """The grid's points with the least objective after solving for the coefficients, the best first."""
    law, least = problem.law, float(problem.log_loss.min())
    spread = float(np.log(max(np.exp(problem.log_loss.max()) - np.exp(least), 1e-6)))
    grids = [_LOG_GRID if name in law.logged else _GRID for name in law.exponents]
    found = []
    for exponents in itertools.product(*grids):
        begin = np.array([*[spread] * (len(law.coefficients) - 1), least - 0.3])
        solved = problem.with_exponents(np.array(exponents), begin, loose=True)
        found.append((float(solved.fun), np.concatenate([solved.x, exponents])))
    found.sort(key=lambda pair: pair[0])
    return [parameters for _, parameters in found[:_KEPT_STARTS]]


def _descend(problem: _Centred, start: np.ndarray) -> OptimizeResult:
    """L-BFGS-B, restarted from its result until that gains nothing, because its line search can give up early."""
    best = minimize(problem, start, jac=True, method="L-BFGS-B", bounds=problem.bounds, options=_TIGHT)
    for _ in range(20):
        again = minimize(problem, best.x, jac=True, method="L-BFGS-B", bounds=problem.bounds, options=_TIGHT)
        if again.fun >= best.fun * (1 - 1e-12) - _NOTHING:
            return again if again.fun < best.fun else best
        best = again
    return best


def solve(law: Law, points: Points) -> Solution:
    """The least objective from the best starts of a grid, by L-BFGS-B on all parameters at once."""
    problem = _Centred(law, points)
    best = min((_descend(problem, start) for start in _starts(problem)), key=lambda result: result.fun)
    return problem.solution(best.x)


def solve_near(law: Law, points: Points, start: Solution) -> Solution:
    """The least objective from one start: for a resample, the solution of all points."""
    problem = _Centred(law, points)
    k = len(law.coefficients)
    exponents = start.parameters[k:].copy()
    if "D_l" in law.names:  # from the original units of D to those of these points' mean
        exponents[law.exponents.index("D_l")] -= exponents[law.exponents.index("beta")] * problem.mean_d
    least = float(problem.log_loss.min())
    begin = problem.with_exponents(exponents, np.array([*[0.0] * (k - 1), least - 0.3])).x
    return problem.solution(_descend(problem, np.concatenate([begin, exponents])).x)


def project(law: Law, points: Points) -> Solution:
    """The least objective by variable projection (Golub and Pereyra 1973).

    Every step solves for the coefficients, so that a search without derivatives (Nelder and Mead) varies the exponents
    alone. It shares the objective and the grid of starts with `solve`, but not the method.
    """
    problem = _Centred(law, points)
    k = len(law.coefficients)
    low, high = np.array(problem.bounds[k:]).T
    results = []
    for start in _starts(problem)[:_PROJECTED_STARTS]:
        coefficients, exponents, least = start[:k], start[k:], np.inf

        def projected(exponents: np.ndarray, coefficients: np.ndarray = coefficients) -> float:
            inner = problem.with_exponents(np.clip(exponents, low, high), coefficients)
            coefficients[:] = inner.x  # the next step starts from these
            return float(inner.fun)

        for _ in range(_RESTARTS):  # a simplex can collapse at an edge of the objective
            options = {"xatol": 1e-6, "fatol": 1e-6, "maxiter": 1000}
            outer = minimize(projected, exponents, method="Nelder-Mead", bounds=problem.bounds[k:], options=options)
            gained, least, exponents = least - float(outer.fun), float(outer.fun), np.clip(outer.x, low, high)
            if gained < 1e-9 * least + _NOTHING:
                break
        inner = problem.with_exponents(exponents, coefficients)
        results.append((float(inner.fun), np.concatenate([inner.x, exponents])))
    return problem.solution(min(results, key=lambda pair: pair[0])[1])
