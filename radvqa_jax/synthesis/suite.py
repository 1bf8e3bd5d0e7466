"""The configured checks of written pairs, in the order of cost."""

import functools
from collections.abc import Callable, Iterable, Sequence

from radvqa_jax.config import ChecksConfig
from radvqa_jax.synthesis import balance, blind, duplicates, rules
from radvqa_jax.synthesis.checks import Check, Item, each
from radvqa_jax.synthesis.support import find_span, support

_ABOUT = {
    "history": "It rests on history, symptoms, treatment or a laboratory, which no image shows.",
    "age": "It names an age.",
    "date": "It names a date.",
    "measurement": "It rests on a measured number.",
    "code": "It holds a code, an identifier or an address.",
    "name": "It holds the name of a person or an institution.",
    "caption_wording": "It speaks of its caption or of a part of a figure.",
    "filler": "It holds what a chat model says around an answer, or a placeholder.",
    "unanswered": "Its answer is that there is none.",
    "leak": "Its question holds the answer.",
    "form": "Its answer does not fit the form of its question.",
    "options": "Its options are too few, equal, or lack the answer.",
    "length": "Its question or answer is too long.",
    "language": "It is not in English.",
}


def wording(item: Item) -> rules.Wording:
    """The parts of a pair that the rules read."""
    pair = item.candidate
    return rules.Wording(pair.question, pair.answer, pair.kind, tuple(pair.choices), pair.answerable_from_image)


def _evidence(item: Item) -> str:
    return item.evidence.text(literature=not item.candidate.answerable_from_image)


def _span(item: Item) -> str:
    """The reason why the evidence does not contain the writer's support, or an empty text."""
    pair = item.candidate
    if not pair.support.strip():
        return "the writer names no words of the caption" if pair.writer == "case" else ""
    if find_span(pair.support, _evidence(item)):
        return ""
    return f"these words are not in the evidence: {pair.support[:80]!r}"


def _words(item: Item, *, least: float) -> str:
    """The reason why the evidence does not support a pair, or an empty text."""
    pair = item.candidate
    found = support(pair.question, pair.answer, _evidence(item), least=least)
    return "" if found.verdict == "supported" else found.reason


def rule_checks(config: ChecksConfig) -> list[Check]:
    """The checks on the wording of single pairs."""
    limits = rules.Limits(config.question_words, config.answer_words, config.leak)

    def of_item(rule: rules.Rule) -> Callable[[Item], str]:
        return lambda item: rule(wording(item))

    return [
        Check(name, version, "rules", _ABOUT[name], each(of_item(rule)), on_all=True)
        for name, (version, rule) in rules.text_rules(limits).items()
    ]


def support_checks(config: ChecksConfig) -> list[Check]:
    """The checks of a pair against its evidence, word by word."""
    return [
        Check("span", "2", "support", "The words that support it are not in the caption.", each(_span), on_all=True),
        Check(
            "words",
            "2",
            "support",
            "Caption and case contradict it, or do not say it: side, negation, modality, plane, finding, words.",
            each(functools.partial(_words, least=config.coverage)),
            on_all=True,
        ),
    ]


def duplicate_checks(config: ChecksConfig, known: Iterable[duplicates.Known]) -> list[Check]:
    """The checks for repeated pairs; `known` are the questions of evaluated sets."""
    held = list(known)
    across = functools.partial(duplicates.across_sets, known=held, jaccard=config.jaccard, least=config.near_words)
    return [
        Check(
            "duplicate",
            "1",
            "duplicates",
            "It repeats an earlier pair about the same image, or answers its question otherwise.",
            functools.partial(duplicates.within_images, near=config.near),
        ),
        Check("contamination", "1", "duplicates", "It repeats a pair of a later split or an evaluated set.", across),
    ]


def blind_check(config: ChecksConfig) -> Check:
    """The check by the question-only lookup."""
    run = functools.partial(blind.lookup, share=config.blind_share, seen=config.blind_seen, tag=config.blind == "tag")
    return Check("blind_lookup", "1", "blind", "Its wording is answered right without any image.", run)


def balance_check(config: ChecksConfig, *, seed: int) -> Check:
    """The check that balances answers."""
    run = functools.partial(balance.even_out, share=config.balance, seen=config.balance_seen, seed=seed)
    return Check("balance", "2", "balance", "Its answer is too common among the pairs of its wording.", run)


def all_checks(
    config: ChecksConfig, *, known: Iterable[duplicates.Known], chat: Sequence[Check] = (), seed: int = 0
) -> list[Check]:
    """Every check, in the order in which they run.

    Args:
        config: their settings.
        known: questions of sets that are evaluated.
        chat: the checks that ask a chat model (chat_checks.py).
        seed: of the draws that balance answers.
    """
    return [
        *rule_checks(config),
        *support_checks(config),
        *duplicate_checks(config, known),
        blind_check(config),
        *chat,
        balance_check(config, seed=seed),
    ]
