"""A language model judges the answers in a predictions file. Replies are kept; answers without verdict are unjudged."""

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from radvqa_jax import progress
from radvqa_jax.chat_client import BudgetSpent, ChatClient, EndpointError, NotCached
from radvqa_jax.config import JudgeConfig
from radvqa_jax.evaluation import attacks, judge_prompts
from radvqa_jax.evaluation.judge_file import (
    Judged,
    JudgeFile,
    content_hash,
    group,
    judge_path,
    question_hash,
    read_lines,
)
from radvqa_jax.evaluation.judge_prompts import RUBRICS, NoVerdict, Rubric
from radvqa_jax.files import append_jsonl, sha256, write_json
from radvqa_jax.schema import Record

ENDPOINT = "endpoint"


class Item(NamedTuple):
    """One thing to judge."""

    record: Record
    prediction: str
    attack: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The content that identifies the item; equal items are asked once."""
        return self.attack, content_hash(self.record, self.prediction)


class JudgingStopped(ValueError):
    """The judge stopped before it finished; its verdicts so far are kept."""


def describe_judge(config: JudgeConfig, rubric: Rubric) -> dict[str, Any]:
    """The settings that determine the verdicts: the model, the wording and the sampling."""
    return {
        "model": config.model,
        "prompt": rubric.name,
        "prompt_sha256": judge_prompts.prompt_sha256(rubric, config),
        "with_question": config.with_question,
        "scores": list(rubric.scores),
        "correct_from": rubric.correct_from,
        "temperature": config.temperature,
        "seed": config.seed,
        "max_tokens": config.max_tokens,
        "response_format": config.response_format,
        "attempts": config.attempts,
        "max_chars": config.max_chars,
    }


def judge_name(about: dict[str, Any]) -> str:
    """A short name for a judge with these settings, for files and tables."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return f"{about['prompt']}-{digest[:8]}"


def verdicts_path(predictions: Path, config: JudgeConfig) -> Path:
    """The file of verdicts next to a predictions file; other settings that determine verdicts give another name."""
    return judge_path(predictions, judge_name(describe_judge(config, RUBRICS[config.prompt])))


def count_requests(client: ChatClient, rubric: Rubric, items: Sequence[Item], todo: Sequence[Item]) -> str:
    """Sentences on the number of requests that remain, before the first is sent; attacks are counted apart."""
    config = client.config
    assert isinstance(config, JudgeConfig)
    lines = []
    for what, wanted in (("answers", False), ("attacks", True)):
        own = [item for item in items if bool(item.attack) == wanted]
        left = [item for item in todo if bool(item.attack) == wanted]
        kept = sum(_is_cached(client, rubric, item) for item in left)
        if own:
            lines.append(
                f"{len(own)} distinct {what}: {len(own) - len(left)} have a verdict, {kept} have a reply in the cache, "
                f"{len(left) - kept} are to be asked."
            )
    most = config.attempts
    again = f" Each is asked up to {most} times until a reply is a verdict (judge.attempts)." if most > 1 else ""
    if any(item.attack for item in todo):
        again += " judge.attacks=0 leaves the attacks out."
    if config.max_calls and len(todo) > config.max_calls:
        again += f" judge.max_calls={config.max_calls} will stop this run before its end."
    return f"{config.model} judges. " + " ".join(lines) + again


def announce(items: Sequence[Item], config: JudgeConfig) -> str:
    """A sentence on what the judge sends and to which endpoint, without the content itself."""
    record = items[0].record
    lengths = {"question": record.question, "ground_truth": record.reference, "answer": items[0].prediction}
    if not config.with_question:
        del lengths["question"]
    example = ", ".join(f"{name}: <{len(text)} characters>" for name, text in lengths.items())
    options = " and the options of multiple-choice questions" if any(item.record.choices for item in items) else ""
    return (
        f"To {config.base_url}, which is not this machine, go {', '.join(lengths)} of {len(items)} answers{options}; "
        f"no image, no id, no other field. The first: {example}."
    )


