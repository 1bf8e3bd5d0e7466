"""Questions and captions about the pictures of shapes_world.py, and the text that the tiny tokenizer learns from.

They teach three things: "yes" and "no", by comparing a word of the question with the picture; the ordinary wordings of
questions; and spelling, by copying words. No word of radiology is used, except in copying.
"""

import re

import numpy as np
from shapes_world import BACKGROUNDS, BODIES, LEVELS, MARKS, NUMBERS, SHADES, SIDES, SIZES, Mark, Scene, make_scene

# Words that the model should be able to write, learned only by copying: later stages teach their use.
WORDS = tuple(
    """yes no left right upper lower middle center small large medium bright dark round long none normal abnormal
    healthy X-ray CT MRI ultrasound chest abdomen head brain knee pelvis hand foot spine neck heart lung lungs liver
    kidney spleen stomach bone rib skull bladder nodule mass cyst effusion pneumothorax fracture calcification
    hemorrhage hematoma edema tumor lesion opacity consolidation stone infarct atrophy cardiomegaly pneumonia axial
    coronal sagittal frontal lateral plane side image scan film slice contrast T1 T2 weighted fluid air fat soft tissue
    acute chronic mild severe bilateral unilateral diffuse focal anterior posterior superior inferior medial lobe hilum
    diaphragm aorta trachea mediastinum ventricle cortex white gray matter vessel artery vein bowel colon appendix
    gallbladder pancreas uterus prostate femur tibia joint disc vertebra cerebellum temporal parietal occipital
    abnormality finding visible seen present absent shows located part body region organ modality imaging picture
    enlarged dilated thickened displaced calcified enhanced hyperdense hypodense ring shadow midline shift""".split()
)
# Words of ordinary questions, for the tokenizer and for copying.
FUNCTION_WORDS = tuple(
    """What Which Where When Who Why How Is Are Was Were Does Do In On Can Could Has Have Describe Identify Name what
    which where when why who how many much does do are was were can could is it there this that these those the of in
    on at to from with without and or not any all some more than most least between above below behind near inside
    outside patient person man woman child age old year day taken type kind name cause reason describe explain identify
    evidence suggest consistent likely possible diagnosis disease condition treatment history size shape color density
    intensity signal area structure object line border margin edge wall space level view position first second third
    number multiple single both each other same different main used use take look show shown imaged affected""".split()
)

# Words that an answer or a prefix begins with.
SPOKEN = (*BACKGROUNDS, *BODIES, *MARKS, *NUMBERS, "nothing", "answer", "caption")

