"""mode=export and mode=convert: the files are the model, describe it, and never replace a good folder."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from radvqa_jax import files
from radvqa_jax.backbones import PALIGEMMA, abstract_params
from radvqa_jax.checkpoints import big_vision
from radvqa_jax.checkpoints.adapter import inspect_adapter, save_adapter
from radvqa_jax.checkpoints.adapter_meta import AdapterMeta
from radvqa_jax.checkpoints.npz import BFLOAT16
from radvqa_jax.config import EMBEDDED, Config, LoraConfig
from radvqa_jax.data.tokenizer import Tokenizer
from radvqa_jax.export import export as export_module
from radvqa_jax.export.card import Card, licence_of, read_scores, render
from radvqa_jax.export.huggingface_folder import UNIGRAM
from radvqa_jax.export.merged import Merge, merge_leaf
from radvqa_jax.exporting import export
from radvqa_jax.models import lora as lora_lib
from radvqa_jax.models.variants import get_variant
from radvqa_jax.resolve import resolve_model
from radvqa_jax.runners.convert import convert_mode
from radvqa_jax.runners.export import export_mode
from radvqa_jax.training.base_use import make_use
from radvqa_jax.training.stage import Base, Trained
from radvqa_jax.trees import Flat

LORA = LoraConfig(rank=2, alpha=6.0, targets=(("llm/.*|img/.*/query/kernel", "lora"), (".*", "none")))
Make = Callable[..., Config]


def draw(shapes: Flat, seed: int = 0, std: float = 0.1) -> Flat:
    rng = np.random.default_rng(seed)
    return {name: (std * rng.normal(size=leaf.shape)).astype(np.float32) for name, leaf in shapes.items()}


@pytest.fixture(scope="module")
def trained(micro_config: Make) -> Flat:
    abstract = abstract_params(get_variant(micro_config().model.variant))
    lora = lora_lib.resolve(LORA, abstract, PALIGEMMA.equations)
    assert lora is not None
    shapes = {
        name: lora_lib._factor_shapes(lora.equation_of(name), tuple(abstract[name].shape), 2) for name in lora.targets
    }
    factors = {f"{name}/lora_{f}": shape for name in lora.targets for f, shape in zip("ab", shapes[name], strict=True)}
    rng = np.random.default_rng(1)
    return {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in factors.items()}


@pytest.fixture(scope="module")
def adapter(trained: Flat, micro_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    meta = AdapterMeta("stage2", 5, LORA, "micro.npz", files.sha256(micro_checkpoint), "c" * 64)
    save_adapter(folder, trained, meta)
    return folder


@pytest.fixture
def make(micro_config: Make, adapter: Path) -> Make:
    return lambda changed=None: micro_config({"mode": "export", "adapter": str(adapter)} | (changed or {}))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["huggingface", "big_vision"])
def test_merging_is_float32_with_one_rounding(
    make: Make, trained: Flat, micro_checkpoint: Path, tmp_path: Path, kind: str, dtype: str
) -> None:
    config = make({"export.format": kind, "export.dtype": dtype})
    export_mode(config, tmp_path)
    abstract = abstract_params(get_variant(config.model.variant))
    base, _ = big_vision.load(micro_checkpoint, abstract)
    lora = lora_lib.resolve(LORA, abstract, PALIGEMMA.equations)
    assert lora is not None
    want = lora_lib.merge(base, {name: jnp.asarray(leaf) for name, leaf in trained.items()}, lora)
    path = tmp_path / kind / "model.npz" if kind == "big_vision" else tmp_path / kind
    got = dict(big_vision.iterate(path, abstract))
    for name, leaf in want.items():
        assert got[name].dtype == jnp.dtype(dtype)
        np.testing.assert_allclose(
            got[name].astype(np.float32), np.asarray(leaf), rtol=1e-6 if dtype == "float32" else 2**-8, atol=1e-7
        )
    record = files.read_json(tmp_path / kind / "export.json")
    assert record["dtype"] == dtype and 0 <= record["check"]["largest"] <= record["check"]["tolerance"]


def test_a_half_precision_base_is_rounded_once() -> None:
    """1 + 2^-9 + 2^-9 is 1 + 2^-8 in float32 and would stay 1 if each addition were rounded to bfloat16."""
    name, shape = "img/head/kernel", (2, 2)
    merge = Merge("", {}, {f"{name}/lora_a": np.full((2, 2), 2**-5), f"{name}/lora_b": np.full((2, 2), 2**-4)},
                  lora_lib.Lora(2, 1.0, 0.0, frozenset([name]), PALIGEMMA.equations))  # fmt: skip
    one = np.ones(shape, BFLOAT16)
    got = merge_leaf(name, one, merge, np.dtype(BFLOAT16))
    np.testing.assert_array_equal(got.astype(np.float32), np.float32(1 + 2**-8).astype(BFLOAT16).astype(np.float32))
    np.testing.assert_array_equal(merge_leaf(name, one, merge, np.dtype(np.float32)), 1 + 2**-8)


def test_a_quantised_base_is_merged_into_its_original_weights(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("qwix")
    changed = {"export.format": "big_vision", "export.dtype": "float32"}
    export_mode(make(changed), tmp_path / "plain")
    capsys.readouterr()
    export_mode(make(changed | {"model.quantize": "nf4"}), tmp_path / "rounded")
    assert "merged into the original weights of micro.npz, not into the rounded ones" in capsys.readouterr().out
    card = (tmp_path / "rounded/big_vision/README.md").read_text()
    assert "model.quantize=nf4 was set" in card
    one, two = (tmp_path / name / "big_vision/model.npz" for name in ("plain", "rounded"))
    assert one.read_bytes() == two.read_bytes()


def test_files_that_replaced_those_of_the_loaded_model_are_not_exported(
    make: Make, trained: Flat, tmp_path: Path
) -> None:
    config = make({"export.format": "peft"})
    base = Base({}, "micro.npz", files.sha256(config.model.checkpoint))
    loaded = Trained(trained, LORA)
    export(config, tmp_path / "same", loaded=(base, loaded))
    other = {name: leaf + 1 for name, leaf in trained.items()}
    for now, what in (
        ((base, Trained(other, LORA)), "adapter="),
        ((base._replace(sha256="0" * 64), loaded), "model.checkpoint="),
    ):
        with pytest.raises(ValueError, match=rf"^{what}.* was replaced after the model was loaded"):
            export(config, tmp_path / "other", loaded=now)
    assert not (tmp_path / "other").exists()


def test_peft_and_back_is_the_same_adapter(make: Make, trained: Flat, micro_config: Make, tmp_path: Path) -> None:
    export_mode(make({"export.format": "peft"}), tmp_path)
    record = files.read_json(tmp_path / "peft/export.json")
    assert record["check"]["largest"] == 0
    again = micro_config({"mode": "export", "adapter": str(tmp_path / "peft"), "export.format": "peft"})
    export_mode(again, tmp_path / "again")
    one, two = (folder / "peft/adapter_model.safetensors" for folder in (tmp_path, tmp_path / "again"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("resolution, noted", [(28, False), (42, True)])
def test_an_adapter_alone_says_what_its_base_does_not_bring(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], resolution: int, noted: bool
) -> None:
    export_mode(make({"export.format": "peft", "model.resolution": resolution}), tmp_path)
    note = "img/pos_embedding of the base were resampled, extended or drawn"
    assert (note in capsys.readouterr().out) == (note in (tmp_path / "peft/README.md").read_text()) == noted


def test_a_weight_that_was_trained_whole_is_refused_for_peft_with_the_way_out(
    make: Make, trained: Flat, micro_checkpoint: Path, tmp_path: Path
) -> None:
    abstract = abstract_params(get_variant(make().model.variant))
    meta = AdapterMeta("stage2", 5, LORA, "micro.npz", files.sha256(micro_checkpoint), "c" * 64)
    norm = "llm/final_norm/scale"
    save_adapter(tmp_path / "norm", trained | draw({norm: abstract[norm]}), meta)
    config = make({"export.format": "peft", "adapter": str(tmp_path / "norm")})
    with pytest.raises(ValueError, match=r"trained whole: \['llm/final_norm/scale'\]\. Merge it instead"):
        export_mode(config, tmp_path)
    head = {name: abstract[name] for name in ("img/head/kernel", "img/head/bias")}
    save_adapter(tmp_path / "head", draw(head), meta._replace(lora=LoraConfig(), stage="stage1"))
    config = make({"export.format": "peft", "adapter": str(tmp_path / "head")})
    with pytest.raises(ValueError, match=r"needs LoRA factors; only the projector was trained\. Merge it instead"):
        export_mode(config, tmp_path)
    with pytest.raises(ValueError, match=r"needs an adapter, and none is given"):
        export_mode(make({"export.format": "peft", "adapter": ""}), tmp_path)
    export_mode(make({"adapter": str(tmp_path / "head")}), tmp_path)
    assert "Trained whole: `img/head/bias`, `img/head/kernel`" in (tmp_path / "huggingface/README.md").read_text()


def test_an_unknown_data_set_is_refused_before_the_model_is_read(make: Make, tmp_path: Path) -> None:
    for name, near in (("slak", r" Did you mean `slake`\?"), ("../../docs", "")):
        config = make({"export.datasets": ("vqa_rad", name), "model.checkpoint": "absent.npz"})
        with pytest.raises(ValueError, match=rf"^export\.datasets\[1\]='{name}' is no data set\.{near} There are "):
            export_mode(config, tmp_path)


def test_the_card_states_the_required_facts(make: Make, tmp_path: Path) -> None:
    scores = {"runs": {"stage2": {"overall": {"value": 0.5, "n": 40, "interval": [0.4, 0.6]}}, "base": {"by": {}}}}
    files.write_json(tmp_path / "scores.json", scores)
    fields = {"export.scores": str(tmp_path / "scores.json"), "export.datasets": ("slake",)}
    export_mode(make(fields | {"export.format": "peft", "export.base_name": "google/paligemma-3b-pt-448"}), tmp_path)
    card = (tmp_path / "peft/README.md").read_text()
    for text in (
        "not for clinical use",
        "google/paligemma-3b-pt-448",
        "Gemma Terms of Use",
        f"- slake: {licence_of('slake')}",
        "LoRA of rank 2, alpha 6",
        "| stage2 | 0.500 | 40 | 0.400 to 0.600 |",
        "largest difference of logits 0",
        "license: gemma",
    ):
        assert text in card
    assert "CC-BY-4.0" in licence_of("slake") and "names no licence" in licence_of("nowhere")
    files.write_json(tmp_path / "none.json", {"runs": {"a": {"overall": {"value": 0.5}}}})
    with pytest.raises(ValueError, match=r"runs\.a\.overall has no n"):
        read_scores(str(tmp_path / "none.json"))
    cell = {"value": 0.5, "n": 10, "interval": [0.4, 0.6]}
    for wrong in (
        [],
        "x",
        cell | {"value": "high"},
        cell | {"value": 17.0},
        cell | {"n": -3},
        cell | {"interval": "wide"},
    ):
        files.write_json(tmp_path / "wrong.json", {"runs": {"a": {"overall": wrong}}})
        with pytest.raises(ValueError, match=r"wrong\.json: runs\.a\.overall"):
            read_scores(str(tmp_path / "wrong.json"))
    with pytest.raises(ValueError, match="it has no `runs`"):
        files.write_json(tmp_path / "other.json", {})
        read_scores(str(tmp_path / "other.json"))


@pytest.mark.parametrize(("trained_with", "says"), [("{question}?", False), ("answer en {question}", True)])
def test_the_card_names_a_prompt_of_training_only_if_it_was_one(
    make: Make, adapter: Path, trained: Flat, tmp_path: Path, trained_with: str, says: bool
) -> None:
    config = make({"export.format": "peft", "data.prompt": "answer en {question}", "adapter_accept": ("data.prompt",)})
    use = make_use(config, Tokenizer(config.model.tokenizer).sha256)._replace(prompt=trained_with)
    save_adapter(tmp_path / "stage2", trained, inspect_adapter(adapter)[1]._replace(base_use=use))
    export_mode(replace(config, adapter=str(tmp_path / "stage2")), tmp_path)
    card = (tmp_path / "peft/README.md").read_text()
    assert "The prompt for questions is `answer en {question}`" in card
    assert ("as in the configuration of its training" in card) is says


def test_an_export_that_fails_its_check_leaves_the_old_one(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_mode(make(), tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "huggingface").iterdir()}
    real = export_module.verify.logits_of
    monkeypatch.setattr(export_module.verify, "logits_of", lambda v, lora, leaves, rows: real(
        v, lora, {**leaves, "img/head/bias": leaves["img/head/bias"] + (0 if lora else 1)}, rows))  # fmt: skip
    with pytest.raises(ValueError, match=r"does not give the model's logits: largest difference"):
        export_mode(make(), tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "huggingface").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"huggingface", ".huggingface.lock"}


def test_an_adapter_of_another_base_is_refused(make: Make, trained: Flat, tmp_path: Path) -> None:
    save_adapter(tmp_path / "x", trained, AdapterMeta("stage2", 5, LORA, "other.npz", "a" * 64, "c" * 64))
    with pytest.raises(ValueError, match=r"was trained on other\.npz"):
        export_mode(make({"adapter": str(tmp_path / "x")}), tmp_path)


def test_npz_to_a_folder_and_back_is_bit_for_bit(
    micro_config: Make, micro_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert_mode(micro_config({"mode": "convert", "convert.shard_gb": 2e-5}), tmp_path)
    folder = tmp_path / "huggingface"
    assert len(list(folder.glob("model-*.safetensors"))) > 2 and (folder / "tokenizer_config.json").is_file()
    first, last, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{micro_checkpoint}: 32 leaves") and "bit for bit as they were written" in last
    config = micro_config({"mode": "convert", "convert.format": "big_vision"})
    left_open = replace(config.model, checkpoint=str(folder), tokenizer="", variant="")
    config = resolve_model(replace(config, model=left_open))
    assert config.model.tokenizer == str(folder / "tokenizer.model")
    assert config.model.variant == "micro"  # by its sizes
    convert_mode(config, tmp_path)
    with np.load(micro_checkpoint) as old, np.load(tmp_path / "big_vision/model.npz") as new:
        assert set(old.files) == set(new.files)
        for name in old.files:
            assert old[name].dtype == new[name].dtype and old[name].tobytes() == new[name].tobytes()


@pytest.mark.parametrize("mode", ["convert", "export"])
def test_what_differs_from_the_checkpoint_is_printed(
    micro_config: Make, micro_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    with np.load(micro_checkpoint) as file:
        flat = {name.removeprefix("params/"): file[name] for name in file.files}
    table = flat["llm/embedder/input_embedding"]
    flat["llm/embedder/input_embedding"] = table[:-2]
    flat["img/head/kernel"].flat[0] = np.nan if mode == "convert" else 0  # an export is checked by its logits
    flat["what/else"] = flat.pop("img/head/bias")
    big_vision.save(tmp_path / "other.npz", flat)
    changed = {"model.checkpoint": str(tmp_path / "other.npz"), "model.resolution": 42}
    changed |= {"model.allow_missing": ("img/head/bias",), "model.allow_extra": ("what/.*",)}
    (convert_mode if mode == "convert" else export_mode)(micro_config(changed | {"mode": mode}), tmp_path)
    out = capsys.readouterr().out
    says = ["resampled img/pos_embedding: grid 2x2 to 3x3", "drawn img/head/bias", "ignored what/else"]
    says += ["extended llm/embedder/input_embedding"]
    says += ["img/head/kernel: 1 values are NaN, infinite or too large for the dtype"] * (mode == "convert")
    assert [line for line in says if f"  {line}" not in out] == []


def test_a_conversion_counts_values_that_are_too_large_for_the_new_dtype(
    micro_config: Make, micro_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(micro_checkpoint) as file:
        flat = {name.removeprefix("params/"): file[name] for name in file.files}
    flat["img/head/kernel"].flat[:2] = 65504, 1e5  # the largest float16, and one above it
    big_vision.save(tmp_path / "large.npz", flat)
    changed = {"model.checkpoint": str(tmp_path / "large.npz"), "convert.format": "big_vision"}
    for dtype, said in (("float16", True), ("bfloat16", False)):
        convert_mode(micro_config(changed | {"mode": "convert", "convert.dtype": dtype}), tmp_path / dtype)
        assert ("img/head/kernel: 1 values are NaN, infinite or too large" in capsys.readouterr().out) == said


EMBEDDED_MODEL = {
    "model.variant": "tiny",
    "model.checkpoint": str(EMBEDDED / "tiny_paligemma.npz"),
    "model.tokenizer": str(EMBEDDED / "tokenizer.model"),
}


@pytest.mark.parametrize("kind", ["huggingface", "big_vision"])
def test_a_unigram_tokenizer_gives_a_warning_if_transformers_will_read_it(
    micro_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """transformers builds a byte-pair encoder of any tokenizer.model; a folder with another kind must say so."""
    assert not Tokenizer(EMBEDDED / "tokenizer.model").is_bpe
    convert_mode(micro_config(EMBEDDED_MODEL | {"mode": "convert", "convert.format": kind}), tmp_path)
    assert (UNIGRAM in capsys.readouterr().out) == (kind == "huggingface")
    export_mode(micro_config(EMBEDDED_MODEL | {"mode": "export", "export.format": kind}), tmp_path / "export")
    assert (UNIGRAM in capsys.readouterr().out) == (kind == "huggingface")
    assert (UNIGRAM in (tmp_path / f"export/{kind}/README.md").read_text()) == (kind == "huggingface")


@pytest.mark.parametrize("mode", ["convert", "export"])
def test_gemmas_kind_of_tokenizer_gives_no_warning(
    micro_config: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    config = micro_config({"mode": mode})
    assert Tokenizer(config.model.tokenizer).is_bpe
    (convert_mode if mode == "convert" else export_mode)(config, tmp_path)
    assert "unigram" not in capsys.readouterr().out


def test_the_variant_follows_from_a_folder_and_a_contradiction_names_both(micro_config: Make, tmp_path: Path) -> None:
    convert_mode(micro_config({"mode": "convert", "model.resolution": 42}), tmp_path)
    folder = str(tmp_path / "huggingface")
    config = micro_config({"model.variant": "", "model.tokenizer": ""})
    found = resolve_model(replace(config, model=replace(config.model, checkpoint=folder))).model
    assert found.variant.startswith("custom{") and get_variant(found.variant).resolution == 42
    with pytest.raises(ValueError, match=r"model\.variant=micro and model\.checkpoint=.* contradict.*28 and 42"):
        resolve_model(replace(config, model=replace(config.model, checkpoint=folder, variant="micro")))
    other = str(EMBEDDED / "tokenizer.model")
    with pytest.raises(ValueError, match=r"model\.tokenizer=.* and .*tokenizer\.model have different tokens"):
        resolve_model(replace(config, model=replace(config.model, checkpoint=folder, tokenizer=other)))
    (tmp_path / "huggingface/config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config\.json in its folder, and its shapes match no known model"):
        resolve_model(replace(config, model=replace(config.model, checkpoint=folder)))


def test_a_native_checkpoint_tells_its_variant(micro_config: Make) -> None:
    config = micro_config({"model.variant": ""})
    assert resolve_model(config).model.variant == "micro"
    missing = replace(config, model=replace(config.model, checkpoint="nowhere.npz"))
    assert resolve_model(missing) == missing


def test_the_npz_of_an_export_is_a_plain_zip_of_arrays(make: Make, tmp_path: Path) -> None:
    export_mode(make({"export.format": "big_vision"}), tmp_path)
    with zipfile.ZipFile(tmp_path / "big_vision/model.npz") as archive:
        assert all(name.startswith("params/") and name.endswith(".npy") for name in archive.namelist())


@pytest.mark.parametrize("mode", ["convert", "export"])
def test_a_checkpoint_is_not_replaced_by_what_is_made_of_it(mode: str, micro_config: Make, tmp_path: Path) -> None:
    run = convert_mode if mode == "convert" else export_mode
    first = micro_config({"mode": mode})
    run(first, tmp_path)
    made = tmp_path / first.export.format
    before = {path.name: files.sha256(path) for path in made.iterdir()}
    with pytest.raises(ValueError, match=r"model\.checkpoint=.*huggingface is in .*, which is replaced"):
        run(micro_config({"mode": mode, "model.checkpoint": str(made)}), tmp_path)
    other = export_mode if mode == "convert" else convert_mode
    with pytest.raises(ValueError, match=r"huggingface holds .* would take its place"):
        other(micro_config({"mode": "export" if mode == "convert" else "convert"}), tmp_path)
    assert {path.name: files.sha256(path) for path in made.iterdir()} == before


def test_names_on_a_card_are_one_line_without_markup() -> None:
    score = {"name": "a|b\n<script>x</script>", "value": 0.5, "n": 4, "interval": None}
    text = render(Card("t", "peft", "b\n\n# c", "", "v", 224, "p", "float32", [], [("<b>", "l")], [score], "", [], "0"))
    assert r"| a\|b &lt;script&gt;x&lt;/script&gt; | 0.500 | 4 | none |" in text
    assert "- Base: b # c\n" in text and "- &lt;b&gt;: l" in text and "<script>" not in text
