"""Describes the changes of a cell of the grid in words."""

from radvqa_jax.config import CellConfig, Config

IMAGES = {
    "swapped": "another case's image of the same modality and organ",
    "swapped_any": "any other case's image",
    "blank": "a blank image",
    "borrowed": "an image borrowed from {lender}",
}

HISTORIES = {
    "none": "every question is asked alone",
    "references": "the questions of an image are asked in a row, with the reference answers to the earlier ones",
    "own": "the questions of an image are asked in a row, with the model's own answers to the earlier ones",
}


def changed_stage(cell: CellConfig, config: Config) -> str:
    """The stage to which `stage_sources` and `stage_steps` of a cell apply; empty if no stage runs."""
    return cell.stage or (config.stage_names or ("",))[-1]


def describe_cell(cell: CellConfig, config: Config) -> list[str]:
    """The changes of a cell, in words."""
    said = []
    if cell.adapter:
        said.append(f"trained before: {cell.adapter}")
    elif set(cell.without) == set(config.stage_names):
        said.append("adapter off: the base model alone")
    elif cell.without:
        said.append(f"without {' and '.join(cell.without)}")
    changed = changed_stage(cell, config)
    for source in cell.stage_sources:
        points = f", {source.anneal} {source.points}" if source.points else ""
        share = f"count {source.count}" if source.count else f"weight {source.weight:g}"
        said.append(f"{changed} on {source.dataset}:{source.split} ({source.task}, {share}{points})")
    if cell.stage_steps:
        said.append(f"{cell.stage_steps} steps of {changed}")
    if cell.seed >= 0:
        said.append(f"trained with the seed {cell.seed}")
    for name, text in (("trained", cell.train_prompt), ("asked", cell.prompt)):
        if text:
            said.append(f"{name} with the prompt {text!r}")
    if cell.seq_len:
        said.append(f"asked with {cell.seq_len} text tokens")
    if cell.history:
        said.append(HISTORIES[cell.history])
    if cell.image != "own":
        said.append(IMAGES[cell.image].format(lender=config.eval.source.dataset))
    if cell.source.dataset:
        builder = cell.source.builder_config
        said.append(f"asked {cell.source.dataset}{builder and '/' + builder}:{cell.source.split}")
    return said
