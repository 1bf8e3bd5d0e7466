"""Rules for training stages and the data sets that they read."""

import itertools
import re
from collections.abc import Iterable

from radvqa_jax.config import Config, SourceConfig, StageConfig
from radvqa_jax.config.bounds import MOST_PATTERN, MOST_PATTERNS
from radvqa_jax.trees import FREEZE, TRAIN, compile_pattern, nearest


def require(holds: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not holds:
        raise ValueError(message)


def require_once(pairs: Iterable[tuple[str, object]], field: str) -> None:
    """Raises ValueError if two pairs of a field have one name: only the last would count."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), "")
    require(not twice, f"{field} names {twice!r} twice. Give each name once.")


def _check_stage(name: str, stage: StageConfig) -> None:
    optim, lora = stage.optim, stage.lora
    require(
        (stage.total_steps > 0) != (stage.epochs > 0),
        f"{name}: give either total_steps or epochs; got total_steps={stage.total_steps}, epochs={stage.epochs}.",
    )
    require(
        stage.total_steps == 0 or optim.warmup_steps < stage.total_steps,
        f"{name}.optim.warmup_steps={optim.warmup_steps} must be below {name}.total_steps={stage.total_steps}.",
    )
    names_lora = any("lora" in pattern and label != "freeze" for pattern, label in stage.train)
    require(
        not (names_lora and lora.rank == 0),
        f"{name}.train has a rule for adapters but {name}.lora.rank=0. Set the rank, or remove the rule.",
    )


_PLAIN = SourceConfig()


def _check_sources(name: str, stage: StageConfig) -> None:
    require(bool(stage.sources), f"{name}.sources is empty. Name at least one data set: source(dataset='slake').")
    for index, item in enumerate(stage.sources):
        require(bool(item.dataset), f"{name}.sources[{index}].dataset is empty. Give a name in tfds_builders/.")
        check_source(f"{name}.sources[{index}]", item)
    check_read_source(f"{name}.eval_source", stage.eval_source)


def check_read_source(name: str, source: SourceConfig) -> None:
    """Checks a source whose rows are read once each: it may not set the fields of a mixture."""
    set_fields = [f for f in ("weight", "count", "anneal", "points") if getattr(source, f) != getattr(_PLAIN, f)]
    require(
        not set_fields,
        f"{name} has {', '.join(set_fields)}, but its rows are read once, in order: these fields are for the "
        "sources of a stage. Give limit for fewer rows.",
    )
    check_source(name, source)


def check_source(name: str, source: SourceConfig) -> None:
    """Checks the fields of a source against each other."""
    require(
        not (source.count and source.weight != 1),
        f"{name} has both count={source.count} and weight={source.weight}. Give one of them.",
    )
    require(
        not source.prompt or source.task == "caption",
        f"{name} has prompt={source.prompt!r}, which is for task=caption, and task={source.task}. Questions are asked "
        "with data.prompt.",
    )
    points = source.points
    require(
        (source.anneal == "constant") == (not points),
        f"{name}: anneal={source.anneal!r} with points={points}. Give points (share of training done, factor) with "
        "anneal='piecewise', 'linear' or 'cosine', and none with 'constant'.",
    )
    require(
        all(a < b for (a, _), (b, _) in itertools.pairwise(points)),
        f"{name}.points={points} must be in rising order of their shares of training.",
    )
    for number, item in enumerate(source.where):
        path = f"{name}.where[{number}]"
        given = (item.values, item.min_count, item.most_common, item.min_words, item.max_words)
        require(bool(item.field), f"{path}.field is empty. Give a text field of the data set, such as 'organ'.")
        require(any(given), f"{path} ({item.field}) has no condition. Give values, min_count, max_words, …")
        require(bool(item.values) or not item.exclude, f"{path}.exclude=True excludes nothing: `values` is empty.")


def _check_rules(path: str, rules: tuple[tuple[str, str], ...], labels: tuple[str, ...]) -> None:
    """Checks ordered (pattern, label) pairs. An allowed label that ends in `:` allows all that begin with it."""
    for index, (pattern, label) in enumerate(rules):
        compile_pattern(pattern, f"{path}[{index}]")
        known = any(label.startswith(want) and (label == want) != want.endswith(":") for want in labels)
        options = " or ".join(repr(f"{want}<group>" if want.endswith(":") else want) for want in labels)
        require(known, f"{path}[{index}]: the label {label!r} must be {options}.")


def _check_patterns(name: str, stage: StageConfig) -> None:
    _check_rules(f"{name}.train", stage.train, (FREEZE, TRAIN))
    _check_rules(f"{name}.lora.targets", stage.lora.targets, ("lora", "none"))
    # adapter.json keeps them.
    require(
        len(stage.lora.targets) <= MOST_PATTERNS,
        f"{name}.lora.targets has {len(stage.lora.targets)} patterns; it may have {MOST_PATTERNS}.",
    )
    for index, (pattern, _) in enumerate(stage.lora.targets):
        require(
            len(pattern) <= MOST_PATTERN,
            f"{name}.lora.targets[{index}] has {len(pattern)} characters; a pattern may have {MOST_PATTERN}. Divide it "
            "into several.",
        )
    groups = sorted({label.removeprefix(TRAIN) for _, label in stage.train if label != FREEZE})
    require_once(stage.optim.group_learning_rates, f"{name}.optim.group_learning_rates")
    for group, _ in stage.optim.group_learning_rates:
        require(
            group in groups,
            f"{name}.optim.group_learning_rates names the group {group!r}; {name}.train has {groups}."
            f"{nearest(group, groups)}",
        )


# Names of a job's files that no stage may have: folders in its workdir, and answers in predictions/.
FOLDERS = ("predictions", "saliency", "trained", "shuffled_images")
WRITTEN = "questions"  # … if it writes questions
RUNS = ("base", "question_only", "majority", "longest_option", "letter_frequency", "quality_predictions")
OTHER_IMAGES = ("_swapped", "_swapped_any", "_blank", "_blank_prompts")  # suffixes of answers to other images
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _check_name(name: str, config: Config) -> None:
    require(
        _NAME.fullmatch(name) is not None,
        f"stages has the name {name!r}. A name has at most 40 lower-case letters, digits and _, and begins with a "
        "letter.",
    )
    used = (*FOLDERS, *RUNS, *([WRITTEN] if config.synthesis.name else []))
    require(
        name not in used and not name.endswith(OTHER_IMAGES),
        f"stages has the name {name!r}, which a job uses for its own files. Give another name.",
    )


def check_stages(config: Config) -> None:
    """Checks the names and the order of the stages, and each stage that runs."""
    known, running = tuple(config.stages), config.run_stages
    for name in known:
        _check_name(name, config)
    for index, name in enumerate(running):
        require(
            name in known,
            f"run_stages[{index}]={name!r} is not a stage.{nearest(name, known)} The stages are {known or 'none'}. Add "
            "one in the config file: config.stages.NAME = stage(sources=…, total_steps=…).",
        )
        require(name not in running[:index], f"run_stages={running} names {name!r} twice.")
    require(
        bool(running) or len(known) < 2,
        f"There are several stages: {', '.join(known)}. Name those to run, in order, such as "
        f'--config.run_stages="{known}".',
    )
    trains = config.mode in ("train", "job", "audit", "ablations")
    require(
        bool(known) or not trains,
        f"mode={config.mode} needs a stage, and stages is empty. Add one in the config file: "
        "config.stages.stage1 = stage(sources=(source(dataset='slake'),), epochs=1.0).",
    )
    for name in config.stage_names:
        path, stage = f"stages.{name}", config.stages[name]
        _check_patterns(path, stage)
        if trains:
            _check_sources(path, stage)
            if config.mode != "audit":  # an audit reads the data and trains nothing
                _check_stage(path, stage)
