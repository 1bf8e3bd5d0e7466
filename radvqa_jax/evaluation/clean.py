"""Removes everything from a model's reply that is not part of its answer.

The scoring rules, the judge and every other reader of replies start from `clean`. It removes residue (a reasoning
block, special tokens, chat roles, markup, an echo of the prompt, a dialogue that the model went on to invent, a stated
confidence) and writes JSON, LaTeX boxes and answer tags as lines of text. It never decides what the answer is.
"""

import html
import json
import re
import unicodedata
from typing import Any

LONGEST = 4_000  # characters that are read; of a longer reply, half of them from its start and half from its end

_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff]")
# Full-width marks of Chinese text; its comma, full stop and enumeration comma stay.
_FULL_WIDTH = str.maketrans("\uff1a\uff1f\uff01\uff08\uff09\uff1b\uff5c\uff1c\uff1e\uff05", ":?!();|<>%")
_SPACES, _LINES = re.compile(r"[^\S\n]+"), re.compile(r" ?\n(?: ?\n)* ?")
# Names of reasoning blocks, as <name>, [NAME] or with triangles; MedGemma marks its own with two unused tokens.
_THOUGHT = r"(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis)"
_THINK_HINTS = ("think", "thought", "reason", "reflect", "scratch", "analysis", "unused9", "channel")
_THINK_OPEN = re.compile(
    rf"<{_THOUGHT}>|\[THINK\]|◁think▷|<unused94>|<\|channel\|?>\s*(?:analysis|thought)", re.IGNORECASE
)
_THINK_CLOSE = re.compile(
    rf"</{_THOUGHT}>|\[/THINK\]|◁/think▷|<unused95>|<\|channel\|?>\s*final\s*<\|message\|>|<channel\|>", re.IGNORECASE
)
# A token that ends a turn: what follows is no longer the answer.
_END = re.compile(
    r"</s>|<eos>|<end_of_turn>|<turn\|>|<end_of_utterance>|<\|(?:im_end|endoftext|eot_id|end|end_of_text|return)\|>"
    r"|<\|end▁of▁sentence\|>",
    re.IGNORECASE,
)
# Ends of the prompt in chat templates, for replies that were saved with their prompts.
_PROMPTED = re.compile(
    r"\[/INST\]|<start_of_turn>model\b|<\|im_start\|>assistant\b"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|assistant\|>",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"<\|[^<>|\n]{0,40}\|>|<(?:s|bos|pad|unk|mask|image|start_of_turn|start_of_image|end_of_image"
    r"|fake_token_around_image"
    r"|row_\d+_col_\d+|(?:unused|loc|seg|image_?)\d+)>|<\|?turn\|?>|\[/?INST\]|<</?SYS>>|<0x0A>",
    re.IGNORECASE,
)
_TAGS = re.compile(
    r"</?(?P<name>a|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|font|h[1-6]|head|hr|html|i|img"
    r"|ins|kbd|li"
    r"|mark|ol|p|pre|q|s|small|span|strike|strong|sub|sup|table|tbody|td|th|thead|tr|tt|u|ul)(?:\s[^<>]{0,200})?/?>",
    re.IGNORECASE,
)
_INLINE_TAGS = set("a b big cite code em font i ins kbd mark q small span strong sub sup tt u".split())
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~|<(del|s|strike)>[^<>]{0,200}</\1>", re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(?:final_?)?answer>\s*(.*?)\s*(?:</(?:final_?)?answer>|$)", re.IGNORECASE | re.DOTALL)
_LATEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathsf)\s*\{([^{}]{0,500})\}")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]{0,500})\}")
_ROLES = r"(?:assistant|model|ai|bot|gpt|chatbot|radiologist|doctor|助手|模型)"
_ROLE = re.compile(
    rf"\s?(?:[#*<\[|]{{0,4}}{_ROLES}[\]>*|]{{0,4}} ?[:\n]|#{{1,6}} ?{_ROLES} ?:?\s)\s{{0,2}}", re.IGNORECASE
)
# The next turn of a dialogue that the model writes by itself.
_NEXT_TURN = re.compile(
    r"\n[ #*>]{0,8}(?:(?:question|user|human|patient|student|prompt|instruction|input) ?\d{0,3}|q\d{0,3})[* ]{0,3}:"
    r"|(?<=[\w.!?)\]*])\s[*#]{0,4}(?-i:Q(?:uestion|UESTION)|U(?:ser|SER)|H(?:uman|UMAN)) ?\d{0,3}[* ]{0,3}:\s"
    r"|\n[ #*]{0,8}(?:问题|用户|问) ?\d{0,3} ?:",
    re.IGNORECASE,
)
_ECHO = re.compile(r"\s?[#*]{0,4} ?(?:question|q|问题|问) ?\d{0,3}[ *]{0,3}:[^\n?]{0,500}\??", re.IGNORECASE)
_CONFIDENCE = re.compile(
    r"[(\[{]\s*(?:with\s+)?(?:a\s+)?(?:confidence|certainty|probability|置信度)[^()\[\]{}\n]{0,60}[)\]}]"
    r"|(?:^|(?<=[\n.;,|/])) ?[-*#_]{0,4} ?(?:(?:my|overall|answer) )?(?:confidence|certainty|置信度)"
    r"(?: (?:score|level|rating))?[*_ ]{0,4}(?:is|=|:)?[*_ ]{0,4}"
    r"(?:\d[\d.]*\s*(?:%|/\s*\d+)?|(?:very\s+)?(?:high|low|medium|moderate)|高|中|低)"
    r"[*_]{0,4} ?\.?(?=\s|$)"
    r"|[(\[]\s*\d[\d.]*\s*%\s*(?:confidence|confident|certainty|certain|sure)?\s*[)\]]",
    re.IGNORECASE,
)
_SURE = re.compile(r"onfiden|ertain|robab|\d\s*%|\u7f6e\u4fe1", re.IGNORECASE)
_FENCE = re.compile(r"```[^\S\n]*[A-Za-z]*[^\S\n]*\n?(.*?)(?:```|$)", re.DOTALL)
_EMPHASIS = re.compile(
    r"(?<!\d)\*+|\*+(?!\d)|`+|(?<![^\W_])_{1,3}(?=\w)|(?<=\w)_{1,3}(?![^\W_])|^(?:#{1,6} |> (?![\d.=]))", re.MULTILINE
)
_LONE_NUMBER = re.compile(
    r"\A1[.)] (?=[^\W\d])(?!.*^2[.)] )(?!.*\s2[.)] )", re.DOTALL | re.MULTILINE
)  # a list of one item
_KEYS = ("final_answer", "answer", "final answer", "prediction", "choice", "option", "response", "result", "label")
_MEASURES = ("confiden", "certain", "probab", "score")  # keys for the model's confidence
_LOOSE_KEY = re.compile(
    r"[\"'](?:final[_ ]?)?(?:answer|prediction|choice|option)[\"']\s*:\s*(?:\"([^\"]{1,500})\"|'([^']{1,500})')",
    re.IGNORECASE,
)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for found in pattern.finditer(text):  # noqa: B007
        pass
    return found


