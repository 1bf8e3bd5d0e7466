"""The words of phantom_rad: views, findings, sides and sizes, and the content of one image."""

from typing import NamedTuple

SOURCE = "phantom_rad synthetic 1.0.0"

FINDINGS = ("nodule", "cyst", "calcification", "effusion", "fracture")
SIDES = ("left", "right")  # the patient's; left is on the right of the image (radiological convention)
SIZES = ("small", "large")


class View(NamedTuple):
    """One kind of image: its acquisition, its body part, and its size in pixels."""

    modality: str
    organ: str
    plane: str
    height: int
    width: int
    has_fracture: bool = False  # only where a long bone is drawn

    @property
    def has_side(self) -> bool:
        """Whether left and right can be distinguished, as they cannot from the side."""
        return self.plane not in ("sagittal", "lateral")

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that this view may show."""
        return FINDINGS if self.has_fracture else FINDINGS[:-1]


# Four views per modality, so that no modality is more frequent than another.
VIEWS = (
    View("X-ray", "chest", "frontal", 176, 152),
    View("CT", "chest", "axial", 144, 176),
    View("MRI", "head", "axial", 168, 144),
    View("X-ray", "chest", "lateral", 176, 144),
    View("CT", "abdomen", "axial", 144, 168),
    View("MRI", "head", "sagittal", 160, 152),
    View("X-ray", "knee", "frontal", 152, 176, has_fracture=True),
    View("CT", "head", "axial", 168, 144),
    View("MRI", "knee", "sagittal", 168, 144, has_fracture=True),
    View("X-ray", "pelvis", "frontal", 144, 176, has_fracture=True),
    View("CT", "knee", "coronal", 152, 168, has_fracture=True),
    View("MRI", "abdomen", "coronal", 168, 152),
)


class Attributes(NamedTuple):
    """Content of one image. Without a lesion `finding`, `side` and `size` are ""; `side` also if the view has none."""

    view: View
    finding: str = ""
    side: str = ""
    size: str = ""

    def check(self) -> "Attributes":
        """The attributes themselves; raises ValueError if they contradict each other."""
        view = self.view
        if self.finding and self.finding not in view.findings:
            raise ValueError(f"finding={self.finding!r} cannot be drawn in {view}. Choose one of {view.findings}.")
        if bool(self.size) != bool(self.finding) or (self.size and self.size not in SIZES):
            raise ValueError(f"size={self.size!r} must be one of {SIZES} with a finding and empty without one.")
        sides = SIDES if self.finding and view.has_side else ("",)
        if self.side not in sides:
            raise ValueError(f"side={self.side!r} must be one of {sides} for finding={self.finding!r} in {view}.")
        return self


def article(word: str) -> str:
    """The word with its indefinite article.

    >>> article("effusion"), article("X-ray"), article("CT")
    ('an effusion', 'an X-ray', 'a CT')
    """
    return f"an {word}" if word.startswith(("a", "e", "i", "o", "X-ray", "MRI")) else f"a {word}"  # "an em-ar-eye"


def caption(attributes: Attributes) -> str:
    """One plain sentence.

    >>> caption(Attributes(VIEWS[4], "cyst", "left", "small"))
    'Axial CT of the abdomen with a small cyst on the left.'
    """
    view = attributes.view
    head = f"{view.plane.capitalize()} {view.modality} of the {view.organ}"
    if not attributes.finding:
        return f"{head} without abnormality."
    where = f" on the {attributes.side}" if attributes.side else ""
    return f"{head} with a {attributes.size} {attributes.finding}{where}."
