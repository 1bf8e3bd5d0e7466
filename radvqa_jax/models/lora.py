"""LoRA (Hu et al. 2021) for every linear weight, einsum or dense, and exact merging.

An adapter of a weight W is two factors A [in… R] and B [R out…]; the layer computes x W + scale * (x A) B, where
in… are the axes of W that x contracts and out… the ones it makes. Per-head weights keep their head axes in one of the
factors, so that scale * A B has the shape of W and merging is exact. Adapters are stored in a flax collection of their
own, `lora`, under the name of the weight: `llm/layers/attn/q_einsum/w` -> `…/w/lora_a`, `…/w/lora_b`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from radvqa_jax.config import LoraConfig
from radvqa_jax.models.activation_sharding import replicate_axis
from radvqa_jax.models.dropout import draw_by_row
from radvqa_jax.models.quantize import QUANTIZED, dequantize
from radvqa_jax.trees import Flat, apply_rules

LORA = "lora"  # the flax collection

# Pattern over whole leaf names -> how such a linear weight is used; x first, then W, then the output. The axis C stacks
# weights that are separate layers elsewhere (key and value; gate and up), so each slice has factors of its own, as in
# PEFT. Each backbone has its own (backbones/).
Equations = tuple[tuple[str, str], ...]
STACKED = "C"


def equation_of(name: str, equations: Equations) -> str | None:
    """The einsum equation of a linear weight, or None for other leaves (norms, biases, embeddings)."""
    return next((equation for pattern, equation in equations if re.fullmatch(pattern, name)), None)


def is_layered(equation: str, ndim: int) -> bool:
    """Whether a weight with this many axes stacks layers in front of those that its equation names."""
    return ndim > len(equation.split("->")[0].split(",")[1])


def lora_equation(equation: str) -> tuple[str, str, str, str]:
    """(axes of A, axes of B, equation x A, equation (x A) B) for a weight used by `equation`.

    >>> lora_equation("BTNH,NHD->BTD")
    ('NHR', 'RD', 'BTNH,NHR->BTR', 'BTR,RD->BTD')
    >>> lora_equation("BTD,CKDH->CBTKH")
    ('CDR', 'CRKH', 'BTD,CDR->CBTR', 'CBTR,CRKH->CBTKH')
    """
    inputs, out = equation.split("->")
    x, w = inputs.split(",")
    stacked = "".join(letter for letter in w if letter == STACKED)
    contracted = "".join(letter for letter in w if letter in x)
    made = "".join(letter for letter in w if letter in out and letter not in stacked)
    a, b = f"{stacked}{contracted}R", f"{stacked}R{made}"
    low = stacked + "".join(letter for letter in x if letter not in contracted) + "R"
    return a, b, f"{x},{a}->{low}", f"{low},{b}->{out}"


@dataclass(frozen=True)
class Lora:
    """A model's adapters: the weights that have one, and their computation. Hashable, a static attribute of modules."""

    rank: int
    scale: float
    dropout: float
    targets: frozenset[str]
    equations: Equations

    def equation_of(self, name: str) -> str:
        """The einsum equation of a weight that has an adapter."""
        equation = equation_of(name, self.equations)
        assert equation is not None, f"{name} is not a linear weight"
        return equation


def resolve(config: LoraConfig, params: Flat, equations: Equations) -> Lora | None:
    """The adapters that ordered rules choose among the leaves of `params` (arrays or shapes).

    Args:
        config: rank, scale and rules.
        params: flat tree of base leaves.
        equations: of the backbone's linear weights.

    Raises:
        ValueError: if a rule is idle, a linear weight is covered by no rule, a label is unknown, or nothing is chosen.
    """
    if config.rank == 0:
        return None
    linear = [name for name in params if equation_of(name, equations)]
    labels = apply_rules(linear, config.targets, what="lora.targets")
    unknown = sorted(set(labels.values()) - {"lora", "none"})
    if unknown:
        raise ValueError(f"lora.targets: a label is 'lora' or 'none', got {unknown}.")
    targets = frozenset(name for name, label in labels.items() if label == "lora")
    if not targets:
        raise ValueError("lora.targets chooses no weight though lora.rank > 0. Name one, or set lora.rank=0.")
    scale = config.alpha / (config.rank**0.5 if config.rslora else config.rank)
    return Lora(config.rank, scale, config.dropout, targets, equations)


