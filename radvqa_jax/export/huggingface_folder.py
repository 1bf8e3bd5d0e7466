"""A whole Hugging Face folder of a merged model: weights under the Hub's names, and files for its processor."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from radvqa_jax import files
from radvqa_jax.backbones import backbone_of
from radvqa_jax.checkpoints import huggingface, layouts
from radvqa_jax.checkpoints.huggingface import EMBEDDING
from radvqa_jax.checkpoints.safetensors_files import SHARD_BYTES, Tensor, write_folder
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.models.hf_config import padded_rows
from radvqa_jax.models.variants import Variant
from radvqa_jax.trees import Flat

PAD = 0  # whose row of the vocabulary is copied for `<image>` and padding: no answer predicts it
IMAGE = "<image>"
TOKENIZER = "tokenizer.model"
BILINEAR = 2  # Pillow's number: images are resized here as in training (big_vision), not by transformers' bicubic

# Content that a chat interface sends becomes PaliGemma's prompt; the processor adds BOS and the newline.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' or part['type'] == 'image_url' %}<image>"
    "{% endif %}{% endfor %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}"
)

# What must be said of a folder whose tokenizer transformers cannot read as it is.
UNIGRAM = (
    "The tokenizer is a unigram model, and transformers' Gemma tokenizer is byte-pair encoding: text gets other tokens "
    "there. Weights are exact; encode text with this project's tokenizer"
)


def image_token_of(variant: Variant, tokenizer: Tokenizer | None) -> int:
    """The id of `<image>`: the first that the tokenizer leaves free, as transformers' processor will give it.

    Without a tokenizer it is the first one after the vocabulary. For the released models the two are the same.
    """
    return variant.llm.vocab_size if tokenizer is None else tokenizer.vocab_size


def write_weights(
    folder: Path,
    leaves: Iterable[tuple[str, np.ndarray]],
    abstract: Flat,
    *,
    dtype: Any,
    rows: int,
    shard_bytes: int = SHARD_BYTES,
) -> list[Path]:
    """Writes the tensors of a model, leaf by leaf; returns the files.

    Args:
        folder: made if it is missing.
        leaves: (name, leaf) in the order of `abstract`.
        abstract: shapes of the leaves.
        dtype: of every leaf.
        rows: of the stored vocabulary; those after the model's own repeat the row of the padding token.
        shard_bytes: see safetensors_files.
    """
    places = layouts.places(abstract)
    specs = [spec for name in abstract for spec in _specs(places[name], abstract[name].shape, np.dtype(dtype), rows)]

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for name, leaf in leaves:
            if places[name].names == (EMBEDDING,) and rows > len(leaf):
                leaf = np.concatenate([leaf, np.repeat(leaf[PAD : PAD + 1], rows - len(leaf), axis=0)])
            for tensor_name, tensor in huggingface.tensors(leaf, places[name]):
                yield huggingface.hub_name(tensor_name), tensor

    return write_folder(folder, specs, tensors(), shard_bytes=shard_bytes)


def write_model_config(folder: Path, variant: Variant, *, image_token: int, dtype: str, new_tokens: int) -> None:
    """Writes config.json and generation_config.json.

    Raises:
        ValueError: if the backbone has no form in transformers.
    """
    backbone = backbone_of(variant)
    if backbone.write_config is None:
        raise ValueError(
            f"{backbone.title} cannot be written as a Hugging Face folder. Set export.format=big_vision, or "
            "convert.format=big_vision, which writes a native file."
        )
    files.write_json(folder / "config.json", backbone.write_config(variant, image_token=image_token, dtype=dtype))
    generation = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    files.write_json(folder / "generation_config.json", generation | {"do_sample": False, "max_new_tokens": new_tokens})


def write_processor(folder: Path, variant: Variant, tokenizer: Tokenizer) -> None:
    """Writes the tokenizer's and the image processor's files; transformers makes its fast tokenizer of them itself."""
    with files.atomic_write(folder / TOKENIZER, "wb") as file:
        file.write(tokenizer.model())
    names = {
        "pad_token": tokenizer.piece(tokenizer.pad),
        "eos_token": tokenizer.piece(tokenizer.eos),
        "bos_token": tokenizer.piece(tokenizer.bos),
        "unk_token": tokenizer.unknown,
    }
    image = {"content": IMAGE, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
    files.write_json(folder / "special_tokens_map.json", names | {"additional_special_tokens": [IMAGE]})
    files.write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, names, image))
    files.write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)
    files.write_json(folder / "preprocessor_config.json", _image_config(variant))


def folder_rows(variant: Variant, image_token: int) -> int:
    """The rows of the vocabulary that the folder stores."""
    return padded_rows(variant.llm.vocab_size, image_token)


def _specs(place: huggingface.Place, shape: tuple[int, ...], dtype: np.dtype, rows: int) -> list[Tensor]:
    size = huggingface.tensor_shape(place, shape)
    if place.names == (EMBEDDING,):
        size = (max(rows, size[0]), *size[1:])
    names = [name for _, name in huggingface.parts(place, shape[0] if place.layered else 1)]
    return [Tensor(huggingface.hub_name(name), size, dtype) for name in names]


def _tokenizer_config(tokenizer: Tokenizer, names: Mapping[str, str], image: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tokenizer_class": "GemmaTokenizer",
        "processor_class": "PaliGemmaProcessor",
        **names,
        "add_bos_token": False,  # the processor puts it between image and prompt
        "add_eos_token": False,
        "additional_special_tokens": [IMAGE],
        "extra_special_tokens": {"image_token": IMAGE},
        "added_tokens_decoder": {str(tokenizer.vocab_size): {**image, "special": True}},
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "chat_template": CHAT_TEMPLATE,
    }


def _image_config(variant: Variant) -> dict[str, Any]:
    side = {"height": variant.resolution, "width": variant.resolution}
    return {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "PaliGemmaProcessor",
        "image_seq_length": variant.num_patches,
        "size": side,
        "do_resize": True,
        "resample": BILINEAR,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
    }
