"""The rules for Chinese: the many words for yes and no, counters, enumerations, terms, and sentence frames.

Traditional characters are read as simplified. Modalities may be written in English, as SLAKE's references are.
"""

import functools
import re
from typing import Literal

import opencc

from radvqa_jax.evaluation import terms
from radvqa_jax.evaluation.normalize import comparable, fold

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
STOPS = re.compile("[\u3002!?;\uff1b\n]|\\.(?=\\s|$)")
_ITEMS = re.compile("[\u3001\uff0c,;]|\u4ee5\u53ca|\u548c|\u4e0e|\u53ca|\u8ddf|\\band\\b")
PUNCTUATION = re.compile("[^\\w\u3001%<>\u2264\u2265\u00b1+./:^-]+")
_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {"两": 2, "俩": 2}
_COUNTERS = "个只条根块片处颗张枚名种位张份次"
_DIGIT = "[一二三四五六七八九两俩]"
_NUMERAL = f"({_DIGIT}百(?:零{_DIGIT}|{_DIGIT}十{_DIGIT}?)?|{_DIGIT}?十{_DIGIT}?|{_DIGIT}|零)"
_NO_PART = "(?<![零一二三四五六七八九十百千万两俩])"  # "四五个" is four or five
_COUNTED = re.compile(f"(?<![\u4e00-\u9fff]){_NUMERAL}(?=[{_COUNTERS}]|$)|{_NO_PART}{_NUMERAL}(?=[{_COUNTERS}])")
_COUNTER = re.compile(f"(?<=\\d)[{_COUNTERS}](?![\u4e00-\u9fff]*体)")
ORGANS = "肝肾脾心肺脑胃胸腹颈头胰眼胆"  # of one character; an answer may omit one that the question names
# Words that a sentence adds without changing its meaning.
_FRAME = re.compile(
    "一共(?:有)?|总共(?:有)?|共计|共有|只有|仅有|可见|区域|这(?:张|幅|个|份|些)?(?:图像|图片|影像|图|片子|扫描)?|该(?:图像|图片|影像|图|患者|病人)?|图像|图片|影像|此图|图中|图上|画面|片中|患者|病人"
    "|可以看到|可以看出|能够看到|能看到|看到|可以|显示|所示|展示|呈现|拍摄|采用|使用|利用|通过|患有|患了|用|属于|位于|处于|出现|存在于|分布|主要|应该|应为|应是|就是|都是|是|为|在|于|中|里|内"
    "|上面的|的|了|着|一张|一幅|一个|器官|部位|模态|平面|切面|成像|扫描|检查|方式|技术|类型|颜色|形状|答案|回答|因此|所以|综上|最终|处|有|图"
)
_GUARDED = re.compile("[左右上下前后双两不没无非否未0-9]|异常|正常|健康")
ALTERNATIVE = re.compile("还是|或者|或")
NOT_NEGATIONS = re.compile("不同|不仅|不但|不规则|不均匀|不张|无论|非常|未知|不过|否则|不断|不全")
NEGATED = re.compile("不|没|无|未|非|否")
NORMAL = re.compile("正常|健康")
ABNORMAL = re.compile("异常|病变|不正常|不健康|疾病|患病|病灶|问题")
_REFUSAL = re.compile(
    "无法|不能(?:确定|判断|回答|提供|诊断)|不知道|抱歉|对不起|作为一个?(?:ai|人工智能|语言模型)|难以判断|没有(?:提供|上传|看到)(?:图像|图片)|不确定|不清楚"
)
_REASON = re.compile(
    "[\uff0c,。]?\\s?(?:因为|由于|原因是|理由是|依据|根据|表现为|提示|说明|即|也就是)|\\([^()]*\\)|[\uff0c,](?:而不是|不是|而非|并非).*$"
)


