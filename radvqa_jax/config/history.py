"""Rules for questions that are asked in a row: {history} in the prompt, and what fills it."""

from radvqa_jax.config.experiment import Config

HISTORY = "{history}"
# What asks one question at a time, or with images that change from question to question.
ALONE = ("job", "ask", "saliency", "saliency_quality")
TWINS = ("own", "blank")  # images that are the same for all questions of a conversation


def check_history(config: Config) -> None:
    """Checks `data.history`, and that of every cell of a grid.

    Raises:
        ValueError: if no {history} is in the prompt that it would fill, or the mode or the cell cannot ask so.
    """
    data = config.data
    if data.history != "none" and HISTORY not in data.prompt:
        raise ValueError(
            f"data.history={data.history!r} fills {HISTORY}, and data.prompt={data.prompt!r} has none. "
            f"Give --config.data.prompt=\"{HISTORY} {data.prompt}\", or data.history='none'."
        )
    if data.history != "none" and config.mode in ALONE:
        raise ValueError(
            f"mode={config.mode} asks every question alone, and data.history={data.history!r}. "
            "Ask in a row with mode=predict or mode=ablations, or give --config.data.history=none."
        )
    for index, cell in enumerate(config.ablations.cells):
        path, prompt = f"ablations.cells[{index}] ({cell.name})", cell.prompt or data.prompt
        if cell.history in ("references", "own") and HISTORY not in prompt:
            raise ValueError(
                f"{path}: history={cell.history!r} fills {HISTORY}, and its prompt {prompt!r} has none. "
                "Give the cell a `prompt` with it, or leave `history` out."
            )
        asked = cell.history or (data.history if HISTORY in prompt else "none")
        if asked != "none" and cell.image not in TWINS:
            raise ValueError(
                f"{path}: image={cell.image!r} shows every question of a conversation another image. "
                "Give image='blank', the twin that sees nothing, or history='none'."
            )
