"""Rules between fields of the configuration: the values that a mode needs, and contradictions between fields."""

from dataclasses import replace
from operator import attrgetter

from radvqa_jax.config import SUSPECT_BITS, AuditConfig, CellConfig, Config, DecodeConfig, Mode
from radvqa_jax.config.bounds import check_bounds
from radvqa_jax.config.history import check_history
from radvqa_jax.config.stage_rules import check_read_source, check_source, check_stages, require, require_once
from radvqa_jax.prompts import check_template, has_words
from radvqa_jax.trees import compile_pattern, nearest

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


# Modes that may run in several processes. In FIRST_ALONE, which use no device, the first process does all the work, so
# that its budget of requests is the whole run's.
FIRST_ALONE = ("judge", "score")
TOGETHER = ("train", "predict", "saliency", "job", *FIRST_ALONE)


def _check_processes(config: Config) -> None:
    process = config.process
    require(
        process.index < process.count, f"process.index={process.index} must be below process.count={process.count}."
    )
    require(
        process.count == 1 or bool(process.coordinator),
        f"process.count={process.count} needs process.coordinator, the host:port of process 0.",
    )
    host, _, port = process.coordinator.rpartition(":")
    numbered = bool(host.strip()) and port.isdecimal() and port.isascii() and 0 < int(port[:6]) < 2**16
    require(
        process.coordinator in ("", "auto") or numbered,
        f"process.coordinator={process.coordinator!r} must be host:port of process 0, such as 10.0.0.1:12345, or auto.",
    )
    require(
        not process.coordinator or config.mode in TOGETHER,
        f"mode={config.mode} runs in one process; process.coordinator={process.coordinator} is for "
        f"mode={', '.join(TOGETHER)}.",
    )


_LONGEST_NAME = 100  # characters: files are named after cells


def _check_cells(config: Config) -> None:
    cells = config.ablations.cells
    names = [cell.name for cell in cells]
    require(bool(cells), "ablations.cells is empty. Take configs/ablations.py, or add cell(name, …) to your own file.")
    for index, name in enumerate(names):
        require(
            bool(name) and name not in names[:index] and len(name) <= _LONGEST_NAME,
            f"ablations.cells[{index}].name={name[:_LONGEST_NAME]!r} must be a name that no other cell has, of at most "
            f"{_LONGEST_NAME} characters.",
        )
    runs: dict[tuple[str, str], str] = {}
    for cell in cells:
        key = (cell.group, _run_of(cell, config))
        other = runs.setdefault(key, cell.name)
        require(
            not cell.group or other == cell.name,
            f"ablations.cells {other} and {cell.name} of group {cell.group!r} both have {key[1]}, so that one run "
            "would count as two. Give each its own, or leave one of them out of the group.",
        )
    shared: dict[str, CellConfig] = {}
    for index, cell in enumerate(cells):
        path = f"ablations.cells[{index}] ({cell.name})"
        first = shared.setdefault(cell.group, cell)
        require(
            not cell.group or _apart_from_run(cell) == _apart_from_run(first),
            f"{path} and {first.name} of group {cell.group!r} differ in more than the seed, so that their mean would "
            "be one of different experiments. Give them groups of their own.",
        )
        require(
            not cell.against or cell.against in names,
            f"{path}: against={cell.against!r} is not a cell.{nearest(cell.against, names)} The cells are {names}.",
        )
        _check_cell(path, cell, config)


def _run_of(cell: CellConfig, config: Config) -> str:
    """The training whose result a cell asks, in words; cells of a group differ in nothing else."""
    if cell.adapter:
        return f"adapter={cell.adapter}"
    if set(cell.without) >= set(config.stage_names):
        return "no trained stage"
    return f"seed={config.seed if cell.seed < 0 else cell.seed}"


def _apart_from_run(cell: CellConfig) -> CellConfig:
    return replace(cell, name="", against="", seed=-1, adapter=cell.adapter and "one of several")