def has_han(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return not text.isascii() and bool(_HAN.search(text))


@functools.cache
def _converter() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


@functools.lru_cache(maxsize=1 << 15)
def simplify(text: str) -> str:
    """The folded, lower-case text in simplified characters, without spaces around them."""
    text = fold(text).casefold()
    text = _converter().convert(text) if has_han(text) else text
    return re.sub(r"(?<=[\u4e00-\u9fff])\s+|\s+(?=[\u4e00-\u9fff])", "", text)


def plain(text: str) -> str:
    """The form in which `exact` compares: simplified, without punctuation and spaces.

    >>> plain("左肺。") == plain(" 左肺")
    True
    """
    text = simplify(text)
    return PUNCTUATION.sub("", text).strip("./:-") if has_han(text) else comparable(text)


@functools.cache
def _variants(*, status: bool) -> tuple[re.Pattern[str], dict[str, str]]:
    rows = [row for row in terms.rows("chinese") if status or row["kind"] != "status"]
    table = {variant: row["term"] for row in rows for variant in terms.split(row["variants"])}
    table |= {row["term"]: row["term"] for row in rows}  # so that a variant inside it is not replaced
    longest = sorted(table, key=len, reverse=True)
    # A Latin variant counts as a whole word: "mr" is not in "mri".
    parts = [rf"(?<![a-z]){re.escape(v)}(?![a-z0-9])" if v[-1].isascii() else re.escape(v) for v in longest]
    return re.compile("|".join(parts)), table


def in_terms(text: str, *, status: bool = True) -> str:
    """The simplified text in the words of terms/chinese.tsv, those of the kind `status` only if asked for."""
    pattern, table = _variants(status=status)
    return pattern.sub(lambda match: table[match[0]], text)


def _number(numeral: str) -> str:
    hundreds, tens, ones = re.fullmatch("(?:(.)百)?零?(?:(.?)十)?(.?)", numeral).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return str(
        100 * _DIGITS.get(hundreds, 0) + (0 if tens is None else 10 * _DIGITS.get(tens, 1)) + _DIGITS.get(ones, 0)
    )


def counted(text: str) -> str:
    """The text with what it counts in digits and without counters.

    >>> counted("两个"), counted("二十四根"), counted("十几个")
    ('2', '24', '十几个')
    """
    return _COUNTER.sub("", _COUNTED.sub(lambda match: _number(match[1] or match[2]), text))


def _item(text: str, asked: str = "") -> str:
    """The content of one list item, without its frame and without the words of the question."""
    text = re.sub("([左右])([上中下])(?:肺叶|叶肺|肺)", r"\1肺\2叶", text)
    text = in_terms(text)
    text = re.sub(f"(?:双侧|两|左右)(?=[{ORGANS}])", "双", text)
    text = re.sub(f"([{ORGANS}])([左右])$", r"\2\1", text)  # "大脑右侧" is the right half
    text = re.sub("^(?:病变|病灶|异常|疾病|肿块)(?:位于|处于|出现在|在)", "", text)
    if asked and not re.search("几|多少|数", asked):  # "一张CT图像" counts nothing
        text = re.sub("一(?:张|幅|个|种|份|例|项)(?=\\w)", "", text)
    text = counted(re.sub("一共|总共|只有|仅有", "", text))
    if asked:
        text = _without_asked(text, asked)
    bare = _FRAME.sub("", text)
    bare = PUNCTUATION.sub("", bare if re.search(r"\w", bare) else text).strip("./:-、")
    if has_han(bare):
        return bare.replace("mrit", "t").replace("tmri", "t")
    return re.sub(r"\s", "", " ".join(terms.canonical(bare)))


def _without_asked(text: str, asked: str) -> str:
    """The text without its runs of two or more characters that the question contains."""
    kept, index = [], 0
    while index < len(text):
        end = index
        while end < len(text) and end - index < 40 and text[index : end + 1] in asked:
            end += 1
        run = text[index:end]
        guarded = _GUARDED.search(run.replace("异常", "") if re.search("什么|哪", asked) else run)
        if (len(run) > 1 or (len(run) == 1 and run in ORGANS)) and not guarded:
            index = end
        else:
            kept.append(text[index])
            index += 1
    return "".join(kept)


@functools.lru_cache(maxsize=1 << 15)
def key(text: str, asked: str = "") -> frozenset[str]:
    """The content of an answer: its items without order, in the words of terms/chinese.tsv.

    >>> key("2个") == key("两个") == key("2"), key("X光") == key("X-Ray")
    (True, True)
    """
    text = simplify(text)
    whole = STOPS.sub("", text)
    items = frozenset(item for part in _ITEMS.split(whole) if (item := _item(part, asked)))
    return frozenset({"双侧"}) if items == {"左", "右"} else items


def _before_alternatives(question: str) -> str:
    """The part of a question before its alternatives, each assumed to be as long as the last."""
    found = re.match(r"(.*?)(?:还是|或者|或)([^,\uff0c?!\u3002]*)", simplify(question))
    return found[1][: -len(found[2])] if found and found[2] else ""


def _says(reference: str, answer: str, question: str) -> bool:
    if key(reference) and key(reference) == key(answer):
        return True
    if ALTERNATIVE.search(question):
        status = status_of(simplify(reference))
        if status is not None and status == status_of(simplify(answer)) and not ALTERNATIVE.search(answer):
            return True
        question = _before_alternatives(question)
    if not question:
        return False
    asked = in_terms(simplify(question))
    said = key(reference, asked)
    return bool(said) and said == key(answer, asked)


def says_framed(reference: str, text: str, question: str) -> bool:
    """Whether one part of a reply says just the reference, in a sentence or in other words."""
    return len(text) <= 600 + len(reference) and _says(reference, text, question)


def status_of(clause: str) -> Literal["normal", "abnormal"] | None:
    """Whether a clause calls something normal or abnormal."""
    clause = NOT_NEGATIONS.sub("", clause)
    if re.search("(?:不|非)(?:是|太|够|很)?(?:正常|健康)", clause):
        return "abnormal"
    if NORMAL.search(clause):
        return "normal"
    if ABNORMAL.search(clause):
        return "normal" if NEGATED.search(clause) else "abnormal"
    return None


def is_refusal(text: str) -> bool:
    """Whether a Chinese reply declines to answer."""
    return bool(_REFUSAL.search(simplify(text[:2000])))


def choice_text(text: str) -> str:
    """A reply to a multiple-choice question with its Chinese words of choosing in English.

    >>> choice_text("故选B。"), choice_text("B、MRI")
    ('Answer: B.', 'B. MRI')
    """
    text = re.sub(r"(?:不选|不是|并非|排除)\s?(?:选项)?\s?([A-Z])(?![A-Za-z])", r"not \1", text)
    text = re.sub(r"([A-Z])\s?(?:选项)?\s?(?:不正确|错误|不对|是错的|不符合)", r"\1 is wrong", text)
    text = re.sub(r"(?:应该?选|故选|选择|选项|选)\s?(?:的?是)?\s?:?\s?([A-Z])(?![A-Za-z])", r"Answer: \1", text)
    text = re.sub(r"(?<![A-Za-z])([A-Z])\s?(?:选项|项)?\s?(?:是|为)?\s?(?:正确|对)的?(?:答案)?", r"\1 is correct", text)
    return re.sub(r"(?<![A-Za-z])([A-Z])\s?[、。]", r"\1. ", text).replace("。", ". ").strip()


def candidates(text: str) -> list[str]:
    """The parts of a reply that may be its answer: whole, its first sentence, without the reason behind it."""
    parts = [part for part in STOPS.split(text) if re.search(r"\w", part)]
    if not parts:
        return []
    first = parts[0]
    reason = _REASON.search(first, 1) if len(first) > 1 else None
    found = [text, first, first[: reason.start()] if reason else first]
    if len(parts) > 1 and not all(len(part) > 3 for part in parts[1:]):  # short sentences are further answers
        found = [text]
    return list(dict.fromkeys(found))


def says(reference: str, text: str, question: str, *, exact: bool) -> bool:
    """Whether a stated answer is the reference; `exact` takes no other words and no frame."""
    if len(text) > 600 + len(reference):
        return False
    if exact:
        listed = [frozenset(plain(part) for part in _ITEMS.split(simplify(t))) for t in (reference, text)]
        return plain(reference) == plain(text) or listed[0] == listed[1]
    return any(_says(reference, part, question) for part in candidates(text))
