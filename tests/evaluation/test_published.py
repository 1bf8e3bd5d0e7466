"""The published metrics: equal to independent implementations and to values their authors stored, flaws included."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from radvqa_jax.evaluation import llama32_med, med_idefics, medm
from radvqa_jax.evaluation.published import SYSTEMS, published_table, score_published
from radvqa_jax.files import read_jsonl, write_jsonl
from radvqa_jax.schema import Record


def record(reference: str, prediction: str, **fields: Any) -> Record:
    fields = {"question_id": "q", "image_id": "i", "question": "Is it?"} | fields
    return Record(reference=reference, predictions=[prediction], logprobs=[], **fields)


# Question, reference, reply and values as stored in the authors' RESULTS/baseline_results.json (NLTK 3.8.1).
STORED = [
    ("no", "no.", True, 0.6666666666666666, 0.5),
    ("yes", "no.", False, 0, 0),
    ("left", "the colon is more prominent on the left side.", True, 0.18181818181818182, 0.10000000000000002),
    ("left", "left colon.", True, 0.5, 0.3333333333333333),
    ("plain film x-ray", "chest x-ray.", False, 0.3333333333333333, 0.3333333333333333),
    ("ct with contrast", "ct.", False, 0.4, 0.3032653298563167),
    ("no", "not based on the imaging findings.", True, 0, 0),
    ("the diaphragm", "sigmoid flexture of the colon.", False, 0.25, 0.16666666666666669),
    (
        "the right bronchus",
        "in the right lung, there is a lucency amid densities which represents the right heart in the",
        False,
        0.1904761904761905,
        0.11111111111111109,
    ),
]


@pytest.mark.parametrize(("reference", "reply", "exact", "f1", "bleu"), STORED)
def test_med_idefics_gives_what_its_authors_stored(
    reference: str, reply: str, exact: bool, f1: float, bleu: float
) -> None:
    found = med_idefics.per_answer([record(reference, reply)])
    assert found["containment"][0] == exact
    assert found["f1"][0] == pytest.approx(f1, rel=1e-12) and found["bleu1"][0] == pytest.approx(bleu, rel=1e-12)


class Independent:
    """Med-Idefics' metrics written again from their description, sharing no code with the package or with NLTK."""

    @staticmethod
    def tokens(text: str) -> list[str]:
        """Words and marks; texts in these tests have no quotation marks, brackets or contractions."""
        text = re.sub(r"(?<!\d),|,(?!\d)", " , ", text)
        pieces = re.sub(r"([?!;:])", r" \1 ", text).split()
        found = []
        for index, piece in enumerate(pieces):
            # A full stop stands apart at the end of a sentence: before the end, or before a piece that may begin one.
            if len(piece) > 1 and piece.endswith("."):
                last = index == len(pieces) - 1
                assert last, "only the last piece of these texts ends with a full stop"
                found += [piece[:-1], "."]
            else:
                found.append(piece)
        return found

    @staticmethod
    def score(reference: str, reply: str) -> tuple[float, float, float]:
        reference, raw = reference.lower(), reply.lower()
        cut = raw
        if "answer:" in cut:
            cut = cut.split("answer:", 1)[1].split("question:", 1)[0].strip()
        cut = "".join(cut.split("assistant:")).strip()
        true, said = Independent.tokens(reference), Independent.tokens(cut)
        common = sum(1 for word in {*true} if word in said)
        precision, recall = common / max(len(said), 1), common / max(len(true), 1)
        f1 = 0.0 if common == 0 else 2 / (1 / precision + 1 / recall)
        clipped = sum((Counter(true) & Counter(said)).values())
        bleu = 0.0 if not clipped else clipped / len(said) * math.exp(min(0.0, 1 - len(true) / len(said)))
        return float(raw.find(reference) >= 0), f1, bleu


