"""Reads model.variant and model.tokenizer from a checkpoint if the configuration leaves them open."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from radvqa_jax.backbones import BACKBONES, PALIGEMMA, abstract_params, backbone_of
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.hf_images import check_images
from radvqa_jax.checkpoints.readers import Weights
from radvqa_jax.config import Config
from radvqa_jax.files import read_json
from radvqa_jax.models.hf_config import differences, same_model
from radvqa_jax.models.variants import VARIANTS, get_variant, variant_name

# Modes that load the checkpoint. The others may run without it.
WITH_MODEL = frozenset(
    ("train", "predict", "saliency", "saliency_quality", "ask", "ablations", "job", "convert", "export", "reproduce")
)

TOKENIZER, CONFIG = "tokenizer.model", "config.json"


def resolve_model(config: Config) -> Config:
    """The configuration with model.variant and model.tokenizer filled in from the checkpoint.

    Reads only headers. A missing checkpoint is not reported here; loading it does that.

    Raises:
        ValueError: if the checkpoint contradicts model.variant or model.tokenizer, naming both; or if model.variant is
            empty and the checkpoint does not determine it.
    """
    model = config.model
    path = Path(model.checkpoint).expanduser()
    if not model.checkpoint or not path.exists():
        return config
    is_native = path.is_file() and path.suffix != ".safetensors"
    variant = _native_variant(path, model.variant) if is_native else _folder_variant(path, model.variant)
    tokenizer = model.tokenizer if is_native else _folder_tokenizer(path, model.tokenizer, variant)
    return replace(config, model=replace(model, variant=variant, tokenizer=tokenizer))


def _native_variant(path: Path, given: str) -> str:
    if given:
        return given  # loading lists the leaves that do not fit
    shapes = big_vision.read_shapes(path)
    records = BACKBONES.values()
    record = next((one for one in records if one.layout.token_table in shapes), PALIGEMMA)  # reports missing leaves
    found = record.infer(shapes)
    return variant_name(next((known for known in VARIANTS.values() if same_model(known, found)), found))


def _folder_variant(path: Path, given: str) -> str:
    described = (path if path.is_dir() else path.parent) / CONFIG
    if described.is_file():
        check_images(described.parent)
        text = _read_config(described)
        record = next((one for one in BACKBONES.values() if one.model_type == text.get("model_type")), PALIGEMMA)
        found = record.read_config(text, what=str(described))
        if given and not same_model(get_variant(given), found):
            lines = "; ".join(differences(get_variant(given), found))
            raise ValueError(
                f"model.variant={given} and model.checkpoint={path} contradict each other: {lines}. Leave "
                "model.variant empty to take what the checkpoint is; model.resolution sets another image size."
            )
        return given or variant_name(found)
    if given:
        return given
    with big_vision.open_weights(path) as weights:
        found = _match(weights)
    if found is None:
        raise ValueError(
            f"{path} has no {CONFIG} in its folder, and its shapes match no known model. Set model.variant to one "
            f"of {', '.join(VARIANTS)}, or give the whole Hugging Face folder."
        )
    return found


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = read_json(path)
    except ValueError as error:
        raise ValueError(f"{error} Download config.json again.") from error
    if not isinstance(text, dict):
        raise ValueError(f"{path} must hold a JSON object. Give a whole Hugging Face folder.")
    return text


def _match(weights: Weights) -> str | None:
    """The name of the known model with these leaves, spare rows of the vocabulary aside; None if there is none."""
    for name, variant in VARIANTS.items():
        abstract = abstract_params(variant)
        held = weights.held(abstract)
        rows = {leaf: (held.leaves[leaf].shape, abstract[leaf].shape) for leaf in held.leaves}
        spare = [have[0] - want[0] for have, want in rows.values() if have != want]
        if not held.problems and set(rows) == set(abstract) and spare in ([], [weights.spare_rows]):
            return name
    return None


def _folder_tokenizer(path: Path, given: str, variant: str) -> str:
    own = (path if path.is_dir() else path.parent) / TOKENIZER
    if not own.is_file():
        return given
    if not given:
        return str(own)
    read = backbone_of(get_variant(variant)).tokenizer
    if not Path(given).expanduser().is_file() or read(given).same_as(read(own)):
        return given
    raise ValueError(
        f"model.tokenizer={given} and {own} have different tokens, or cut texts differently. Leave model.tokenizer "
        "empty to take the one that came with model.checkpoint, or give a checkpoint that was trained with the other."
    )