def _question(
    config: JudgeConfig, rubric: Rubric, item: Item, *, attempt: int
) -> tuple[list[dict[str, str]], str, int]:
    """(messages, mark, seed) of an attempt; each attempt has its own seed, so that the cache does not answer it."""
    messages, mark = judge_prompts.make_messages(
        rubric,
        config,
        question=item.record.question,
        reference=item.record.reference,
        prediction=item.prediction,
        choices=item.record.choices,
        attempt=attempt,
    )
    return messages, mark, config.seed + attempt


def _is_cached(client: ChatClient, rubric: Rubric, item: Item) -> bool:
    assert isinstance(client.config, JudgeConfig)
    messages, _, seed = _question(client.config, rubric, item, attempt=0)
    return client.is_cached(messages, schema=judge_prompts.schema(rubric), seed=seed)


def ask_verdict(client: ChatClient, rubric: Rubric, item: Item) -> Judged:
    """Asks for the verdict on one item; gives the verdict, or the reason why there is none.

    If a reply is not a verdict, the judge is asked again with another seed, up to `judge.attempts` times in all.

    Raises:
        EndpointError: if every other request would fail in the same way.
        BudgetSpent: if the budget allows no further request.
    """
    config, record = client.config, item.record
    assert isinstance(config, JudgeConfig)
    line = Judged(
        item.key[1],
        "unjudged",
        None,
        "",
        question_id=record.question_id,
        source=record.source,
        attack=item.attack,
        attacked=question_hash(record) if item.attack else "",
    )
    for attempt in range(config.attempts):
        messages, mark, seed = _question(config, rubric, item, attempt=attempt)
        try:
            reply = client.ask(messages, schema=judge_prompts.schema(rubric), seed=seed)
        except NotCached:
            return line._replace(why=f"{ENDPOINT}: offline, and not in the cache")
        except EndpointError as error:
            if error.final:
                raise
            return line._replace(why=f"{ENDPOINT}: {error.kind}")
        line = line._replace(attempts=attempt + 1, model=reply.model, reply_id=reply.key)
        try:
            verdict = judge_prompts.parse_verdict(reply.text, rubric=rubric, mark=mark)
        except NoVerdict as error:
            cut = " (cut at judge.max_tokens)" if reply.finish == "length" else ""
            line = line._replace(why=f"no verdict: {error}{cut}")
            continue
        return line._replace(state="judged", score=verdict.score, reason=verdict.reason, why="")
    return line


def make_items(records: Sequence[Record], rubric: Rubric, *, questions_attacked: int, seed: int) -> list[Item]:
    """The items to judge: the first answer of each record and the attacks, each distinct content once."""
    items = [Item(record, record.predictions[0]) for record in records if record.predictions]
    made = attacks.make_attacks(records, questions=questions_attacked, best=rubric.scores[-1], seed=seed)
    items += [Item(attack.record, attack.prediction, attack.name) for attack in made]
    return list({item.key: item for item in items}.values())


def _each(client: ChatClient, rubric: Rubric, items: Sequence[Item]) -> Generator[Judged, None, None]:
    """Yields verdicts as they come; before an error is raised, the verdicts in flight are yielded.

    Only a few items are requested ahead, so that few requests follow the last failure that is allowed. Closing the
    generator stops the client.
    """
    waiting, asked = iter(items), set[Future[Judged]]()
    errors: list[BaseException] = []
    with client.threads() as pool:
        while True:
            if not errors:
                for item in itertools.islice(waiting, client.config.concurrency + 1 - len(asked)):
                    asked.add(pool.submit(ask_verdict, client, rubric, item))
            if not asked:
                break
            done, asked = wait(asked, return_when=FIRST_COMPLETED)
            errors += [error for future in done if (error := future.exception()) is not None]
            for future in done:
                if future.exception() is None:
                    yield future.result()
            if errors:
                asked = {future for future in asked if not future.cancel()}
    if errors:
        raise errors[0]


