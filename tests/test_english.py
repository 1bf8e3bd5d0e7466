"""The English of pages, docstrings and comments: turns of phrase that docs/style.md rules out stay out."""

import ast
import io
import re
import tokenize

import pytest

from .test_repository import REPO, repository_files

# Turns of phrase that docs/style.md rules out, with what to write instead.
STRAINED = {
    r"\b(lie|lies|lay) (in|on|at|beside|below|there|where)\b": "is in, is on",
    r"\bbeside\b": "next to, with, compared with, in addition to",
    r"\b(?<!there )(is|are) (?-i:none)\b": "is not one, is not valid",
    r"\b(is|are|was) told\b": "is reported, is given",
    r"\bso many\b": "this many, the number of",
    r"\bheld against\b": "compared with, checked against",
    r"\bwhat stands\b": "the content",
    r"\bwhat .{1,40} (came|comes) to\b": "the result of",
    r"\bto be had\b|\bbe had without\b": "available",
}
# First words of a docstring that make a riddle of it ("What a run sent."), and what to write.
RIDDLE = r"(Returns|What|Which|How|Where|When|Why|Who)\b"
INSTEAD = "begin with a noun or a verb"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def strained_phrases(text: str) -> list[str]:
    """The turns of phrase in a text that the style rules out, with what to write; code does not count."""
    prose = re.sub(r"^```.*?^```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for pattern, instead in STRAINED.items():
        found += [f"{match[0]!r}: write {instead}" for match in re.finditer(pattern, prose, re.IGNORECASE)]
    return found


def test_pages_are_written_in_plain_english() -> None:
    pages = [*REPO.glob("*.md"), *REPO.glob("docs/*.md"), *REPO.glob("tfds_builders/*/README.md")]
    apart = ("CHANGELOG.md", "style.md")  # history; quotes the phrases
    pages = [path for path in pages if path.name not in apart]
    assert len(pages) > 30
    found = [
        f"{path.relative_to(REPO)}: {said}" for path in pages for said in strained_phrases(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


def prose_of(source: str) -> tuple[list[str], list[str]]:
    """The docstrings of a Python file, and its comments."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, DOCUMENTED)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [text for node in nodes if (text := ast.get_docstring(node))], comments


def test_docstrings_and_comments_are_written_in_plain_english() -> None:
    sources = [path for path in repository_files() if path.suffix == ".py" and path.name != "test_english.py"]
    texts = {path: path.read_text("utf-8") for path in sources}
    found = []
    for path, source in texts.items():
        if not re.search(rf'{"|".join(STRAINED)}|"""{RIDDLE}', source, re.IGNORECASE):
            continue  # nothing to find: such a file need not be parsed
        docstrings, comments = prose_of(source)
        said = [phrase for text in docstrings + comments for phrase in strained_phrases(text)]
        said += [f"{text[:60]!r}: {INSTEAD}" for text in docstrings if re.match(RIDDLE, text)]
        found += [f"{path.relative_to(REPO)}: {each}" for each in said]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The file lies beside the data, and is none of ours.", 3),
        ("`a file beside` it is one, and there is none.\n```\nit is told\n```\n", 0),
        ("No idle machine was to be had; the reader is told so.", 2),
    ],
)
def test_strained_phrases_are_found_in_prose_alone(text: str, count: int) -> None:
    assert len(strained_phrases(text)) == count


def test_docstrings_and_comments_of_a_file_are_found() -> None:
    source = '"""What it is."""\n\ndef f():\n    """Returns it."""\n    return "beside"  # a file beside it\n'
    docstrings, comments = prose_of(source)
    assert docstrings == ["What it is.", "Returns it."] and all(re.match(RIDDLE, text) for text in docstrings)
    assert [len(strained_phrases(text)) for text in comments] == [1]
