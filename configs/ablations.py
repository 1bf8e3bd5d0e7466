"""A grid of ablations in one table: the effect of each part of an experiment.

    python -m radvqa_jax.main --config configs/ablations.py --workdir runs/ablations
    python -m radvqa_jax.main --config configs/ablations.py:medm --workdir runs/medm_ablations \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model

The first runs configs/demo.py with 400 steps of stage 2; machine: two CPU cores, four trainings of stage 2 of a few
minutes each. The second runs MedM's two stages, with ROCOv2 annealed with MedPix, and asks the questions of SLAKE;
machine: one H100. Cells with the same training share it. A grid that was stopped continues with the same command.
Expect ablations.html, .txt and .json.

    python -m radvqa_jax.main --config configs/ablations.py:questions --workdir runs/question_ablations
measures the effect of written questions and their checks, on phantoms with known truth. Stage 2 is trained on captions,
on unchecked pairs (30 % of which were made false), on checked pairs, and on checked pairs with annealing: three seeds
each, the same number of text tokens, paired differences of the means. Fifteen short trainings; about 25 minutes on two
CPU cores.

    python -m radvqa_jax.main --config configs/ablations.py:annealing --workdir runs/annealing \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model
gives MedPix a share of 0, 10, 25, 50 and 75 % of the rows of stage 2, with three seeds each and the same number of
steps; the paper names no ratio. `trained/*/stage2/losses.jsonl` has the learning curves on held-out questions of
MedPix. Machine: one H100, fifteen trainings of stage 2. :annealing_tiny does the same on phantoms and two CPU cores,
with as many steps of stage 2 as :questions.

    python -m radvqa_jax.main --config configs/ablations.py:turns --workdir runs/turns \
        --config.model.checkpoint=paligemma-3b-mix-448.npz --config.model.tokenizer=paligemma_tokenizer.model
asks SLAKE's questions about an image as a conversation, with the earlier questions and answers in the prompt
({history}). MedM's two stages are trained on conversations and on single questions. Each model is then asked single
questions, conversations with reference answers, and conversations with its own answers, each also with a blank image.
Expect the accuracy of each turn, compared with asking single questions, and the number of pairs of answers about an
image that contradict each other. Machine: one H100, two trainings of both stages. :turns_tiny does the same on
phantoms and two CPU cores: two trainings of both stages, 560 steps each, with prompts of up to 128 tokens.

Cells about another data set (VQA-RAD for the demo, PathVQA for MedM) and about Med-HALT's invented questions stay
empty, with the reason, until the data are prepared (configs/build_data.py, with the same data.data_dir). Med-HALT has
no images: its questions are asked with a blank image, and with one borrowed from the evaluated set.
"""

from pathlib import Path
from typing import Any

import ml_collections

from radvqa_jax.config import cell, load_experiment, source

ROLE = "You are an expert radiologist. answer en {question}"
Entry = ml_collections.ConfigDict
WITH_OPTIONS = "answer en {question} {choices}"
QUESTION_STEPS = 240
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)  # of MedPix in stage 2
# Mean text tokens of a row, BOS to EOS. The steps of stage 2 are chosen by them, so that every cell reads the same
# number of text tokens. A row also has 64 image tokens.
TEXT_TOKENS = {"checked": 13.2, "checked, annealed": 13.2, "unchecked": 16.3, "captions": 21.7}


def load(name: str) -> Any:
    """The experiment of another file of this folder."""
    return load_experiment(str(Path(__file__).with_name(f"{name}.py")))


def demo() -> Any:
    config = load("demo")
    config.data.seq_len = 28  # captions are longer than questions
    config.stages.stage2.total_steps = 400
    captions, questions = source(dataset="phantom_rad", task="caption"), source(dataset="phantom_rad")
    config.ablations.cells = grid(captions, questions, other="vqa_rad")
    return config


def medm() -> Any:
    config = load("medm_stage2")
    config.run_stages = ("stage1", "stage2")
    config.stages.stage1 = load("medm_stage1").stages.stage1
    config.decode.samples, config.decode.temperature = 1, 0.0
    config.eval.source = source(dataset="slake", split="test")
    config.eval.train_source = source(dataset="slake", split="train")
    # Not VQA-RAD: its images are MedPix's.
    config.ablations.cells = grid(*config.stages.stage2.sources, other="path_vqa")
    return config


def grid(main: Entry, annealed: Entry, *, other: str) -> tuple[Entry, ...]:
    """The cells. Annealing mixes a rising share of `annealed` into `main`; `other` is an out-of-distribution set."""

    def rising(start: float) -> tuple[Entry, ...]:
        risen: Any = annealed.copy_and_resolve_references()
        risen.anneal, risen.points = "linear", ((start, 0.0), (1.0, 1.0))
        return main, risen

    far = {"source": source(dataset=other, split="test"), "train_source": source(dataset=other), "seq_len": 128}
    fake = {"source": source(dataset="med_halt", builder_config="fake"), "prompt": WITH_OPTIONS, "seq_len": 512}
    return (
        cell("reference"),
        cell("without stage 1", without=("stage1",)),
        cell("adapter off", without=("stage1", "stage2")),
        cell("role prompt", prompt=ROLE, seq_len=128),
        cell("another case's image", image="swapped"),
        cell("any other image", image="swapped_any"),
        cell("blank image", image="blank"),
        cell("annealed over the last half", stage_sources=rising(0.5)),
        cell("annealed over the last fifth", stage_sources=rising(0.8)),
        cell(other, against=f"{other}, adapter off", **far),
        cell(f"{other}, adapter off", without=("stage1", "stage2"), **far),
        cell("nonsense, blank image", against="nonsense, adapter off", image="blank", **fake),
        cell("nonsense, borrowed image", against="nonsense, adapter off", image="borrowed", **fake),
        cell("nonsense, adapter off", without=("stage1", "stage2"), image="blank", **fake),
    )


