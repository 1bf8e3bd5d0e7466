"""Laws of the loss L as a function of size X and tokens D.

Every law is a sum of terms, each a coefficient times a feature of X and D:

    log L = logsumexp_j (coefficient_j + feature_j(exponents, log X, log D))

Coefficients and features are logarithms, so that L and its terms are positive. `X` is the number of trained parameters
or of all parameters of a model; `D` is the number of training tokens.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " N"]
# (exponents, log X, log D) -> (features [J N], their derivatives by each exponent [E J N])
Features = Callable[[np.ndarray, Vector, Vector], tuple[np.ndarray, np.ndarray]]

LARGEST_EXPONENT = 3.0  # published exponents are below 1


class Law(NamedTuple):
    """A law of the loss.

    Attributes:
        name: its name in the configuration.
        formula: the law as a formula.
        source: the publication.
        coefficients: names of the coefficients, whose logarithms are fitted.
        exponents: names of the other parameters, which enter the features.
        bounds: least and largest value of each exponent.
        features: the logarithms of the features, and their derivatives by each exponent.
        by_size: whether the law contains X. A law without X is fitted to each size separately.
        logged: the exponents whose logarithms are fitted.
    """

    name: str
    formula: str
    source: str
    coefficients: tuple[str, ...]
    exponents: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    features: Features
    by_size: bool = True
    logged: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order of a fit: coefficients, then exponents."""
        return self.coefficients + self.exponents

    def log_loss(self, parameters: np.ndarray, log_x: Vector, log_d: Vector) -> tuple[Vector, np.ndarray]:
        """(log L [N], its derivatives by each parameter [P N]). Coefficients in `parameters` are logarithms."""
        k = len(self.coefficients)
        features, slopes = self.features(parameters[k:], log_x, log_d)
        terms = parameters[:k, None] + features
        top = terms.max(axis=0)
        total = top + np.log(np.exp(terms - top).sum(axis=0))
        share = np.exp(terms - total)
        return total, np.concatenate([share, (share * slopes).sum(axis=1)])

    def values(self, parameters: np.ndarray) -> dict[str, float]:
        """The reported values: coefficients and logged exponents, converted from their logarithms."""
        logs = {*self.coefficients, *self.logged}
        pairs = zip(self.names, map(float, parameters), strict=True)
        return {name: float(np.exp(value)) if name in logs else value for name, value in pairs}


def _multiplicative(exponents: np.ndarray, log_x: Vector, log_d: Vector) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta = exponents
    zero = np.zeros_like(log_x)
    features = np.stack([-alpha * log_x - beta * log_d, zero])
    return features, np.stack([np.stack([-log_x, zero]), np.stack([-log_d, zero])])


def _additive(exponents: np.ndarray, log_x: Vector, log_d: Vector) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta = exponents
    zero = np.zeros_like(log_x)
    features = np.stack([-alpha * log_x, -beta * log_d, zero])
    return features, np.stack([np.stack([-log_x, zero, zero]), np.stack([zero, -log_d, zero])])


def _rectified(exponents: np.ndarray, log_x: Vector, log_d: Vector) -> tuple[np.ndarray, np.ndarray]:
    log_learned, beta = exponents
    zero = np.zeros_like(log_x)
    bottom = np.logaddexp(log_learned, beta * log_d)
    share = np.exp(log_learned - bottom)  # share of D_l in the denominator
    features = np.stack([-bottom, zero])
    return features, np.stack([np.stack([-share, zero]), np.stack([-(1 - share) * log_d, zero])])


_EXPONENT = (0.0, LARGEST_EXPONENT)

LAWS: Mapping[str, Law] = {
    law.name: law
    for law in (
        Law(
            "multiplicative",
            "L = A / (X^alpha D^beta) + E",
            "Zhang et al. 2024 (ICLR), eq. 1; MedM (Shourya, Dumontier, Sun 2025), eq. 1, which they did not fit",
            ("A", "E"),
            ("alpha", "beta"),
            (_EXPONENT, _EXPONENT),
            _multiplicative,
        ),
        Law(
            "additive",
            "L = A / X^alpha + B / D^beta + E",
            "Hoffmann et al. 2022, approach 3",
            ("A", "B", "E"),
            ("alpha", "beta"),
            (_EXPONENT, _EXPONENT),
            _additive,
        ),
        Law(
            "rectified",
            "L = B / (D_l + D^beta) + E",
            "Lin et al. 2024 (ICML), eq. 4: D_l is what pre-training has learned already, before the power law begins",
            ("B", "E"),
            ("D_l", "beta"),
            ((-20.0, 60.0), _EXPONENT),
            _rectified,
            by_size=False,
            logged=("D_l",),
        ),
    )
}
