"""The summary at the top of a report: did training help, is the image used, is there a leak; sentences and a plot."""

from typing import Literal, NamedTuple

from radvqa_jax.evaluation.score_types import BEFORE, QUESTION_ONLY, UNSEEN, Cell, Cells, ExperimentScores

Kind = Literal["found", "not_shown", "alarm", "plain"]


class Sentence(NamedTuple):
    """A sentence, and its kind: something found, something not shown, or something that invalidates the rest."""

    kind: Kind
    text: str


class Dot(NamedTuple):
    """A line of the plot."""

    label: str
    cell: Cell
    kind: Literal["final", "earlier", "unseen", "blind"]


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(cell: Cell) -> str:
    """An amount of percentage points with its interval, without a sign."""
    value, text = 100 * abs(cell["value"]), ""
    if cell["interval"] is not None:
        low, high = sorted(100 * bound * (-1 if cell["value"] < 0 else 1) for bound in cell["interval"])
        text = f" (95 % interval {low:.1f} to {high:.1f}, n={cell['n']})"
    return f"{value:.1f} points{text}"


def _sign(cell: Cell) -> int:
    """1 or -1 if the whole interval is above or below 0; else 0."""
    low, high = cell["interval"] or (0.0, 0.0)
    return (low > 0) - (high < 0)


def _level(label: str, cells: Cells) -> Sentence:
    cell = cells["overall"]
    low, high = (_percent(bound) for bound in cell["interval"]) if cell["interval"] else ("", "")
    interval = f" (95 % interval {low} to {high})" if low else ""
    text = f"{cell['n']} questions on {cell['n_images']} images{interval}."
    return Sentence("plain", f"{label[:1].upper()}{label[1:]}: {_percent(cell['value'])} correct, over {text}")


def _training(over: Cell) -> Sentence:
    match _sign(over):
        case 1:
            return Sentence("found", f"Training helped: accuracy rose by {_points(over)}.")
        case -1:
            return Sentence("alarm", f"Training harmed: accuracy fell by {_points(over)}.")
    change = "rose" if over["value"] >= 0 else "fell"
    return Sentence("not_shown", f"It is not shown that training helped: accuracy {change} by {_points(over)}.")


def _image(over: dict[str, Cells], blind: Cell | None) -> Sentence:
    kind = next((kind for kind in UNSEEN if kind in over), None)
    beyond = ""
    if QUESTION_ONLY in over and blind is not None:
        cell = over[QUESTION_ONLY]["overall"]
        beyond = (
            f" The commonest answer to each question, with no image, is correct for {_percent(blind['value'])};"
            f" the model is {_points(cell)} {'above' if cell['value'] >= 0 else 'below'} that."
        )
    if kind is None:
        said = "Whether the image is used was not measured: that needs answers to the own and to other images."
        return Sentence("not_shown", said + beyond)
    cell = over[kind]["overall"]
    if _sign(cell) == 1:
        return Sentence("found", f"The image is used: with {UNSEEN[kind]} accuracy falls by {_points(cell)}.{beyond}")
    change = "falls" if cell["value"] >= 0 else "rises"
    said = f"It is not shown that the image is used: with {UNSEEN[kind]} accuracy {change} by {_points(cell)}."
    return Sentence("not_shown", said + beyond)


def _leak(scores: ExperimentScores) -> Sentence:
    if "leaks" not in scores:
        return Sentence("not_shown", "It was not checked here whether evaluation shares anything with training.")
    if not scores["leaks"]:
        return Sentence("found", "No leak was found: evaluation shares no image and no case with training.")
    end = "These scores do not show what the model does with images and cases that it has not seen."
    return Sentence("alarm", " ".join(["Leak.", *scores["leaks"], end]))


def sentences(scores: ExperimentScores, *, label: str) -> list[Sentence]:
    """The findings of the last run, in sentences.

    Args:
        scores: of `build_scores`.
        label: of the last run, for a reader.
    """
    run, blind = list(scores["runs"].values())[-1], scores["baselines"].get(QUESTION_ONLY)
    over = run.get("over", {})
    said = [_level(label, run)]
    if BEFORE in over:
        said.append(_training(over[BEFORE]["overall"]))
    return [*said, _image(over, blind and blind["overall"]), _leak(scores)]


def dots(scores: ExperimentScores, *, run_labels: dict[str, str], blind_labels: dict[str, str]) -> list[Dot]:
    """The lines of the plot: the last run, its answers to other images, the baselines without image, the earlier runs.

    Args:
        scores: of `build_scores`.
        run_labels: run -> its label for readers.
        blind_labels: baseline -> its label for readers.
    """
    names = list(scores["runs"])
    last = scores["runs"][names[-1]]
    rows = [Dot(run_labels[names[-1]], last["overall"], "final")]
    rows += [
        Dot(f"{run_labels[names[-1]]}, {UNSEEN[kind]}", cells["overall"], "unseen")
        for kind, cells in last.get("unseen", {}).items()
    ]
    rows += [Dot(blind_labels[name], cells["overall"], "blind") for name, cells in scores["baselines"].items()]
    return rows + [Dot(run_labels[name], scores["runs"][name]["overall"], "earlier") for name in reversed(names[:-1])]