def questions() -> Any:
    config = load("medm_tiny")
    config.decode.samples, config.decode.temperature, config.decode.top_k = 1, 0.0, 0
    config.synthesis.name = "planted_questions"
    config.synthesis.unchecked = True
    config.synthesis.plant = 0.3
    config.data.seq_len = 40  # some of the pairs that are made false are long
    asked = source(dataset="written", builder_config="planted_questions")
    annealed = config.stages.stage2.sources[1].copy_and_resolve_references()
    annealed.builder_config = "planted_questions"
    config.stages.stage1.sources = (asked,)
    config.stages.stage2.sources = (asked,)
    config.stages.stage2.total_steps = QUESTION_STEPS
    config.eval.source.limit = 0
    config.eval.source.builder_config = config.eval.train_source.builder_config = "planted_questions"
    trained = {
        "unchecked": (source(dataset="written", builder_config="planted_questions_unchecked"),),
        "checked": (asked,),
        "checked, annealed": (asked, annealed),
        "captions": (source(dataset="phantom_rad", task="caption"),),
    }
    config.ablations.cells = tuple(
        cell(
            f"{group}, seed {seed}",
            group=group,
            against=f"unchecked, seed {seed}",
            stage_sources=sources,
            seed=seed,
            stage_steps=round(QUESTION_STEPS * TEXT_TOKENS["checked"] / TEXT_TOKENS[group]),
        )
        for group, sources in trained.items()
        for seed in range(3)
    )
    return config


def annealing() -> Any:
    """MedM's two stages with constant shares of MedPix in stage 2, three seeds each."""
    config = load("medm_stage2")
    config.run_stages = ("stage1", "stage2")
    config.decode.samples, config.decode.temperature, config.decode.top_k = 1, 0.0, 0
    config.stages.stage2.weight_by = "source"
    config.stages.stage2.eval_source = source(
        dataset="written", builder_config="medpix_2_questions", split="validation"
    )
    main, annealed = config.stages.stage2.sources
    config.ablations.cells = shares(main, annealed)
    return config


def annealing_tiny() -> Any:
    """The same on phantoms, with shares of questions about the common organs in stage 2."""
    config = load("medm_tiny")
    config.decode.samples, config.decode.temperature, config.decode.top_k = 1, 0.0, 0
    config.stages.stage2.total_steps = QUESTION_STEPS
    config.stages.stage2.eval_every = 40
    name = config.eval.source.builder_config
    config.stages.stage2.eval_source = source(dataset="written", builder_config=name, split="validation")
    main, annealed = config.stages.stage2.sources
    annealed.anneal, annealed.points = "constant", ()
    config.ablations.cells = shares(main, annealed)
    return config


def turns() -> Any:
    """MedM's two stages, trained as in :medm, and SLAKE's questions asked in conversations."""
    config = medm()
    config.data.seq_len = 512
    return in_a_row(config)


def turns_tiny() -> Any:
    """The same on phantoms, with up to eight questions per image."""
    config = load("demo")
    config.data.seq_len = 128
    config.stages.stage2.total_steps = 500
    config.eval.source.limit = 600
    return in_a_row(config)


def in_a_row(config: Any) -> Any:
    """The experiment with its cells, which vary the training, the content of {history} and the image."""
    alone = config.data.prompt
    config.data.prompt, config.data.history = f"{{history}} {alone}", "references"
    cells = []
    for trained, prompt in (("trained in a row", ""), ("trained alone", alone)):
        for image in ("own", "blank"):
            shown = ", blank image" * (image == "blank")
            first = f"{trained}, asked alone{shown}"
            asked = {"none": "asked alone", "references": "reference answers", "own": "own answers"}
            cells += [
                cell(f"{trained}, {words}{shown}", history=name, train_prompt=prompt, image=image, against=first)
                for name, words in asked.items()
            ]
    config.ablations.cells = tuple(cells)
    return config


def shares(main: Entry, annealed: Entry) -> tuple[Entry, ...]:
    """The cells: shares of `annealed` rows among those of `main`, three seeds each."""

    def mixed(share: float) -> tuple[Entry, ...]:
        if not share:
            return (main,)
        less, more = main.copy_and_resolve_references(), annealed.copy_and_resolve_references()
        less.weight, more.weight = 1 - share, share
        return less, more

    return tuple(
        cell(
            f"{share:.0%}, seed {seed}",
            group=f"{share:.0%}",
            against=f"0%, seed {seed}",
            stage_sources=mixed(share),
            seed=seed,
        )
        for share in SHARES
        for seed in range(3)
    )


def get_config(base: str = "demo") -> ml_collections.ConfigDict:
    makers = {
        "demo": demo,
        "medm": medm,
        "questions": questions,
        "annealing": annealing,
        "annealing_tiny": annealing_tiny,
        "turns": turns,
        "turns_tiny": turns_tiny,
    }
    if base not in makers:
        others = ", ".join(f":{name}" for name in list(makers)[2:])
        raise ValueError(f"configs/ablations.py:{base} is unknown. Give :demo or :medm, or {others}.")
    config = makers[base]()
    config.mode = "ablations"
    return config
