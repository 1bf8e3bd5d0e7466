"""BLEU, ROUGE and word tokens are those of the libraries, for any text."""

import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer, PunktSentenceTokenizer
from nltk.translate.bleu_score import sentence_bleu
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from radvqa_jax.evaluation import llama32_med, med_idefics, medm, ngrams
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
    assert ngrams.sentence_bleu(reference, text, orders=orders) == wanted


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS | CHARACTERS.map(str.split), st.booleans())
def test_rouge_is_rouge_scores(reference: list[str], text: list[str], stem: bool) -> None:
    one, two = " ".join(reference), " ".join(text)
    wanted = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=stem).score(one, two)
    true, said = medm.rouge_tokens(one, stem=stem), medm.rouge_tokens(two, stem=stem)
    assert ngrams.rouge_n(true, said, 1) == wanted["rouge1"]
    assert ngrams.rouge_n(true, said, 2) == wanted["rouge2"]
    assert ngrams.rouge_l(true, said) == wanted["rougeL"]


@settings(max_examples=300, deadline=None)
@given(TOKENS.map(" ".join), TOKENS.map(" ".join) | CHARACTERS | PLAIN | SENTENCES)
def test_bleu_counts_are_sacrebleus(reference: str, text: str) -> None:
    made = Record("q", "i", "", reference, [text])
    found = BLEU(effective_order=True).sentence_score(llama32_med.cleaned(text), [llama32_med.cleaned(reference)])
    wanted = [*found.counts, *found.totals, found.sys_len, found.ref_len]
    assert llama32_med.bleu_counts([made])[0].tolist() == wanted


@settings(max_examples=400, deadline=None)
@given(CHARACTERS | SENTENCES | PLAIN)
def test_word_tokens_are_nltks(text: str) -> None:
    sentences = PunktSentenceTokenizer().tokenize(text)
    assert med_idefics.word_tokens(text) == [t for s in sentences for t in NLTKWordTokenizer().tokenize(s)]


def test_rouge_of_equal_texts() -> None:
    assert ngrams.rouge_l(["a", "b"], ["a", "b"]).fmeasure == pytest.approx(1)


@settings(max_examples=400, deadline=None)
@given(PLAIN | SENTENCES)
def test_plain_texts_are_split_alike(text: str) -> None:
    plain = ngrams.plain_tokens(text)
    if plain is not None:
        assert list(plain) == [
            t for s in PunktSentenceTokenizer().tokenize(text) for t in NLTKWordTokenizer().tokenize(s)
        ]
        assert list(plain) == Tokenizer13a()(text.rstrip()).split()


def test_ordinary_prose_is_plain() -> None:
    text = "yes. the image shows a right-sided effusion (small), and no mass. is it new? compare with earlier images!"
    assert ngrams.plain_tokens(text) is not None
