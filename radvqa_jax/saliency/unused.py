"""Refuses options of maps that no chosen method uses."""

from collections.abc import Collection, Sequence

from radvqa_jax.config import Config, SaliencyConfig
from radvqa_jax.saliency.methods import METHODS, measured, plain
from radvqa_jax.saliency.passes import PassOptions

_BY_LAYER = tuple(name for name, method in METHODS.items() if "layers" in method.axes)
# An option that only some methods use -> these methods. Every map through the vision tower uses the other options.
_USERS: dict[str, tuple[str, ...]] = {
    "residuals": ("rollout",),
    "start_layer": ("rollout", "rollout_centred"),
    "windows": ("occlusion", "knockout"),
    "knockout_layers": ("knockout",),
    "layers": _BY_LAYER,
}


def _require_user(option: str, value: object, methods: Collection[str], *, chosen: str, beside: str = "") -> None:
    """Raises ValueError unless one of the methods uses an option; `beside` says what else uses it."""
    if not {plain(name) for name in methods} & set(_USERS[option.rpartition(".")[2]]):
        users = ", ".join(_USERS[option.rpartition(".")[2]]) + beside
        raise ValueError(
            f"{option}={value!r} has no effect on {chosen}={', '.join(methods) or '()'}: only {users} "
            f"{'use' if ',' in users or beside else 'uses'} it. Leave {option} out, or add such a method."
        )


def check_options(options: PassOptions, methods: Sequence[str]) -> None:
    """Refuses options of `Model.saliency` that differ from their defaults and that no method of it uses."""
    default = PassOptions()
    if len(options.residuals) > 1:  # of one, the map through the vision tower is made
        _require_user("residuals", options.residuals, methods, chosen="methods")
    for option in ("start_layer", "windows", "knockout_layers"):
        if (value := getattr(options, option)) != getattr(default, option):
            _require_user(f"options.{option}", value, methods, chosen="methods")


def check_used(config: Config) -> None:
    """Refuses fields of `saliency` that differ from their defaults and that no method of this mode uses."""
    measures, default = config.mode == "saliency_quality", SaliencyConfig()
    field = "quality.methods" if measures else "saliency.methods"
    methods = measured(config.quality) if measures else config.saliency.methods
    for option in ("layers", "windows", "knockout_layers"):
        # Chosen patches are hidden from the answer too, as are marked ones where maps are measured.
        used = option == "knockout_layers" and (measures or bool(config.saliency.patches))
        if not used and (value := getattr(config.saliency, option)) != getattr(default, option):
            beside = " and saliency.patches" * (option == "knockout_layers")
            _require_user(f"saliency.{option}", value, methods, chosen=field, beside=beside)