def judge(
    records: Sequence[Record], *, predictions: Path, config: JudgeConfig, cache: Path, seed: int = 0
) -> JudgeFile:
    """Judges a predictions file, and writes the verdicts next to it as they come.

    An item that has a verdict, or was given up after `judge.attempts` replies, is not asked again; an item that the
    endpoint failed to answer is.

    Args:
        records: of the predictions file.
        predictions: its path; the verdicts are written next to it (`judge_file`).
        config: endpoint, prompt and limits.
        cache: file of replies.
        seed: of the choice of questions that are attacked.

    Raises:
        ValueError: if the endpoint may not be asked, or the run stopped before its end (`JudgingStopped`).
    """
    rubric = RUBRICS[config.prompt]
    about = describe_judge(config, rubric)
    name = judge_name(about)
    path = judge_path(predictions, name)
    items = make_items(records, rubric, questions_attacked=config.attacks, seed=seed)
    lines = {(line.attack, line.content): line for line in read_lines(path)}
    todo = [item for item in items if (line := lines.get(item.key)) is None or not line.settled]
    client = ChatClient(config, cache=cache)
    host = urlsplit(config.base_url).hostname
    write_json(path.with_suffix(".json"), about | {"host": host, "predictions_sha256": sha256(predictions)})
    if todo and not config.offline:
        print(count_requests(client, rubric, items, todo), flush=True)
        if config.allow_remote:
            print(announce(todo, config), flush=True)
    try:
        with contextlib.closing(_each(client, rubric, todo)) as verdicts:
            for line in _progress(verdicts, len(todo), config):
                append_jsonl(path, [line._asdict()])
                lines[line.attack, line.content] = line
    except (BudgetSpent, EndpointError, JudgingStopped) as error:
        left = sum((line := lines.get(item.key)) is None or not line.settled for item in items)
        raise JudgingStopped(
            f"{error} {len(items) - left} of {len(items)} are judged and kept in {path.name}; start again to continue."
        ) from error
    finally:
        if client.calls:
            print(describe_use(client), flush=True)
        client.close()
    # Lines of earlier answers or attacks stay in the file and are not counted.
    return group(name, about, (lines[item.key] for item in items))


def _progress(lines: Iterator[Judged], total: int, config: JudgeConfig) -> Iterator[Judged]:
    """Yields the lines and shows a progress bar with the time left; stops after too many failures in a row."""
    failures = 0
    for line in progress.bar(lines, name="verdicts of the judge", total=total, unit="answer"):
        yield line
        failures = 0 if line.settled or config.offline else failures + 1
        if failures == config.max_failures:
            raise JudgingStopped(f"{config.base_url} failed {failures} times in a row ({line.why}).")


def describe_use(client: ChatClient) -> str:
    """Summarises the requests that a run sent, in one sentence."""
    about = "about " if client.estimated else ""
    why = " (an estimate: the endpoint does not count them)" if client.estimated else ""
    return f"{client.calls} requests were sent, repeated ones included; they took {about}{client.tokens} tokens{why}."


def format_summary(judged: JudgeFile) -> str:
    """Summarises the results of a run of the judge, for the terminal."""
    lines = list(judged.answers.values())
    why = Counter(line.why for line in lines if line.state == "unjudged")
    scores = Counter(line.score for line in lines if line.score is not None)
    text = [
        f"{judged.name}: {sum(scores.values())} distinct answers judged, {sum(why.values())} unjudged",
        "  scores: " + ", ".join(f"{score}: {scores[score]}" for score in judged.about["scores"]),
    ]
    text += [f"  unjudged, {n}: {reason}" for reason, n in why.most_common()]
    models = Counter(line.model for line in lines if line.state == "judged")
    text += [f"  {n} verdicts by {model or 'a model that does not say its name'}" for model, n in models.most_common()]
    return "\n".join(text)
