"""The mode in which a language model judges answers."""

from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.evaluation.predict import read_records


def judge_mode(config: Config, workdir: Path) -> None:
    """Judges the answers of config.eval.predictions and writes the verdicts beside them; mode=score then shows them."""
    try:
        from radvqa_jax.evaluation.judge import format_summary, judge  # here: only this mode needs pydantic and openai
    except ModuleNotFoundError as error:
        raise ValueError(f"mode=judge needs {error.name}: pip install -e '.[judge]'.") from error
    path = Path(config.eval.predictions).expanduser()
    cache = Path(config.judge.cache).expanduser() if config.judge.cache else workdir / "chat_cache.jsonl"
    judged = judge(read_records(path), predictions=path, config=config.judge, cache=cache, seed=config.seed)
    print(format_summary(judged))
    print(f"The verdicts are in {path.parent / f'{path.stem}.judge-{judged.name}.jsonl'}; mode=score shows them.")