def ends(text: str, longest: int) -> str:
    """The text, or its first and last part if it is longer than `longest`."""
    return text if len(text) <= longest else f"{text[: longest // 2]}\n{text[-longest // 2 :]}"


def _written(character: str) -> str:
    """The characters of a ligature or fraction written out; one that means only one or two characters stays."""
    written = unicodedata.normalize("NFKC", character)
    if len(written) < 3:
        return character
    return f" {written}" if unicodedata.category(character) == "No" else written  # 5½ is 5 1/2, not 51/2


def _bounded(text: str) -> str:
    """The ends of a text that is too long as written, or once its ligatures and fractions are written out.

    One character may expand to eighteen, and the rules read the expansion.
    """
    text = ends(text, LONGEST)
    if text.isascii() or len(unicodedata.normalize("NFKC", text)) < 1.5 * len(text):
        return text
    return ends(text.translate({ord(character): _written(character) for character in set(text)}), LONGEST)


def _may_be_sure(text: str) -> bool:
    if not text.isascii():  # where letters of other scripts match by their case, too
        return bool(_SURE.search(text))
    lower = text.lower()
    return "%" in text or "onfiden" in lower or "ertain" in lower or "robab" in lower


def without_thinking(text: str) -> str:
    """Removes reasoning blocks; a block that is never closed is removed up to the end of the text.

    >>> without_thinking("<think>Is it A? B?</think>C"), without_thinking("It could be A.</think>C")
    ('C', 'C')
    """
    lower = text.casefold()
    if not any(hint in lower for hint in _THINK_HINTS):
        return text
    if close := _last(_THINK_CLOSE, text):
        text = text[close.end() :]
    open_ = _THINK_OPEN.search(text)
    return text[: open_.start()] if open_ else text


