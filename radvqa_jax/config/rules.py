"""Rules between fields of the configuration: values that a mode needs, and fields that contradict each other."""

import itertools
from operator import attrgetter

from radvqa_jax.config import (
    SUSPECT_BITS,
    AuditConfig,
    CellConfig,
    Config,
    DecodeConfig,
    Mode,
    SourceConfig,
    StageConfig,
)
from radvqa_jax.config.bounds import check_bounds
from radvqa_jax.config.history import check_history
from radvqa_jax.prompts import has_words
from radvqa_jax.trees import FREEZE, TRAIN, compile_pattern, nearest


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


# Fields that may not be empty in some modes: (field, modes, what the mode needs, an example).
_NEEDED: tuple[tuple[str, tuple[Mode, ...], str, str], ...] = (
    ("dataset", ("build_data",), "a data set", "phantom_rad"),
    (
        "eval.source.dataset",
        ("predict", "saliency", "saliency_quality", "job", "audit", "ablations"),
        "a data set to answer",
        "phantom_rad",
    ),
    ("ask.image", ("ask",), "an image or a DICOM file", "FILE"),
    ("ask.question", ("ask",), "a question", "'Is there a fracture?'"),
    ("eval.predictions", ("score", "compare", "judge"), "answers to score", "DIR/predictions/base.jsonl"),
    ("eval.compare_with", ("compare",), "answers to compare with", "DIR/predictions/stage2.jsonl"),
    ("synthesis.name", ("write_questions",), "a name for the prepared set", "rocov2_questions"),
    ("judge.model", ("judge",), "the name of the judge, as its endpoint has it", "llama3.1"),
    ("model.checkpoint", ("convert", "export"), "a checkpoint", "FILE.npz or FOLDER"),
    ("experiment", ("fit",), "an experiment to plan", "configs/medm_stage2.py"),
    ("eval.train_source.dataset", ("job", "ablations"), "a data set for the question-only baseline", "phantom_rad"),
)


def _check_stage(name: str, stage: StageConfig) -> None:
    optim, lora = stage.optim, stage.lora
    _require(
        (stage.total_steps > 0) != (stage.epochs > 0),
        f"{name}: give either total_steps or epochs; got total_steps={stage.total_steps}, epochs={stage.epochs}.",
    )
    _require(
        stage.total_steps == 0 or optim.warmup_steps < stage.total_steps,
        f"{name}.optim.warmup_steps={optim.warmup_steps} must be below {name}.total_steps={stage.total_steps}.",
    )
    names_lora = any("lora" in pattern and label != "freeze" for pattern, label in stage.train)
    _require(
        not (names_lora and lora.rank == 0),
        f"{name}.train has a rule for adapters but {name}.lora.rank=0. Set the rank, or remove the rule.",
    )


_PLAIN = SourceConfig()


def _check_sources(name: str, stage: StageConfig) -> None:
    _require(bool(stage.sources), f"{name}.sources is empty. Name at least one data set: source(dataset='slake').")
    for index, item in enumerate(stage.sources):
        _require(bool(item.dataset), f"{name}.sources[{index}].dataset is empty. Give a name in tfds_builders/.")
        _check_source(f"{name}.sources[{index}]", item)
    _check_read_source(f"{name}.eval_source", stage.eval_source)


def _check_read_source(name: str, source: SourceConfig) -> None:
    """Checks a source whose rows are each read once: fields of a mixture would have no effect."""
    set_fields = [f for f in ("weight", "count", "anneal", "points") if getattr(source, f) != getattr(_PLAIN, f)]
    _require(
        not set_fields,
        f"{name} has {', '.join(set_fields)}, but its rows are read once, in order: these fields belong to the sources "
        "of a stage. Give limit for fewer rows.",
    )
    _check_source(name, source)


def _check_source(name: str, source: SourceConfig) -> None:
    _require(
        not (source.count and source.weight != 1),
        f"{name} has both count={source.count} and weight={source.weight}. Give one of them.",
    )
    _require(
        not source.prompt or source.task == "caption",
        f"{name} has prompt={source.prompt!r}, but task={source.task}: questions are asked with data.prompt.",
    )
    points = source.points
    _require(
        (source.anneal == "constant") == (not points),
        f"{name}: anneal={source.anneal!r} with points={points}. Points (share of training done, factor) belong to "
        "'piecewise', 'linear' and 'cosine', and each of these needs some.",
    )
    _require(
        all(a < b for (a, _), (b, _) in itertools.pairwise(points)),
        f"{name}.points={points} must rise in their shares of training.",
    )
    for number, item in enumerate(source.where):
        path = f"{name}.where[{number}]"
        given = (item.values, item.min_count, item.most_common, item.min_words, item.max_words)
        _require(bool(item.field), f"{path}.field is empty. Give a text field of the data set, such as 'organ'.")
        _require(any(given), f"{path} ({item.field}) has no condition. Give values, min_count, max_words, …")
        _require(bool(item.values) or not item.exclude, f"{path}.exclude=True excludes nothing: `values` is empty.")


