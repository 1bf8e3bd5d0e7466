"""Questions written from captions and cases: who writes them, how they are checked, which prepared set they become."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import Below1, Count, NotNegative, Positive, Share
from radvqa_jax.config.chat import ChatConfig
from radvqa_jax.config.data import SourceConfig


@dataclass(frozen=True)
class ChecksConfig:
    """What a written pair must pass (docs/synthesis.md has the list of checks)."""

    off: tuple[str, ...] = ()  # checks that do not count; a pair's line says `off` for each
    question_words: Positive = 40  # longest question
    answer_words: Positive = 60  # longest answer; MedM dropped answers of 60 words and more
    leak: Share = 0.6  # largest share of an answer's content words that its question may hold
    coverage: Share = 0.6  # least share of an answer's content words that caption and case must hold
    near: Share = 0.9  # similarity (0 to 1, of rapidfuzz) from which on two pairs about one image are the same
    jaccard: Share = 0.5  # Jaccard similarity of word 3-grams from which on two pairs of two sets are the same
    # Content words from which on a pair is compared with other sets; shorter ones recur by chance.
    near_words: Count = 8
    # Evaluation sets that written pairs may not repeat, beside eval.source and audit.also_evaluate.
    against: tuple[SourceConfig, ...] = ()
    # A pair is answered blind if the other cases' pairs with its question have its answer in at least this share …
    blind_share: Share = 0.9
    blind_seen: Positive = 20  # … of at least so many pairs,
    blind_answers: Count = (
        0  # or if a chat model gives its answer without the image so many times out of as many; 0 = not asked
    )
    blind: Literal["drop", "tag"] = "drop"  # what happens to a pair that can be answered blind
    entailment: bool = True  # ask the chat model whether caption and case support the pair; needs synthesis.chat
    round_trip: bool = True  # ask the chat model the question with caption and case, and compare; needs synthesis.chat
    balance: Share = (
        0.6  # largest share of one answer among the pairs with one question, of at least balance_seen pairs
    )
    balance_seen: Positive = 20  # pairs from which on balance counts


@dataclass(frozen=True)
class WritingConfig:
    """How candidate pairs are written (docs/synthesis.md says what each writer is)."""

    # (writer, share of the images it writes about): case, literature, caption and templates. Empty = templates, and
    # case where synthesis.chat.base_url is given.
    writers: tuple[tuple[str, Share], ...] = ()
    pairs: Positive = 4  # that `case` and `literature` are asked for about one image
    # (kind, share of the pairs that `case`, `literature` and `templates` make)
    kinds: tuple[tuple[str, NotNegative], ...] = (("open", 0.5), ("closed", 0.3), ("multiple_choice", 0.2))
    templates: tuple[str, ...] = ()  # names in synthesis/templates.py; empty = all
    template_pairs: Positive = 5  # that `templates` makes about one image at most
    temperature: NotNegative = 0.7  # instead of synthesis.chat.temperature
    max_tokens: Positive = 1024  # of a reply, instead of synthesis.chat.max_tokens
    attempts: Positive = 3  # replies asked for until one can be used; then the image is rejected for this writer
    max_failures: Positive = 5  # requests in a row that fail after their retries; then the run stops
    max_chars: Annotated[int, Interval(ge=100)] = (
        4000  # of each text that the model is shown; a longer one is cut in the middle
    )
    # Shares of the cases that become validation and test where a data set has a training split alone.
    held_out: tuple[Below1, Below1] = (0.05, 0.05)
    limit: Count = 0  # images written about; 0 = all. A smaller limit is part of a larger one.
    dry_run: bool = False  # print ten prompts and what all of them would take; send nothing
    prompt_price: NotNegative = 0.0  # of a million tokens of prompts, for the dry run; 0 = not said
    reply_price: NotNegative = 0.0  # of a million tokens of replies


@dataclass(frozen=True)
class SynthesisConfig:
    """mode=write_questions: captions and cases become question-answer pairs, checked, as a prepared set."""

    name: str = ""  # of the prepared set: dataset="written", builder_config=<name>, such as rocov2_questions
    sources: tuple[SourceConfig, ...] = ()  # prepared sets with captions or cases; all their splits are written
    chat: ChatConfig = field(default_factory=ChatConfig)  # who writes and checks; without a base_url templates alone
    writing: WritingConfig = field(default_factory=WritingConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    unchecked: bool = (
        False  # also prepare <name>_unchecked, of all candidates whether or not they passed, for ablations
    )
    plant: Below1 = 0.0  # share of pairs that are made false on purpose, for ablations on synthetic images alone
    measure: Count = 500  # phantoms on which each check's recall and precision are measured; 0 = not measured
    review_rows: Count = 0  # rows of review_pairs.csv to write; 0 = none
    review_images: bool = False  # write the images of these rows beside the sheet
    review_sheets: tuple[str, ...] = ()  # filled sheets to read
    review: Literal["report", "drop", "keep"] = (
        "report"  # what a person's verdict does: nothing, drop pairs, also keep some
    )
