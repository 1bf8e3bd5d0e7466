"""The mode in which questions are written from captions and cases."""

from collections.abc import Iterator
from pathlib import Path

from radvqa_jax.chat_client import ChatClient
from radvqa_jax.config import Config, SynthesisConfig
from radvqa_jax.data.written import DATASET, say_origin
from radvqa_jax.files import check_writable
from radvqa_jax.runners.check_questions import Origin, check_questions, check_settings
from radvqa_jax.synthesis import prompts
from radvqa_jax.synthesis.candidates import FILE_NAME, Candidate, read_candidates
from radvqa_jax.synthesis.forecast import describe_forecast, forecast, show_prompts
from radvqa_jax.synthesis.images import Images
from radvqa_jax.synthesis.ledger import LEDGER, Ledger, read_ledger, total
from radvqa_jax.synthesis.work import Work, check_writing, plan, planned, writers_of
from radvqa_jax.synthesis.writers import chat_config, settings_of
from radvqa_jax.synthesis.writing import Written, describe_work, write
from tfds_builders.written.written_dataset_builder import Builder


def write_questions_mode(config: Config, workdir: Path) -> None:
    """Writes pairs about the images of config.synthesis.sources, checks them, and prepares those that pass.

    workdir/candidates.jsonl holds every pair as written; accepted.jsonl and rejected.jsonl hold the results of every
    check.
    """
    check_settings(config)
    if not config.synthesis.writing.dry_run:  # the place of the checked pairs
        check_writable(config.data.data_dir, field="data.data_dir", inside=f"{DATASET}/{config.synthesis.name}")
        if replaced := describe_replaced(config.synthesis.name, config.data.data_dir):
            print(replaced, flush=True)
    written, candidates = write_candidates(config, workdir)
    if written is None:
        return
    found = total(read_ledger(workdir / LEDGER))
    cost = {
        "pairs": len(candidates),
        "replies": found.replies,
        "tokens of replies": f"{'about ' if found.estimated else ''}{found.tokens}",
        "pairs written by this run": written.new,
        "requests sent by this run": written.calls,
        "tokens used by this run": f"{'about ' if written.estimated else ''}{written.tokens}",
        "seconds taken by this run": round(written.seconds, 1),
        "pairs per second by this run": round(written.new / max(written.seconds, 1e-9), 1),
    }
    # Each run asks about all images without a reply, so that those of the last run are all that are left.
    missing = found.rejected | {f"no reply: {why}": n for why, n in written.failed.items()}
    if not candidates:
        why = missing or "no image has a caption"
        raise ValueError(f"No pair was written, so there is nothing to check: {why}.")
    check_questions(config, workdir, candidates, Origin(cost, missing, used=(written.calls, written.tokens)))


def describe_replaced(name: str, data_dir: str) -> str:
    """A sentence about the prepared questions of that name, which a run replaces; empty if there are none."""
    folder = Path(data_dir).expanduser() / DATASET / name / str(Builder.VERSION)
    if not folder.is_dir():
        return ""
    try:
        about = say_origin(folder)
    except ValueError as error:
        about = f"unreadable: {error}"
    return (
        f"{DATASET}/{name} is prepared already ({about}). The accepted pairs of this run will replace it. To keep it, "
        "give another --config.synthesis.name."
    )


def write_candidates(config: Config, workdir: Path) -> tuple[Written | None, list[Candidate]]:
    """Writes the missing pairs after printing the expected cost; with `dry_run` it only prints the cost.

    Returns:
        What was written, None after a dry run, and the workdir's pairs that are planned, in the order of the plan.
    """
    own = config.synthesis
    check_writing(own)
    images = Images(own, config.data, seed=config.seed)

    def works() -> Iterator[Work]:
        return plan(images, own, seed=config.seed)

    path = workdir / FILE_NAME
    kept = read_candidates(path) if path.is_file() else []
    images.check_splits(kept)
    left_out = len(kept) - len(planned(kept, works(), cache=_cache(own, workdir)))
    client = _client(own, workdir)
    try:
        ledger = Ledger(workdir, settings_of(own, seed=config.seed))
        found = forecast(works(), ledger, client, own)
        if images.moved:
            print(f"{len(images.moved)} cases are in several splits; each goes to the most held-out one.")
        if left_out:
            print(
                f"{left_out} pairs of earlier commands, about other images or by other writers, stay in {path} "
                "and are not used. Their sources, limit or writers, given again, use them."
            )
        print(describe_forecast(found, own), flush=True)
        if own.writing.dry_run:
            print(show_prompts(found, own))
            return None, []
        if found.requests and own.chat.allow_remote:
            print(
                f"To {own.chat.base_url}, which is not this machine, go captions and case texts of {found.requests} "
                "images; no image, no id.",
                flush=True,
            )
        left = sum(found.work.values())
        written = write(images, client, own, workdir, seed=config.seed, left=left)
    finally:
        if client is not None:
            client.close()
    print(describe_work(written, total(read_ledger(workdir / LEDGER))))
    if path.is_file():
        print(f"The pairs are in {path}, one on each line.", flush=True)
    kept = read_candidates(path) if written.pairs else []
    return written, planned(kept, works(), cache=_cache(own, workdir))


def _cache(config: SynthesisConfig, workdir: Path) -> Path:
    return Path(config.chat.cache).expanduser() if config.chat.cache else workdir / "chat_cache.jsonl"


def _client(config: SynthesisConfig, workdir: Path) -> ChatClient | None:
    """The client of the chat model, None if only templates write."""
    if not any(writer in prompts.MODEL_WRITERS for writer, _ in writers_of(config)):
        return None
    return ChatClient(chat_config(config), cache=_cache(config, workdir), group="synthesis.chat")