# Questions by their subject; {m} is the mark, {w} a word that may be true.
OPEN = {
    "background": ("What is the background?", "Which background was used in this image?", "What background is this?"),
    "body": ("Which body is shown?", "What large body is seen?", "What is the main body of this image?"),
    "count": ("How many marks are there?", "What is the number of marks in this image?"),
    "kind": ("What mark is seen?", "What is the main mark?", "What kind of mark is this?"),
    "side": ("On which side is the {m}?", "Which side of the image is the {m} on?"),
    "level": ("Is the {m} upper or lower?", "At which level is the {m}?"),
    "size": ("How large is the {m}?", "What is the size of the {m}?"),
    "shade": ("How bright is the {m}?", "Is the {m} bright or dark?"),
}
CLOSED = {
    "background": ("Is the background {w}?", "Was a {w} background used?", "Is this a {w} image?"),
    "body": ("Is the body the {w}?", "Does this image show the {w}?", "Is this an image of the {w}?"),
    "kind": ("Is there a {w}?", "Does the image show a {w}?", "Is the mark a {w}?"),
    "side": ("Is the {m} on the {w} side?", "Is the {w} side marked?"),
    "level": ("Is the {m} at the {w} level?", "Is this a {w} {m}?"),
    "size": ("Is the {m} {w}?", "Is this a {w} {m}?"),
    "shade": ("Is the {m} {w}?", "Is this a {w} {m}?"),
}
ANY = (("Is there a mark in this image?", "yes"), ("Is this image empty?", "no"), ("Does this image look empty?", "no"))
OPPOSITE = {"yes": "no", "no": "yes"}
VALUES = {
    "background": BACKGROUNDS,
    "body": BODIES[:-1],  # no question has the word "none"
    "kind": MARKS,
    "side": SIDES,
    "level": LEVELS,
    "size": SIZES,
    "shade": SHADES,
}


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options, all equally likely."""
    return options[rng.integers(len(options))]


def _closed(rng: np.random.Generator, kind: str, value: str, mark: str = "mark") -> tuple[str, str]:
    """A yes/no question, true half of the time; never true if `value` cannot be asked for."""
    true = bool(rng.random() < 0.5) and value in VALUES[kind]
    word = value if true else pick(rng, tuple(v for v in VALUES[kind] if v != value))
    return pick(rng, CLOSED[kind]).format(m=mark, w=word), "yes" if true else "no"


def _about_mark(rng: np.random.Generator, mark: Mark, name: str) -> list[tuple[str, str]]:
    """Questions about one mark, which `name` distinguishes from the others."""
    pairs = []
    for kind in ("side", "level", "size", "shade"):
        value = getattr(mark, kind)
        pairs.append((pick(rng, OPEN[kind]).format(m=name), value))
        pairs.append(_closed(rng, kind, value, name))
    return pairs


def questions(rng: np.random.Generator, scene: Scene) -> list[tuple[str, str]]:
    """(prefix, suffix) pairs about a scene: background, body, number of marks, and each mark that can be named."""
    text, answer = ANY[rng.integers(len(ANY))]
    pairs = [(text, answer if scene.marks else OPPOSITE[answer])]
    for kind in ("background", "body"):
        value = getattr(scene, kind)
        pairs += [(pick(rng, OPEN[kind]), value), _closed(rng, kind, value)]
    pairs.append((pick(rng, OPEN["count"]), NUMBERS[len(scene.marks)]))
    kinds = [m.kind for m in scene.marks]
    for mark in scene.marks:
        if len(kinds) == 1:
            pairs += [(pick(rng, OPEN["kind"]), mark.kind), _closed(rng, "kind", mark.kind)]
            pairs += _about_mark(rng, mark, "mark")
        elif kinds.count(mark.kind) == 1:
            pairs += [(f"Is there a {mark.kind}?", "yes"), *_about_mark(rng, mark, mark.kind)]
    absent = pick(rng, tuple(kind for kind in MARKS if kind not in kinds))
    pairs.append((pick(rng, CLOSED["kind"][:2]).format(w=absent), "no"))
    return [(f"answer en {question}", answer) for question, answer in pairs]


def caption(scene: Scene) -> tuple[str, str]:
    """(prefix, suffix): one sentence about everything in the scene."""
    body = "nothing" if scene.body == "none" else f"a {scene.body}"
    marks = [f", a {m.size} {m.shade} {m.kind} {m.level} {m.side}" for m in scene.marks]
    return "caption en", f"{body} on {scene.background}" + "".join(marks)


def copy_task(rng: np.random.Generator) -> tuple[str, str]:
    """A pair that has the model spell a few words."""
    words = " ".join(rng.choice(WORDS + FUNCTION_WORDS, rng.integers(1, 3)))
    return f"answer en Repeat: {words}", words


def draw_task(rng: np.random.Generator, scene: Scene) -> tuple[str, str]:
    """One pair: mostly a question, sometimes a caption of few marks, sometimes words to copy."""
    chance = rng.random()
    if chance < 0.04:
        return copy_task(rng)
    if chance < 0.1 and len(scene.marks) < 2:
        return caption(scene)
    pairs = questions(rng, scene)
    return pairs[rng.integers(len(pairs))]


def kind_of(prefix: str, suffix: str) -> str:
    """The subject of a task: its kind if it is open, else closed and the kind of the requested word."""
    if prefix.startswith(("caption", "answer en Repeat")):
        return prefix.split(":")[0]
    if suffix not in OPPOSITE or "many marks" in prefix or "number" in prefix:
        return "open " + next((k for k, words in VALUES.items() if suffix in words), "count")
    asked = next((k for k, words in VALUES.items() if set(words) & set(re.findall(r"\w+", prefix))), "any")
    return f"closed {asked}"


def corpus(seed: int, scenes: int) -> list[str]:
    """Sentences for the tokenizer: questions, answers and captions of scenes, and every word in such contexts.

    SentencePiece takes a word as a piece only if it is a part of two different ones, hence the punctuation after words.
    """
    rng = np.random.default_rng(seed)
    seen = [make_scene(rng) for _ in range(scenes)]
    lines = [text for scene in seen for pair in (*questions(rng, scene), caption(scene)) for text in pair]
    frames = (
        "answer en Is there a {}?",
        "answer en What {} is shown in this image?",
        "answer en Was this image taken with {}?",
        "answer en Which {} of the patient was imaged?",
    )
    asked = [frame.format(word) for word in WORDS for frame in frames for _ in range(4)]
    answers = [f"{word}{end}" for word in (*WORDS, *SPOKEN) for end in ("", "", "", ",", ".", ";") for _ in range(3)]
    openings = [word for word in FUNCTION_WORDS if word[0].isupper()]
    others = [word for word in FUNCTION_WORDS if word[0].islower()]
    pairs = [f"answer en {a} {b}" for a in openings for b in others]
    ends = [f"answer en {word}{end} " for word in (*FUNCTION_WORDS, *WORDS) for end in (",", ".", ";", ":")]
    return [*lines, *asked, *answers, *pairs, *ends, "answer, caption; answer: caption, en, en;"]
