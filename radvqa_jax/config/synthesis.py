"""Fields for questions written from captions and cases: the writers, the checks, and the prepared data set."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from radvqa_jax.config.bounds import LARGEST, Below1, Count, NotNegative, Positive, Share
from radvqa_jax.config.chat import ChatConfig
from radvqa_jax.config.data import SourceConfig


@dataclass(frozen=True)
class ChecksConfig:
    """The checks that a written pair must pass (docs/synthesis.md has the list)."""

    off: tuple[str, ...] = ()  # names of checks to ignore; each is `off` in a pair's line
    question_words: Positive = 40  # longest question
    answer_words: Positive = 60  # longest answer; MedM dropped answers of 60 words and more
    leak: Share = 0.6  # largest share of an answer's content words that may occur in its question
    coverage: Share = 0.6  # smallest share of an answer's content words that must occur in caption or case
    near: Share = 0.9  # similarity (rapidfuzz, 0 to 1) at which two pairs about one image count as the same
    jaccard: Share = 0.5  # Jaccard similarity of word 3-grams at which pairs of two sets count as the same
    # Fewest content words of a pair for it to be compared with other sets; shorter pairs recur by chance.
    near_words: Count = 8
    # Evaluation sets that written pairs may not repeat, in addition to eval.source and audit.also_evaluate.
    against: tuple[SourceConfig, ...] = ()
    # A pair counts as answerable without the image if, among other cases' pairs with the same question, at least this
    # share has the same answer.
    blind_share: Share = 0.9
    blind_seen: Positive = 20  # fewest such pairs for blind_share to apply
    # A pair also counts as answerable without the image if a chat model that does not see it gives the answer in all of
    # this many tries; 0 = no tries.
    blind_answers: Count = 0
    blind: Literal["drop", "tag"] = "drop"  # what to do with a pair that is answerable without the image
    entailment: bool = True  # ask the chat model whether caption and case support the pair; needs synthesis.chat
    # Ask the chat model the question with caption and case, and compare its answer; needs synthesis.chat.
    round_trip: bool = True
    balance: Share = (
        0.6  # largest share of one answer among the pairs with one question, of at least balance_seen pairs
    )
    balance_seen: Positive = 20  # fewest pairs with one question for which balance is checked


@dataclass(frozen=True)
class WritingConfig:
    """The writing of candidate pairs (docs/synthesis.md describes the writers)."""

    # (writer, share of the images it writes about); writers are case, literature, caption and templates. Empty =
    # templates, and case if synthesis.chat.base_url is set.
    writers: tuple[tuple[str, Share], ...] = ()
    pairs: Positive = 4  # pairs per image that `case` and `literature` ask the model for
    # (kind, share of the pairs); `case`, `literature` and `templates` follow it.
    kinds: tuple[tuple[str, NotNegative], ...] = (("open", 0.5), ("closed", 0.3), ("multiple_choice", 0.2))
    templates: tuple[str, ...] = ()  # names in synthesis/templates.py; empty = all
    template_pairs: Positive = 5  # most pairs per image that `templates` writes
    temperature: NotNegative = 0.7  # sampling temperature, instead of synthesis.chat.temperature
    max_tokens: Positive = 1024  # longest reply, instead of synthesis.chat.max_tokens
    attempts: Positive = 3  # requests per image until a reply is usable; after them the writer skips the image
    max_failures: Positive = 5  # requests that fail in a row, after their retries, before the run stops
    max_chars: Annotated[int, Interval(ge=100, le=LARGEST)] = (
        4000  # longest text in a prompt, in characters; a longer one is cut in the middle
    )
    # Shares of the cases for validation and test, if a data set has only a training split.
    held_out: tuple[Below1, Below1] = (0.05, 0.05)
    limit: Count = 0  # images to write about; 0 = all. A larger limit includes the images of a smaller one.
    dry_run: bool = False  # print ten prompts and the cost of all; send nothing
    prompt_price: NotNegative = 0.0  # price of a million prompt tokens, for the dry run; 0 = unknown
    reply_price: NotNegative = 0.0  # price of a million reply tokens


@dataclass(frozen=True)
class SynthesisConfig:
    """mode=write_questions: turns captions and cases into checked question-answer pairs, as a prepared data set."""

    # Name of the prepared set, such as rocov2_questions: sources read it as dataset="written", builder_config=<name>.
    name: str = ""
    sources: tuple[SourceConfig, ...] = ()  # prepared data sets with captions or cases; all their splits are used
    chat: ChatConfig = field(
        default_factory=ChatConfig
    )  # the model that writes and checks; without a base_url, only templates write
    writing: WritingConfig = field(default_factory=WritingConfig)
    checks: ChecksConfig = field(default_factory=ChecksConfig)
    unchecked: bool = False  # also prepare <name>_unchecked from all candidates, passed or not, for ablations
    plant: Below1 = 0.0  # share of pairs to make false on purpose, for ablations on synthetic images only
    measure: Count = 500  # phantom images for measuring each check's recall and precision; 0 = no measurement
    review_rows: Count = 0  # rows of review_pairs.csv to write; 0 = none
    review_images: bool = False  # write the images of these rows to the folder of the sheet
    review_sheets: tuple[str, ...] = ()  # filled sheets to read
    # Effect of the readers' verdicts. report: none; drop: pairs that a reader discards are rejected; keep: in addition,
    # rejected pairs that every reader passes are accepted.
    review: Literal["report", "drop", "keep"] = "report"
