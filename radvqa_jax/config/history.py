"""Rules for questions that are asked in a conversation: {history} in the prompt, and `history`, which fills it."""

from radvqa_jax.config.experiment import Config

HISTORY = "{history}"
# Modes that ask one question at a time, or show images that change from question to question.
ALONE = ("job", "ask", "saliency", "saliency_quality")
TWINS = ("own", "blank")  # images that are the same for all questions of a conversation


def check_history(config: Config) -> None:
    """Checks `data.history`, and `history` of every cell of a grid.

    Raises:
        ValueError: if the prompt has no {history} to fill, or the mode or the cell cannot ask in a conversation.
    """
    data = config.data
    if data.history != "none" and HISTORY not in data.prompt:
        raise ValueError(
            f"data.history={data.history!r} fills {HISTORY}, which data.prompt={data.prompt!r} does not contain. "
            f"Give --config.data.prompt=\"{HISTORY} {data.prompt}\", or data.history='none'."
        )
    if data.history != "none" and config.mode in ALONE:
        raise ValueError(
            f"mode={config.mode} asks each question on its own and cannot use data.history={data.history!r}. "
            "Ask conversations with mode=predict or mode=ablations, or give --config.data.history=none."
        )
    for index, cell in enumerate(config.ablations.cells):
        path, prompt = f"ablations.cells[{index}] ({cell.name})", cell.prompt or data.prompt
        if cell.history in ("references", "own") and HISTORY not in prompt:
            raise ValueError(
                f"{path}: history={cell.history!r} fills {HISTORY}, which its prompt {prompt!r} does not contain. "
                "Give the cell a `prompt` with it, or leave `history` out."
            )
        asked = cell.history or (data.history if HISTORY in prompt else "none")
        if asked != "none" and cell.image not in TWINS:
            raise ValueError(
                f"{path}: image={cell.image!r} changes the image within a conversation. "
                "Give image='own', image='blank' or history='none'."
            )