WORDS = st.lists(
    st.sampled_from("no Yes left lung, the the x-ray 2.5 cm normal heart not; of answer: assistant:".split())
)
TEXT = st.tuples(WORDS, st.sampled_from(["", ".", "?"])).map(lambda parts: " ".join(parts[0]) + parts[1])


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(TEXT.filter(str.strip), TEXT), min_size=1, max_size=4))
def test_med_idefics_equals_an_independent_implementation(pairs: list[tuple[str, str]]) -> None:
    found = med_idefics.per_answer([record(*pair) for pair in pairs])
    wanted = np.array([Independent.score(*pair) for pair in pairs])
    for column, name in enumerate(("containment", "f1", "bleu1")):
        np.testing.assert_allclose(found[name], wanted[:, column], rtol=1e-12, atol=1e-300)


def test_med_idefics_from_a_predictions_file(tmp_path: Path) -> None:
    rows = [record(ref, reply, question_id=str(i), image_id=str(i // 2)) for i, (ref, reply, *_) in enumerate(STORED)]
    write_jsonl(tmp_path / "predictions.jsonl", [row.to_json() for row in rows])
    read = [Record.from_json(row) for row in read_jsonl(tmp_path / "predictions.jsonl")]
    found = score_published(read, ["med_idefics"], resamples=200)["med_idefics"]
    wanted = np.array([Independent.score(row.reference, row.predictions[0]) for row in rows]).mean(axis=0)
    assert [found[name]["value"] for name in ("containment", "f1", "bleu1")] == pytest.approx(wanted.tolist())
    assert found["f1"]["n"] == len(STORED) and found["f1"]["package"].startswith("nltk 3.")


def test_most_of_the_gain_is_a_full_stop() -> None:
    stop, bare = (med_idefics.per_answer([record("no", reply)]) for reply in ("no.", "no"))
    assert stop["f1"][0] < bare["f1"][0] == 1
    assert stop["f1_no_punctuation"][0] == bare["f1_no_punctuation"][0] == 1
    assert stop["bleu1_no_punctuation"][0] == bare["bleu1_no_punctuation"][0] == pytest.approx(1)


def test_containment_is_fooled_as_its_docstring_says() -> None:
    found = med_idefics.per_answer(
        [record("No", "The image is normal"), record("Yes", "yes no"), record("No", "yes no")]
    )
    assert found["containment"].tolist() == [1, 1, 1]


def test_medm_rouge_by_hand() -> None:
    found = medm.per_answer([record("the left lungs", "left lung")])
    assert found["rouge1"][0] == pytest.approx(0.8) and found["rouge2"][0] == pytest.approx(2 / 3)  # stemmed
    assert found["rougeL"][0] == pytest.approx(0.8)
    found = medm.per_answer([record("a b c d e", "a b c d")])
    assert found["bleu4"][0] == pytest.approx(math.exp(1 - 5 / 4))
    assert medm.per_answer([record("yes", "yes")])["bleu4"][0] < 1e-200  # the stored 1e-231 of the authors


def test_medm_with_the_prompt_is_the_reply_after_the_prompt() -> None:
    row = record("left lung", "right", question="Which lung?", prompt="answer en Which lung?")
    glued = record("left lung", "answer en Which lung?\nright", question="Which lung?")
    found, wanted = medm.per_answer([row]), medm.per_answer([glued])
    for name in ("rouge1", "rouge2", "rougeL", "bleu4"):
        assert found[f"{name}_with_prompt"][0] == wanted[name][0]
    assert found["rouge1_with_prompt"][0] > found["rouge1"][0] == 0  # the question says "lung"
    assert medm.prompt_of(row._replace(prompt="")) == "answer en Which lung?\n"


def test_medm_labels() -> None:
    rows = [record("CT", reply, choices=["MRI", "CT"]) for reply in ("ct", " B ", "B.", "MRI")]
    assert medm.per_answer(rows)["label_accuracy"].tolist() == [1, 1, 0, 0]


def test_llama32_med_closed_is_yes_or_no() -> None:
    rows = [
        record("Yes", "The answer is: yes.", question_id="0", image_id="0", answer_type="open"),
        record("no", "Yes", question_id="1", image_id="1"),
        record("axial", "The answer is: Axial", question_id="2", image_id="1", answer_type="closed"),
    ]
    found = score_published(rows, ["llama32_med"], resamples=100)["llama32_med"]
    assert (found["string_match_closed"]["value"], found["string_match_closed"]["n"]) == (0.5, 2)
    assert (found["string_match_open"]["value"], found["string_match_open"]["n"]) == (1.0, 1)
    assert found["string_match"]["value"] == pytest.approx(2 / 3)
    assert "string_match_open" not in score_published(rows[:2], ["llama32_med"], resamples=100)["llama32_med"]


def test_llama32_med_bleu_is_sacrebleu() -> None:
    rows = [
        record(*pair, question_id=str(i), image_id=str(i))
        for i, pair in enumerate(
            [("a mass in the left lung", "a mass in the right lung"), ("yes", "no"), ("ct", "ct scan of it")]
        )
    ]
    said, true = [r.predictions[0] for r in rows], [r.reference for r in rows]
    assert llama32_med.corpus_bleu(llama32_med.bleu_counts(rows).sum(axis=0)) == pytest.approx(
        BLEU().corpus_score(said, [true]).score / 100
    )
    found = score_published(rows, ["llama32_med"], resamples=300)["llama32_med"]["bleu"]
    assert found["interval"] is None and found["package"].startswith("sacrebleu 2.")  # too few images
    rows = [rows[i % 3]._replace(question_id=str(i), image_id=str(i)) for i in range(60)]
    found = score_published(rows, ["llama32_med"], resamples=300)["llama32_med"]["bleu"]
    assert found["interval"][0] <= found["value"] <= found["interval"][1]


def test_bertscore_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [record("a", "b")]
    with pytest.raises(
        ValueError, match=r"score.bertscore_model='roberta-large' must be a folder.*nothing is downloaded"
    ):
        llama32_med.bertscore(rows, model="roberta-large")
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2}')
    monkeypatch.setitem(__import__("sys").modules, "bert_score", None)
    with pytest.raises(ValueError, match=r"pip install 'radvqa_jax\[bertscore\]'"):
        llama32_med.bertscore(rows, model=str(tmp_path))


@pytest.mark.torch
@pytest.mark.slow
def test_bertscore_of_a_tiny_encoder(tmp_path: Path) -> None:
    pytest.importorskip("bert_score")
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join("[PAD] [UNK] [CLS] [SEP] [MASK] left right lung no mass".split()))
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    transformers.BertTokenizer(str(tmp_path / "vocab.txt"), model_max_length=32).save_pretrained(tmp_path)
    same, other = llama32_med.bertscore(
        [record("left lung", "left lung"), record("left lung", "no mass")], model=str(tmp_path)
    )
    assert same == pytest.approx(1, abs=1e-5) and other < same


def test_cells_and_table() -> None:
    rows = [
        record("yes", "Yes", question_id=str(i), image_id=str(i // 2), organ="lung" if i < 4 else "") for i in range(8)
    ]
    found = score_published(rows, list(SYSTEMS), resamples=100)
    assert list(found) == ["medm", "med_idefics", "llama32_med"]
    for metrics in found.values():
        for name, cell in metrics.items():
            assert (
                cell["n"] in (4, 8) and 0 <= cell["value"] <= 1 and re.fullmatch(r"[\w-]+ \d[\w.]*", cell["package"])
            ), name
    assert found["medm"]["rouge1"]["by"] == {"organ": {"lung": found["medm"]["rouge1"]["by"]["organ"]["lung"]}}
    assert found["medm"]["rouge1"]["by"]["organ"]["lung"]["n"] == 4
    table = published_table({"base": found, "other": {}})
    assert table[0] == ["published metric", "package", "base", "other"]
    assert {len(line) for line in table} == {4} and all(line[3] == "-" for line in table[1:])
    assert score_published([], ["medm"]) == {}
    with pytest.raises(ValueError, match=r"no published metrics of \['rouge'\]"):
        score_published(rows, ["rouge"])