def _check_processes(config: Config) -> None:
    process = config.process
    _require(
        process.index < process.count, f"process.index={process.index} must be below process.count={process.count}."
    )
    _require(
        process.count == 1 or bool(process.coordinator),
        f"process.count={process.count} needs process.coordinator, the host:port of process 0.",
    )
    _require(
        not process.coordinator or config.mode == "train",
        f"mode={config.mode} runs in one process; process.coordinator={process.coordinator} is for mode=train. "
        "Train with several processes, then answer with one.",
    )


_LONGEST_NAME = 100  # characters; files are named by it


def _check_cells(config: Config) -> None:
    cells = config.ablations.cells
    names = [cell.name for cell in cells]
    _require(bool(cells), "ablations.cells is empty. Take configs/ablations.py, or add cell(name, …) to your own file.")
    for index, name in enumerate(names):
        _require(
            bool(name) and name not in names[:index] and len(name) <= _LONGEST_NAME,
            f"ablations.cells[{index}].name={name[:_LONGEST_NAME]!r} must be a name that no other cell has, of at most "
            f"{_LONGEST_NAME} characters.",
        )
    seeds: dict[tuple[str, int], str] = {}
    for cell in cells:
        key = (cell.group, config.seed if cell.seed < 0 else cell.seed)
        other = seeds.setdefault(key, cell.name)
        _require(
            not cell.group or other == cell.name,
            f"ablations.cells {other} and {cell.name} of group {cell.group!r} both have the seed {key[1]}: one run "
            "would count as two. Give each its own seed.",
        )
    for index, cell in enumerate(cells):
        path = f"ablations.cells[{index}] ({cell.name})"
        _require(
            not cell.against or cell.against in names,
            f"{path}: against={cell.against!r} is no cell.{nearest(cell.against, names)} There are: {names}.",
        )
        _check_cell(path, cell, config)


def _check_cell(path: str, cell: CellConfig, config: Config) -> None:
    for name in cell.without:
        _require(name in config.stages, f"{path}: without={cell.without} may only hold stages of {config.stages}.")
    trained = [name for name in config.stages if name not in cell.without]
    for name in trained:
        _require(
            not (cell.without and config.stage(name).init_from),
            f"{path} leaves out {cell.without}, but {name}.init_from={config.stage(name).init_from} says where {name} "
            "starts. Leave init_from empty, so that the grid trains every stage.",
        )
    changes_training = bool(cell.without or cell.stage2_sources or cell.train_prompt)
    _require(
        not (cell.adapter and changes_training),
        f"{path} has an adapter that is trained already, and changes how one is trained. Give one of the two.",
    )
    _require(
        not cell.stage2_sources or "stage2" in trained, f"{path} has stage2_sources, but stage2 is not trained in it."
    )
    _require(not cell.train_prompt or bool(trained), f"{path} has a train_prompt, but no stage is trained in it.")
    for field in ("prompt", "train_prompt"):
        value = getattr(cell, field)
        _require(not value or "{question}" in value, f"{path}: {field}={value!r} must contain {{question}}.")
    _require(
        cell.image != "borrowed" or bool(cell.source.dataset),
        f"{path}: image='borrowed' is for a `source` without images; its own images are there. Give image='swapped'.",
    )
    for number, item in enumerate(cell.stage2_sources):
        _require(bool(item.dataset), f"{path}.stage2_sources[{number}].dataset is empty.")
        _check_source(f"{path}.stage2_sources[{number}]", item)
    for field in ("source", "train_source"):
        _check_read_source(f"{path}.{field}", getattr(cell, field))


def _check_stages(config: Config) -> None:
    _require(bool(config.stages), "stages is empty: nothing would be trained. Give --config.stages=\"('stage1',)\".")
    for name in config.stages:
        _require(
            name in ("stage1", "stage2"),
            f"stages={config.stages} may only hold 'stage1' and 'stage2'.{nearest(name, ['stage1', 'stage2'])}",
        )
        _check_sources(name, config.stage(name))
        if config.mode != "audit":  # which only reads what a stage would be trained on
            _check_stage(name, config.stage(name))
    _require(len(set(config.stages)) == len(config.stages), f"stages={config.stages} names a stage twice.")


def _check_audit(audit: AuditConfig) -> None:
    for index, item in enumerate(audit.also_evaluate):
        _check_read_source(f"audit.also_evaluate[{index}]", item)
    _require(
        audit.near_bits <= SUSPECT_BITS,
        f"audit.near_bits={audit.near_bits} must be at most {SUSPECT_BITS}: unrelated images may differ in "
        "as few. Give fewer bits.",
    )
    for entry in audit.accept:
        sides = [side.strip() for side in entry.split("~")]
        _require(
            len(sides) == 2 and all(side.count(":") == 1 for side in sides),
            f"audit.accept has {entry!r}; a leak is named by its two sets: 'vqa_rad:train~vqa_rad:test'.",
        )


