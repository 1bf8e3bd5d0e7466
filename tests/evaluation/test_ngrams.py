"""BLEU, ROUGE and word tokens are those of the libraries, for any text."""

import warnings

import pytest
import rouge_score.tokenize
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from radvqa_jax.evaluation import llama32_med, tokens
from radvqa_jax.evaluation.ngrams import Overlap
from radvqa_jax.schema import Record

WORDS = st.sampled_from("the left right lung lungs running effusion of a no is not 5 mm x-ray T2-weighted it's".split())
TOKENS = st.lists(WORDS, max_size=14)
PLAIN = st.text(st.sampled_from("abc5 .,?!()-\n"), max_size=30)
CHARACTERS = st.text(st.sampled_from("ab5 .,;:!?'\"`()-*$&%<>\n\u2019\u2014\u00e9C"), max_size=40)
_PARTS = [
    *["a mass, in the lung.", "yes.", "cannot", "gonna go", "d'ye", "it's 3,5 cm", "e.g. (this)", "--", "the end"],
    *[
        "wanna",
        "5,6",
        "lung,heart",
        "vs. the",
        "a - b",
        "gimme, lemme",
        "'tis",
        "more'n",
        "t2-weighted\nmri",
        ")",
        "x,",
    ],
]
SENTENCES = st.lists(st.sampled_from(_PARTS), max_size=6).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS, st.sampled_from([1, 2, 4]))
@example([], ["a"], 4)
@example(["a"], [], 4)
def test_sentence_bleu_is_nltks(reference: list[str], text: list[str], orders: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = sentence_bleu([reference], text, weights=(1 / orders,) * orders)
    assert Overlap(reference, text).sentence_bleu(orders=orders) == wanted


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS | CHARACTERS.map(str.split), st.booleans())
def test_rouge_is_rouge_scores(reference: list[str], text: list[str], stem: bool) -> None:
    one, two = " ".join(reference), " ".join(text)
    wanted = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem).score(one, two)
    true, said = tokens.rouge_tokens(one, stem=stem), tokens.rouge_tokens(two, stem=stem)
    common = Overlap(true, said)
    assert common.rouge_n(1) == wanted["rouge1"]
    assert common.rouge_n(2) == wanted["rouge2"]
    assert common.rouge_l() == wanted["rougeL"]


@settings(max_examples=300, deadline=None)
@given(TOKENS.map(" ".join), TOKENS.map(" ".join) | CHARACTERS | PLAIN | SENTENCES)
def test_bleu_counts_are_sacrebleus(reference: str, text: str) -> None:
    made = Record("q", "i", "", reference, [text])
    found = BLEU(effective_order=True).sentence_score(llama32_med.cleaned(text), [llama32_med.cleaned(reference)])
    wanted = [*found.counts, *found.totals, found.sys_len, found.ref_len]
    assert llama32_med.bleu_counts([made])[0].tolist() == wanted


PROSE = """yes. no! left right lung lungs, (small) mass; 5.5 cm, 10:30 5-6 3/4 patient's don't we've t2-weighted
**bold** 1. 2. 12. a. e.g. fig. x). 50% >5 & # - -- _x_ [1] it's, cannot. wanna more'n d'ye :, ,, .5 u.s. 'tis
patients' "quoted" \u201cquoted\u201d \u00e9 \u2013 Dr. 1.5. 5.) ?! .. ... <a> {b} a,b a--b. b_c. \u03bc""".split()
TEXTS = st.lists(st.sampled_from([*PROSE, "\n", "\n-", "\t"]), max_size=25).map(" ".join)


@settings(max_examples=500, deadline=None)
@given(TEXTS | CHARACTERS | SENTENCES | PLAIN)
@example("the mass.) is")
@example("a55. foo 1. foo 1. 2. foo 2000. foo (1. foo")
def test_nltk_tokens_are_nltks(text: str) -> None:
    sentences = PunktSentenceTokenizer().tokenize(text)
    assert tokens.nltk_tokens(text) == [t for s in sentences for t in NLTKWordTokenizer().tokenize(s)]


@settings(max_examples=600, deadline=None)
@given(TEXTS | CHARACTERS | SENTENCES | PLAIN)
@example("a -\nb <skipped> &amp; .5 5. ,, 5-")
def test_sacrebleu_tokens_are_sacrebleus(text: str) -> None:
    assert tokens.sacrebleu_tokens(text) == Tokenizer13a()(text.rstrip()).split()


@settings(max_examples=600, deadline=None)
@given(TEXTS | CHARACTERS, st.booleans())
def test_rouge_tokens_are_rouge_scores(text: str, stem: bool) -> None:
    stemmer = PorterStemmer() if stem else None
    assert tokens.rouge_tokens(text, stem=stem) == rouge_score.tokenize.tokenize(text, stemmer)


def test_ordinary_prose_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "yes. the image shows a right-sided effusion (5.5 cm), and no mass. is it new? 1. compare with the patient's"
    wanted = tokens.nltk_tokens(text)
    monkeypatch.setattr(tokens, "_nltk", lambda _: pytest.fail("the library was asked"))
    assert tokens.nltk_tokens(text) == wanted


def test_rouge_of_equal_texts() -> None:
    assert Overlap(["a", "b"], ["a", "b"]).rouge_l().fmeasure == pytest.approx(1)
