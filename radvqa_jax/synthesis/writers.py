"""The result of each writer for one image: candidate pairs with provenance, or the reason why there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from radvqa_jax.chat_client import ChatClient, EndpointError, NotCached
from radvqa_jax.config import ChatConfig, SynthesisConfig
from radvqa_jax.synthesis import prompts
from radvqa_jax.synthesis.candidates import Candidate, Writer, candidate_id
from radvqa_jax.synthesis.images import Images
from radvqa_jax.synthesis.ledger import Done
from radvqa_jax.synthesis.replies import Draft, Unusable, read_drafts
from radvqa_jax.synthesis.templates import TEMPLATES, write_templates
from radvqa_jax.synthesis.work import Work, sha256_text, writers_of


class Finished(NamedTuple):
    """A finished piece of work, or the reason why a later run must repeat it."""

    done: Done | None
    pairs: Sequence[Candidate] = ()
    failure: str = ""
    answered: bool = False  # by the endpoint, and not from the cache or by the templates


def chat_config(config: SynthesisConfig) -> ChatConfig:
    """The writers' settings of the chat model: as configured, with the sampling of writing."""
    return replace(config.chat, temperature=config.writing.temperature, max_tokens=config.writing.max_tokens)


def settings_of(config: SynthesisConfig, *, seed: int) -> dict[str, Any]:
    """The settings that pairs depend on, apart from the texts of the images."""
    writing = config.writing
    asks = any(writer in prompts.MODEL_WRITERS for writer, _ in writers_of(config))
    model = {
        "model": config.chat.model,
        "temperature": writing.temperature,
        "max_tokens": writing.max_tokens,
        "response_format": config.chat.response_format,
        "chat_seed": config.chat.seed,
        "pairs": writing.pairs,
        "max_chars": writing.max_chars,
        "prompts": {writer: prompts.prompt_sha256(writer) for writer in prompts.MODEL_WRITERS},
    }
    own = {
        "seed": seed,
        "kinds": [list(item) for item in writing.kinds],
        "held_out": list(writing.held_out),
        "template_pairs": writing.template_pairs,
        "templates": list(writing.templates),
    }
    return own | (model if asks else {})


def _candidate(
    work: Work,
    draft: Draft,
    *,
    prompt: str,
    model: str,
    seed: int,
    sampling: dict[str, Any],
    reply_id: str,
    visible: bool,
) -> Candidate:
    image = work.image
    same = {
        "dataset": image.dataset,
        "builder_config": image.builder_config,
        "image_id": image.image_id,
        "question": draft.question,
        "answer": draft.answer,
        "choices": list(draft.choices),
    }
    return Candidate(
        candidate_id=candidate_id(writer=work.writer, **same),
        **same,
        prepared_split=image.prepared_split,
        split=image.split,
        case_id=image.case_id,
        caption_sha256=sha256_text(image.row["caption"]),
        writer=cast(Writer, work.writer),
        prompt_sha256=prompt,
        model=model,
        seed=seed,
        sampling=sampling,
        reply_id=reply_id,
        kind=draft.kind,
        answer_type="open" if draft.kind == "open" else "closed",
        question_type=draft.question_type,
        support=draft.support,
        answerable_from_image=visible,
    )


def _done(work: Work, **fields: Any) -> Done:
    image = work.image
    return Done(work.work_id, image.dataset, image.builder_config, image.split, image.image_id, work.writer, **fields)


def ask_writer(client: ChatClient, work: Work, config: SynthesisConfig) -> Finished:
    """Asks the chat model to write about one image.

    After an unusable reply it is asked again with another seed, up to `synthesis.writing.attempts` times in all; then
    the piece of work is rejected with the reason of the last reply.

    Raises:
        EndpointError: if every other request would fail in the same way.
        BudgetSpent: if the budget allows no further request.
    """
    writing, why, tokens, model, estimated, answered = config.writing, "", 0, "", False, False
    schema = prompts.schema(work.writer, pairs=len(work.kinds))
    for attempt in range(writing.attempts):
        prompt = prompts.make_prompt(
            work.writer, work.image, work.kinds, max_chars=writing.max_chars, attempt=attempt, why=why
        )
        seed = config.chat.seed + attempt
        try:
            reply = client.ask(prompt.messages, schema=schema, seed=seed)
        except NotCached:
            return Finished(None, failure="offline, and not in the cache")
        except EndpointError as error:
            if error.final:
                raise
            return Finished(None, failure=error.kind)
        tokens, model, estimated = tokens + reply.tokens, reply.model, estimated or reply.estimated
        answered = answered or not reply.cached
        try:
            drafts = read_drafts(work.writer, reply, mark=prompt.mark, kinds=work.kinds, image=work.image)
        except Unusable as error:
            why = str(error)
            continue
        sampling = {"temperature": writing.temperature, "max_tokens": writing.max_tokens, "attempt": attempt}
        pairs = [
            _candidate(
                work,
                draft,
                prompt=prompts.prompt_sha256(work.writer),
                model=reply.model,
                seed=seed,
                sampling=sampling | {"response_format": config.chat.response_format},
                reply_id=reply.key,
                visible=work.writer != "literature",
            )
            for draft in drafts
        ]
        read = {"replies": attempt + 1, "tokens": tokens, "model": model, "estimated": estimated}
        return Finished(_done(work, state="written", pairs=len(pairs), **read), pairs, answered=answered)
    read = {"replies": writing.attempts, "tokens": tokens, "model": model, "estimated": estimated}
    return Finished(_done(work, state="rejected", why=why, **read), answered=answered)


def fill_templates(work: Work, config: SynthesisConfig, values: Mapping[str, Sequence[str]], *, seed: int) -> Finished:
    """Writes about one image with the templates."""
    writing = config.writing
    written = write_templates(
        work.image,
        names=writing.templates or tuple(TEMPLATES),
        kinds=writing.kinds,
        pairs=writing.template_pairs,
        values=values,
        seed=seed,
    )
    pairs = [
        _candidate(
            work,
            one.draft,
            prompt=one.wording_sha256,
            model="",
            seed=seed,
            sampling={},
            reply_id="",
            visible=one.visible,
        )
        for one in written
    ]
    return Finished(_done(work, state="written", pairs=len(pairs)), pairs)


def vocabularies(images: Images) -> dict[str, dict[str, list[str]]]:
    """{data set: {field: its values}} of the fields that templates ask closed questions about."""
    fields = [template.field for template in TEMPLATES.values() if template.closed]
    return {dataset: {name: images.values(dataset, name) for name in fields} for dataset in images.datasets}