def _check_cell(path: str, cell: CellConfig, config: Config) -> None:
    running = config.stage_names
    for name in cell.without:
        require(name in running, f"{path}: without={cell.without} may only name stages of {running}.")
    require(
        not cell.stage or cell.stage in running,
        f"{path}: stage={cell.stage!r} is not a stage that runs.{nearest(cell.stage, running)} These run: {running}.",
    )
    trained = [name for name in running if name not in cell.without]
    changed, changes_stage = cell.stage or running[-1], bool(cell.stage_sources or cell.stage_steps)
    for name in trained:
        start = config.stages[name].init_from
        require(
            not (cell.without and start),
            f"{path} leaves out {cell.without}, but stages.{name}.init_from={start} fixes the start of {name}. Leave "
            "init_from empty, so that the grid trains every stage.",
        )
        require(
            not (start and changes_stage and changed in running[: running.index(name)]),
            f"{path} changes {changed}, but stages.{name}.init_from={start} fixes the start of {name}, so that the "
            f"change has no effect. Leave init_from empty, or change {name}.",
        )
    changes_training = bool(cell.without or changes_stage or cell.train_prompt)
    require(
        not (cell.adapter and changes_training),
        f"{path} names a trained adapter and also changes the training. Give either the adapter or the changes.",
    )
    for field in ("stage", "stage_sources", "stage_steps"):
        require(
            not getattr(cell, field) or changed in trained,
            f"{path} has {field}, but does not train {changed}. Leave {field} out, or train the stage.",
        )
    for field, given in (("train_prompt", bool(cell.train_prompt)), ("seed", cell.seed >= 0)):
        require(
            not given or bool(trained and not cell.adapter),
            f"{path} has {field}, but trains no stage. Leave it out.",
        )
    require(
        not cell.stage or changes_stage,
        f"{path} has stage={cell.stage!r}, but neither stage_sources nor stage_steps, which it is about. Leave it out.",
    )
    require(
        not cell.train_source.dataset or bool(cell.source.dataset),
        f"{path} has train_source, which the blind baselines of `source` learn from, but no source. Give both, or "
        "eval.train_source.",
    )
    for field in ("prompt", "train_prompt"):
        if value := getattr(cell, field):
            check_template(value, f"{path}: {field}")
    limited = [name for name in trained if any(source.limit for source in config.stages[name].sources)]
    require(
        not (cell.train_prompt and "{history}" not in cell.train_prompt and config.data.history != "none" and limited),
        f"{path}: train_prompt={cell.train_prompt!r} has no {{history}}, so that the `limit` of a source of "
        f"stages.{limited[:1]} would choose other rows than for the cells that have it. Leave out the limit.",
    )
    require(
        cell.image != "borrowed" or bool(cell.source.dataset),
        f"{path}: image='borrowed' needs a `source` of questions without images. The questions of eval.source have "
        "images: give image='swapped'.",
    )
    for number, item in enumerate(cell.stage_sources):
        require(bool(item.dataset), f"{path}.stage_sources[{number}].dataset is empty.")
        check_source(f"{path}.stage_sources[{number}]", item)
    for field in ("source", "train_source"):
        check_read_source(f"{path}.{field}", getattr(cell, field))


def _check_audit(audit: AuditConfig) -> None:
    for index, item in enumerate(audit.also_evaluate):
        check_read_source(f"audit.also_evaluate[{index}]", item)
    require(
        audit.near_bits <= SUSPECT_BITS,
        f"audit.near_bits={audit.near_bits} must be at most {SUSPECT_BITS}: unrelated images may differ in no more "
        "bits than that.",
    )
    for entry in audit.accept:
        sides = [side.strip() for side in entry.split("~")]
        require(
            len(sides) == 2 and all(side.count(":") == 1 for side in sides),
            f"audit.accept has {entry!r}. Name a leak by its two sets: 'vqa_rad:train~vqa_rad:test'.",
        )


def _check_decode(decode: DecodeConfig) -> None:
    require(
        decode.samples == 1 or decode.temperature > 0,
        f"decode.samples={decode.samples} with decode.temperature=0 would give the same answer "
        f"{decode.samples} times. Set a temperature above 0, or samples=1.",
    )