def _check_decode(decode: DecodeConfig) -> None:
    _require(
        decode.samples == 1 or decode.temperature > 0,
        f"decode.samples={decode.samples} with decode.temperature=0 would give the same answer "
        f"{decode.samples} times. Set a temperature above 0, or samples=1.",
    )


def _check_rules(path: str, rules: tuple[tuple[str, str], ...], labels: tuple[str, ...]) -> None:
    """Checks ordered (pattern, label) pairs; a label that ends in `:` stands for all that begin with it."""
    for index, (pattern, label) in enumerate(rules):
        compile_pattern(pattern, f"{path}[{index}]")
        known = any(label.startswith(want) and (label == want) != want.endswith(":") for want in labels)
        options = " or ".join(repr(f"{want}<group>" if want.endswith(":") else want) for want in labels)
        _require(known, f"{path}[{index}]: the label {label!r} must be {options}.")


def _check_patterns(config: Config) -> None:
    for name in sorted({"stage1", "stage2"} & set(config.stages)):
        stage = config.stage(name)
        _check_rules(f"{name}.train", stage.train, (FREEZE, TRAIN))
        _check_rules(f"{name}.lora.targets", stage.lora.targets, ("lora", "none"))
        groups = sorted({label.removeprefix(TRAIN) for _, label in stage.train if label != FREEZE})
        for group, _ in stage.optim.group_learning_rates:
            _require(
                group in groups,
                f"{name}.optim.group_learning_rates names the group {group!r}; {name}.train has {groups}."
                f"{nearest(group, groups)}",
            )
    for field in ("allow_missing", "allow_extra"):
        for index, pattern in enumerate(getattr(config.model, field)):
            compile_pattern(pattern, f"model.{field}[{index}]")


def _check_writing(config: Config) -> None:
    writing = config.synthesis.writing
    kinds = ("open", "closed", "multiple_choice")
    for kind, share in writing.kinds:
        _require(
            kind in kinds and share >= 0,
            f"synthesis.writing.kinds has ({kind!r}, {share}); give shares of at least 0 of {', '.join(kinds)}.",
        )
    _require(
        sum(share for _, share in writing.kinds) > 0,
        f"synthesis.writing.kinds={writing.kinds} leaves nothing to write. Give a kind a share above 0.",
    )
    _require(
        min(writing.held_out) >= 0 and sum(writing.held_out) < 1,
        f"synthesis.writing.held_out={writing.held_out}: shares of validation and test must be at least 0, and below 1 "
        "in all, so that something is left to train on.",
    )
    checks = config.synthesis.checks
    for name in ("leak", "coverage", "near", "jaccard", "blind_share", "balance"):
        value = getattr(checks, name)
        _require(0 < value <= 1, f"synthesis.checks.{name}={value} must be above 0 and at most 1.")
    _require(checks.balance < 1, "synthesis.checks.balance=1 balances nothing. Give less, or leave the check out: off.")
    plant = config.synthesis.plant
    _require(0 <= plant < 1, f"synthesis.plant={plant} must be at least 0 and below 1.")
    _require(
        config.mode != "write_questions" or bool(config.synthesis.sources),
        "mode=write_questions needs data sets to write about: give `synthesis.sources` in the config file.",
    )
    for index, item in enumerate(config.synthesis.sources):
        _require(bool(item.dataset), f"synthesis.sources[{index}].dataset is empty. Give a prepared data set.")
        _check_read_source(f"synthesis.sources[{index}]", item)


def check(config: Config) -> None:
    """Raises ValueError, naming field and rule, if a value is outside its bounds or fields contradict each other."""
    check_bounds(config)
    if config.mode in ("train", "job", "audit", "ablations"):
        _check_stages(config)
    _check_patterns(config)
    if config.mode == "ablations":
        _check_cells(config)
    check_history(config)
    _require(
        config.mode != "fit_scaling" or bool(config.scaling.table or config.scaling.runs),
        "mode=fit_scaling needs losses: give --config.scaling.table=FILE.csv, or the folders of trained stages: "
        "--config.scaling.runs=\"('runs/sweep/*/stage2',)\".",
    )
    for path in ("eval.source", "eval.train_source"):
        _check_read_source(path, attrgetter(path)(config))
    _check_audit(config.audit)
    _check_writing(config)
    _check_decode(config.decode)
    _require("{question}" in config.data.prompt, f"data.prompt={config.data.prompt!r} must contain {{question}}.")
    _check_processes(config)
    _require(
        config.data.bit_depth == 0 or 8 <= config.data.bit_depth <= 16,
        f"data.bit_depth={config.data.bit_depth} must be 0 (all bits) or 8 to 16.",
    )
    for name, modes, what, example in _NEEDED:
        _require(
            config.mode not in modes or has_words(attrgetter(name)(config)),
            f"mode={config.mode} needs {what}: --config.{name}={example}.",
        )