def _weight_axes(equation: str) -> tuple[str, str, str]:
    """The axes of a linear weight, of its A and of its B."""
    a, b, _, _ = lora_equation(equation)
    return equation.split("->")[0].split(",")[1], a, b


def _factor_shapes(equation: str, shape: tuple[int, ...], rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of A and B for a weight; a leading layer axis is kept."""
    w, a, b = _weight_axes(equation)
    layers, sizes = shape[: len(shape) - len(w)], dict(zip(w, shape[len(shape) - len(w) :], strict=True))
    sizes["R"] = rank
    return (*layers, *(sizes[axis] for axis in a)), (*layers, *(sizes[axis] for axis in b))


def _init_factors(key: jax.Array, equation: str, shape: tuple[int, ...], rank: int) -> dict[str, jax.Array]:
    """A uniform in ±1/sqrt(fan in), as PEFT's default, and B zero: the model starts equal to its base."""
    a, b = _factor_shapes(equation, shape, rank)
    contracted = len(_weight_axes(equation)[1].strip(f"{STACKED}R"))
    bound = math.prod(a[-1 - contracted : -1]) ** -0.5
    return {"lora_a": jax.random.uniform(key, a, jnp.float32, -bound, bound), "lora_b": jnp.zeros(b, jnp.float32)}


class AdaptedModule(nn.Module):
    """A module with linear weights; each one that `lora` names also has an adapter."""

    lora: Lora | None
    dtype: Any  # of activations

    def linear(self, name: str, equation: str, x: jax.Array, *, shape: tuple[int, ...], fan_in: int) -> Any:
        """`equation` of x and the weight `name` [shape], plus the adapter's share, in the compute dtype.

        Of a weight that stacks separate layers it is a list, an array for each of them.
        """
        return self.prepared(name, equation, shape=shape, fan_in=fan_in)(x)

    def prepared(
        self, name: str, equation: str, *, shape: tuple[int, ...], fan_in: int, whole: str = ""
    ) -> Callable[[jax.Array], Any]:
        """The function of x that `linear` applies; it may be used inside jax's own loops.

        `whole` names an axis of the weight that must not be cut over devices: a loop would gather it in every turn.

        Adapter factors are float32 in memory; they compute in the dtype of the activations. A quantised weight exists
        as a whole, in that dtype, while its layer computes.
        """
        if self.has_variable(QUANTIZED, name):
            weight = dequantize(self.get_variable(QUANTIZED, name), self.dtype)
        else:
            weight = self.param(name, nn.initializers.normal(fan_in**-0.5), shape)
        if whole:
            weight = replicate_axis(weight, equation.split("->")[0].split(",")[1].index(whole))
        full_name = "/".join((*self.path, name))
        adapter = None
        if self.lora is not None and full_name in self.lora.targets:
            assert equation == self.lora.equation_of(full_name), f"the backbone's equations are wrong for {full_name}"
            adapter = self._adapter(equation, name, shape)

        def apply(x: jax.Array) -> Any:
            x = x.astype(self.dtype)
            if STACKED in equation:
                # Layer by layer: for one product XLA would first copy the weight, to bring its axes in order.
                single = equation.replace(STACKED, "")
                out = [jnp.einsum(single, x, part) for part in weight.astype(self.dtype)]
                return out if adapter is None else [a + b for a, b in zip(out, adapter(x), strict=True)]
            out = jnp.einsum(equation, x, weight.astype(self.dtype))
            return out if adapter is None else out + adapter(x)

        return apply

    def _adapter(self, equation: str, name: str, shape: tuple[int, ...]) -> Callable[[jax.Array], jax.Array]:
        lora = self.lora
        assert lora is not None
        factors = self.variable(
            LORA, name, lambda: _init_factors(self.make_rng("params"), equation, shape, lora.rank)
        ).value
        _, _, down, up = lora_equation(equation)

        def apply(x: jax.Array) -> jax.Array:
            if lora.dropout and self.has_rng("dropout"):
                keep = draw_by_row(self.make_rng("dropout"), 1 - lora.dropout, x.shape)
                x = jnp.where(keep, x / (1 - lora.dropout), 0).astype(self.dtype)
            low = jnp.einsum(down, x, factors["lora_a"].astype(self.dtype))
            return jnp.einsum(up, low, factors["lora_b"].astype(self.dtype)) * jnp.asarray(lora.scale, self.dtype)

        return apply

    def drops(self, *names: str) -> bool:
        """Whether an adapter of these weights draws random numbers when it is applied."""
        if self.lora is None or not self.lora.dropout or not self.has_rng("dropout"):
            return False
        return not self.lora.targets.isdisjoint("/".join((*self.path, name)) for name in names)


def init(key: jax.Array, lora: Lora, params: Flat) -> Flat:
    """Fresh adapters as a flat tree `<weight>/lora_a`, `<weight>/lora_b`, float32, one key a weight."""
    shapes = {name: tuple(params[name].shape) for name in sorted(lora.targets)}

    @jax.jit  # one program: a compilation for each shape takes seconds
    def draw(key: jax.Array) -> Flat:
        adapters: Flat = {}
        for index, (name, shape) in enumerate(shapes.items()):
            factors = _init_factors(jax.random.fold_in(key, index), lora.equation_of(name), shape, lora.rank)
            adapters.update({f"{name}/{factor}": leaf for factor, leaf in factors.items()})
        return adapters

    return draw(key)


def delta(equation: str, a: jax.Array, b: jax.Array, *, scale: float) -> jax.Array:
    """The product scale * A B in the shape of the weight that `equation` uses, float32."""
    w, axes_a, axes_b = _weight_axes(equation)
    product = f"...{axes_a},...{axes_b}->...{w}"
    return scale * jnp.einsum(product, a, b, precision="highest", preferred_element_type=jnp.float32)


def merge(params: Flat, adapters: Flat, lora: Lora, *, sign: float = 1.0) -> Flat:
    """The leaves with every adapter added to its weight: the product and the sum in float32, then one rounding."""
    merged = dict(params)
    for name in sorted(lora.targets):
        a, b = adapters[f"{name}/lora_a"], adapters[f"{name}/lora_b"]
        change = delta(lora.equation_of(name), a, b, scale=lora.scale)
        merged[name] = (params[name].astype(jnp.float32) + sign * change).astype(params[name].dtype)
    return merged


def unmerge(params: Flat, adapters: Flat, lora: Lora) -> Flat:
    """The leaves with every adapter taken out again; equal to before `merge` up to rounding of the weights."""
    return merge(params, adapters, lora, sign=-1.0)


def table(lora: Lora | None, params: Mapping[str, Any], equations: Equations) -> str:
    """A readable table of every linear weight and the adapter it has."""
    lines = []
    for name in params:
        if equation := equation_of(name, equations):
            shape = tuple(params[name].shape)
            if lora and name in lora.targets:
                a, b = _factor_shapes(equation, shape, lora.rank)
                lines.append(f"{name}  {shape}  A {a}  B {b}")
            else:
                lines.append(f"{name}  {shape}  -")
    head = f"adapters: rank {lora.rank}, scale {lora.scale:g}, dropout {lora.dropout:g}" if lora else "adapters: none"
    return "\n".join([head, *lines])