def _check_writing(config: Config) -> None:
    writing = config.synthesis.writing
    kinds = ("open", "closed", "multiple_choice")
    require_once(writing.writers, "synthesis.writing.writers")
    require_once(writing.kinds, "synthesis.writing.kinds")
    for kind, share in writing.kinds:
        require(
            kind in kinds and share >= 0,
            f"synthesis.writing.kinds has ({kind!r}, {share}). Give shares of at least 0, each for one of "
            f"{', '.join(kinds)}.",
        )
    require(
        sum(share for _, share in writing.kinds) > 0,
        f"synthesis.writing.kinds={writing.kinds} leaves nothing to write. Give a kind a share above 0.",
    )
    require(
        min(writing.held_out) >= 0 and sum(writing.held_out) < 1,
        f"synthesis.writing.held_out={writing.held_out}: the shares of validation and test must be at least 0, and "
        "their sum below 1, so that some cases are left to train on.",
    )
    checks = config.synthesis.checks
    for name in ("leak", "coverage", "near", "jaccard", "blind_share", "balance"):
        value = getattr(checks, name)
        require(0 < value <= 1, f"synthesis.checks.{name}={value} must be above 0 and at most 1.")
    require(
        checks.balance < 1,
        "synthesis.checks.balance=1 has no effect. Give less, or name the check in synthesis.checks.off.",
    )
    plant = config.synthesis.plant
    require(0 <= plant < 1, f"synthesis.plant={plant} must be at least 0 and below 1.")
    require(
        config.mode != "write_questions" or bool(config.synthesis.sources),
        "mode=write_questions needs data sets to write about: give `synthesis.sources` in the config file.",
    )
    for index, item in enumerate(config.synthesis.sources):
        require(bool(item.dataset), f"synthesis.sources[{index}].dataset is empty. Give a prepared data set.")
        check_read_source(f"synthesis.sources[{index}]", item)


def check(config: Config) -> None:
    """Raises ValueError, naming field and rule, if a value is outside its bounds or fields contradict each other."""
    check_bounds(config)
    check_stages(config)
    for field in ("allow_missing", "allow_extra"):
        for index, pattern in enumerate(getattr(config.model, field)):
            compile_pattern(pattern, f"model.{field}[{index}]")
    if config.mode == "ablations":
        _check_cells(config)
    check_history(config)
    require_once(config.scaling.columns, "scaling.columns")
    require(
        config.mode != "fit_scaling" or bool(config.scaling.table or config.scaling.runs),
        "mode=fit_scaling needs losses: give --config.scaling.table=FILE.csv, or the folders of trained stages: "
        "--config.scaling.runs=\"('runs/sweep/*/stage2',)\".",
    )
    require(
        config.mode != "saliency_quality" or not config.quality.shuffled_image_steps or bool(config.stages),
        f"quality.shuffled_image_steps={config.quality.shuffled_image_steps} trains the last stage on shuffled images, "
        "and stages is empty. Add the stage in the config file, or give --config.quality.shuffled_image_steps=0.",
    )
    require(
        config.mode != "saliency_quality" or config.quality.answer == "reference" or config.decode.temperature == 0,
        f"mode=saliency_quality measures maps of greedy answers, and decode.temperature={config.decode.temperature} "
        "samples them. Set decode.temperature=0 and decode.samples=1.",
    )
    for path in ("eval.source", "eval.train_source"):
        check_read_source(path, attrgetter(path)(config))
        require(
            config.mode != "job" or attrgetter(path)(config).task == "vqa",
            f"{path}.task='caption': mode=job scores questions, and captions have none. Give a source of questions, or "
            "train with mode=train and write captions with mode=predict.",
        )
    _check_audit(config.audit)
    _check_writing(config)
    _check_decode(config.decode)
    check_template(config.data.prompt, "data.prompt")
    require(
        not config.adapter or config.mode not in ("train", "job", "ablations"),
        f"adapter={config.adapter!r}: mode={config.mode} trains, and starts from the base or from "
        "stages.NAME.init_from. Give the adapter there, or leave it out.",
    )
    _check_processes(config)
    require(
        config.data.bit_depth == 0 or 8 <= config.data.bit_depth <= 16,
        f"data.bit_depth={config.data.bit_depth} must be 0 (all bits) or 8 to 16.",
    )
    for name, modes, what, example in _NEEDED:
        require(
            config.mode not in modes or has_words(attrgetter(name)(config)),
            f"mode={config.mode} needs {what}: --config.{name}={example}.",
        )