def _from_json(value: Any) -> str:
    """Writes a JSON value as lines, the answer first; numbers next to it (a confidence, an id) are left out."""
    if isinstance(value, list):
        return ", ".join(_from_json(item) for item in value)
    if not isinstance(value, dict):
        return "" if value is None else {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    named = {str(key).strip().casefold(): item for key, item in value.items()}
    key = next((key for key in _KEYS if named.get(key) not in (None, "")), None)
    texts = {
        name: _from_json(item)
        for name, item in named.items()
        if isinstance(item, str | list | dict) and not name.startswith(_MEASURES)
    }
    if key is None:
        return "\n".join(texts.values()) if len(texts) == 1 else "\n".join(f"{k}: {v}" for k, v in texts.items())
    return "\n".join(
        [f"Answer: {_from_json(named[key])}", *(f"Reason: {v}" for k, v in texts.items() if k not in _KEYS)]
    )


def _unwrap(text: str) -> str:
    """Writes JSON, bare or in a fence, as lines of text; other fences lose their marks only."""
    if "```" in text:
        text = _FENCE.sub(lambda match: f"\n{match[1]}\n", text)
    start, end = text.find("{"), text.rfind("}")
    if start == -1 or ('"' not in text and "'" not in text):
        return text
    if end > start:
        try:
            value = json.loads(text[start : end + 1], strict=False)
        except (ValueError, RecursionError):
            pass  # not JSON: a loose key or the text itself is read below
        else:
            return f"{text[:start]}\n{_from_json(value)}\n{text[end + 1 :]}"
    if loose := _last(_LOOSE_KEY, text):
        return f"Answer: {loose[1] or loose[2]}"
    return text


def _without_echo(text: str, question: str, prompt: str) -> str:
    """Removes the prompt or the question where the reply begins with it."""
    for echo in (prompt, question):
        words = echo.strip(" ?\n").split()
        if not words:
            continue
        pattern = (
            r"[\s*#\"']{0,6}(?:question|q)?[ :*]{0,6}" + r"\s".join(map(re.escape, words)) + r"(?!\w)[\s*\"'?]{0,6}"
        )
        found = re.match(pattern, text, re.IGNORECASE)
        if found and (len(words) > 2 or re.search(r"\w", text[found.end() :])):
            return text[found.end() :]
    found = _ECHO.match(text)
    return text[found.end() :] if found and re.search(r"\w", text[found.end() :]) else text


def clean(text: str, *, question: str = "", prompt: str = "") -> str:
    r"""Removes all that is not part of a reply's answer: reasoning, special tokens, roles, markup, echoes, confidence.

    An answer in a tag, a LaTeX box or a JSON object becomes a line "Answer: …". Only the beginning and the end of a
    reply of more than `LONGEST` characters are read, so that the time per reply is bounded.

    >>> clean("<think>No mass on the left.</think> **Yes**<eos>")
    'Yes'
    >>> clean('{"answer": "D", "confidence": 0.9}')
    'Answer: D'
    >>> clean("Final answer: cardiomegaly\n\nConfidence: 90%")
    'Final answer: cardiomegaly'

    Args:
        text: the reply as it was decoded.
        question: what was asked; removed where the reply begins with it.
        prompt: what the model was given; removed where the reply begins with it.
    """
    text = ends(without_thinking(text), 3 * LONGEST)
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text).translate(_FULL_WIDTH)
    # Runs of white space shrink first, so that later patterns may match white space character by character.
    text = _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    if not text.isascii() or "  " in text or "\t" in text:
        text = _SPACES.sub(" ", text)
    text = _bounded((_LINES.sub("\n", text) if "\n" in text else text).strip())
    if "<" in text or "[" in text:
        if (prompted := _PROMPTED.search(text)) and re.search(r"\w", text[prompted.end() :]):
            text = text[prompted.end() :]
        for end in _END.finditer(text):
            if re.search(r"\w", _TOKENS.sub("", text[: end.start()])):
                text = text[: end.start()]
                break
        text = _TOKENS.sub("\n", _END.sub("", text))
        text = _STRUCK.sub(" ", text)
        text = _ANSWER_TAG.sub(lambda match: f"\nAnswer: {match[1]}\n", text)
        text = _TAGS.sub(lambda match: "" if match["name"].casefold() in _INLINE_TAGS else "\n", text)
    if "&" in text:
        text = html.unescape(text)
    if "~" in text:
        text = _STRUCK.sub(" ", text)
    if "\\" in text:
        text = _BOXED.sub(r"\nAnswer: \1\n", _LATEX.sub(r"\1", text)).replace("$", " ")
    text = _unwrap(text)
    for _ in range(3):  # a role may come before and after an echo
        text = _ROLE.sub("", text, count=1) if _ROLE.match(text) else text
        text = _without_echo(text, question, prompt)
    if "*" in text or "`" in text or "_" in text or "#" in text or ">" in text:
        text = _EMPHASIS.sub("", text)
    for turn in _NEXT_TURN.finditer(text) if ":" in text else ():
        if re.search(r"\w", text[: turn.start()]):
            text = text[: turn.start()]
            break
    if _may_be_sure(text):
        text = _CONFIDENCE.sub("", text)
    return _LONE_NUMBER.sub("", text.strip())
