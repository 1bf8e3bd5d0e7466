"""The rules for Chinese: the many words for yes and no, counters, enumerations, terms, and sentence frames.

Traditional characters are read as simplified. Modalities may be written in English, as SLAKE's references are.
"""

import functools
import re
from typing import Literal

import opencc

from radvqa_jax.evaluation import marks, terms
from radvqa_jax.evaluation.normalize import comparable, fold

Answer = Literal["yes", "no"]

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_STOPS = re.compile("[\u3002!?;\uff1b\n]|\\.(?=\\s|$)")
_COMMAS = re.compile("[\uff0c,:]")
_ITEMS = re.compile("[\u3001\uff0c,;]|\u4ee5\u53ca|\u548c|\u4e0e|\u53ca|\u8ddf|\\band\\b")
_PUNCTUATION = re.compile("[^\\w\u3001%<>\u2264\u2265\u00b1+./:^-]+")
_DIGITS = {character: str(value) for value, character in enumerate("零一二三四五六七八九十")} | {"两": "2", "俩": "2"}
_COUNTERS = "个只条根块片处颗张枚名种位张份次"
_COUNTED = re.compile(
    f"(?<![\u4e00-\u9fff])([零一二三四五六七八九十两俩])(?=[{_COUNTERS}]|$)|([一二三四五六七八九十两])(?=[{_COUNTERS}])"
)
_COUNTER = re.compile(f"(?<=\\d)[{_COUNTERS}](?![\u4e00-\u9fff]*体)")
_ORGANS = "肝肾脾心肺脑胃胸腹颈头胰眼胆"  # of one character; an answer may omit one that the question names
# Words that a sentence adds without changing its meaning.
_FRAME = re.compile(
    "一共(?:有)?|总共(?:有)?|共计|共有|只有|仅有|可见|区域|这(?:张|幅|个|份|些)?(?:图像|图片|影像|图|片子|扫描)?|该(?:图像|图片|影像|图|患者|病人)?|图像|图片|影像|此图|图中|图上|画面|片中|患者|病人"
    "|可以看到|可以看出|能够看到|能看到|看到|可以|显示|所示|展示|呈现|拍摄|采用|使用|利用|通过|患有|患了|用|属于|位于|处于|出现|存在于|分布|主要|应该|应为|应是|就是|都是|是|为|在|于|中|里|内"
    "|上面的|的|了|着|一张|一幅|一个|器官|部位|模态|平面|切面|成像|扫描|检查|方式|技术|类型|颜色|形状|答案|回答|因此|所以|综上|最终|处|有|图"
)
_GUARDED = re.compile("[左右上下前后双两不没无非否未0-9]|异常|正常|健康")
_YES = (
    "是的|是|对的|对|有的|有|存在|包含|包括|含有|能够|能|可以|会的|会|需要"
    "|正确|没错|嗯|属于|可见|看得到|看得见|在|同意|确实|当然|肯定"
)
_NO = (
    "不是的|不是|否定|否|不对|不存在|不包含|不包括|不含|不能|不会|不可以|不需要|不属于|不可见|不在|不"
    "|没有|没|无|未见|未|并非|并不|并没有|非|看不到|看不见|错误|错的|错"
)
_EXPLICIT = re.compile(f"(?P<no>{_NO})|(?P<yes>{_YES})")
_PURE = re.compile(f"(?:(?P<no>{_NO})|(?P<yes>{_YES}))(?:的|了|啊|呢|吧)?")
_BOTH = re.compile(
    "(?:是|有|对|能|会)(?:的)?\\s?(?:或|或者|还是|/|、|和|与)\\s?(?:否|不是|没有|无|不|错)|(?:否|不是|没有|无)\\s?(?:或|或者|还是|/|、|和|与)\\s?(?:是|有"
    "|对)"
)
_ASKING = re.compile("是不是|是否|能否|可否|有没有|有无|能不能|会不会|在不在|对不对|包不包含|存不存在")
_ALTERNATIVE = re.compile("还是|或者|或")
_NOT_NEGATIONS = re.compile("不同|不仅|不但|不规则|不均匀|不张|无论|非常|未知|不过|否则|不断|不全")
_NEGATED = re.compile("不|没|无|未|非|否")
_NORMAL = re.compile("正常|健康")
# Changes, which no normal organ has.
_CHANGED = re.compile("增大|肿大|扩大|扩张|移位|偏移|狭窄|增厚|变形|肥大|萎缩|增宽|缩小")
_ABNORMAL = re.compile("异常|病变|不正常|不健康|疾病|患病|病灶|问题")
_HEDGE = re.compile("可能|也许|大概|或许|似乎|疑似|不确定|不清楚|不知道|无法|难以|不能确定|不好说|不太确定")
_REFUSAL = re.compile(
    "无法|不能(?:确定|判断|回答|提供|诊断)|不知道|抱歉|对不起|作为一个?(?:ai|人工智能|语言模型)|难以判断|没有(?:提供|上传|看到)(?:图像|图片)|不确定|不清楚"
)
_QUESTION = re.compile("(?:^|(?<=[\u3002!;\n?]))[^\u3002!;\n?]+(?:\\?|吗(?=[\u3002!;\n]|$))")
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
    return _PUNCTUATION.sub("", text).strip("./:-") if has_han(text) else comparable(text)


@functools.cache
def _variants() -> tuple[re.Pattern[str], dict[str, str]]:
    rows = terms.rows("chinese")
    table = {variant: row["term"] for row in rows for variant in terms.split(row["variants"])}
    table |= {row["term"]: row["term"] for row in rows}  # so that a variant inside it is not replaced
    longest = sorted(table, key=len, reverse=True)
    # A Latin variant counts as a whole word: "mr" is not in "mri".
    parts = [rf"(?<![a-z]){re.escape(v)}(?![a-z0-9])" if v[-1].isascii() else re.escape(v) for v in longest]
    return re.compile("|".join(parts)), table


def _counted(text: str) -> str:
    return _COUNTER.sub("", _COUNTED.sub(lambda match: _DIGITS[match[1] or match[2]], text))


def _item(text: str, asked: str = "") -> str:
    """The content of one list item, without its frame and without the words of the question."""
    pattern, table = _variants()
    text = re.sub("([左右])([上中下])(?:肺叶|叶肺|肺)", r"\1肺\2叶", text)
    text = pattern.sub(lambda match: table[match[0]], text)
    text = re.sub(f"(?:双侧|两|左右)(?=[{_ORGANS}])", "双", text)
    text = re.sub(f"([{_ORGANS}])([左右])$", r"\2\1", text)  # "大脑右侧" is the right half
    text = re.sub("^(?:病变|病灶|异常|疾病|肿块)(?:位于|处于|出现在|在)", "", text)
    if asked and not re.search("几|多少|数", asked):  # "一张CT图像" counts nothing
        text = re.sub("一(?:张|幅|个|种|份|例|项)(?=\\w)", "", text)
    text = _counted(re.sub("一共|总共|只有|仅有", "", text))
    if asked:
        text = _without_asked(text, asked)
    bare = _FRAME.sub("", text)
    bare = _PUNCTUATION.sub("", bare if re.search(r"\w", bare) else text).strip("./:-、")
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
        if (len(run) > 1 or (len(run) == 1 and run in _ORGANS)) and not guarded:
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
    whole = _STOPS.sub("", text)
    items = frozenset(item for part in _ITEMS.split(whole) if (item := _item(part, asked)))
    return frozenset({"双侧"}) if items == {"左", "右"} else items


def _before_alternatives(question: str) -> str:
    """The part of a question before its alternatives, each assumed to be as long as the last."""
    found = re.match(r"(.*?)(?:还是|或者|或)([^,\uff0c?!\u3002]*)", simplify(question))
    return found[1][: -len(found[2])] if found and found[2] else ""


def _says(reference: str, answer: str, question: str) -> bool:
    if key(reference) and key(reference) == key(answer):
        return True
    if _ALTERNATIVE.search(question):
        status = _status(simplify(reference))
        if status is not None and status == _status(simplify(answer)) and not _ALTERNATIVE.search(answer):
            return True
        question = _before_alternatives(question)
    if not question:
        return False
    pattern, table = _variants()
    asked = pattern.sub(lambda match: table[match[0]], simplify(question))
    said = key(reference, asked)
    return bool(said) and said == key(answer, asked)


def says_framed(reference: str, text: str, question: str) -> bool:
    """Whether one part of a reply says just the reference, in a sentence or in other words."""
    return len(text) <= 600 + len(reference) and _says(reference, text, question)


def _status(clause: str) -> Literal["normal", "abnormal"] | None:
    """Whether a clause calls something normal or abnormal."""
    clause = _NOT_NEGATIONS.sub("", clause)
    if re.search("(?:不|非)(?:是|太|够|很)?(?:正常|健康)", clause):
        return "abnormal"
    if _NORMAL.search(clause):
        return "normal"
    if _ABNORMAL.search(clause):
        return "normal" if _NEGATED.search(clause) else "abnormal"
    return None


def _asks(question: str) -> Literal["normal", "abnormal"] | None:
    return _status(_ASKING.sub("", question))


def _by_status(status: str | None, question: str) -> Answer | None:
    asked = _asks(question) or ("abnormal" if _CHANGED.search(question) else None)
    if status is None or asked is None:
        return None
    return "yes" if status == asked else "no"


def reference_polarity(reference: str, question: str) -> Answer | None:
    """The yes or no that a reference is, or None: a Chinese yes has many words (是, 有, 包含, 正常, …).

    >>> reference_polarity("不包含", "图像中包含肝脏吗?"), reference_polarity("正常", "肺部正常吗?")
    ('no', 'yes')
    """
    text, question = plain(reference), simplify(question)
    if text in ("yes", "no"):
        return "yes" if text == "yes" else "no"
    if status := _status(text) if re.fullmatch("(?:不|没有|无|非)?(?:正常|健康|异常|病变)的?", text) else None:
        return None if _ALTERNATIVE.search(question) else _by_status(status, question)
    pure = _PURE.fullmatch(text)
    return None if pure is None else "no" if pure["no"] else "yes"


def _read_clause(clause: str, question: str, *, first: bool) -> set[str]:
    """The yes or no that a clause gives, by its first word, by what it calls normal, or by what it states."""
    clause = _ASKING.sub("", clause)
    pure = _PURE.fullmatch(clause)
    if pure:
        return {"no" if pure["no"] else "yes"}
    if by_status := _by_status(_status(clause), question):
        return {by_status}
    bare = re.sub("^(?:这|该|此)?(?:张|幅)?(?:图像|图片|影像|图)?(?:中|里|内|上|显示)*", "", clause)
    explicit = _EXPLICIT.match(bare) or _EXPLICIT.match(clause)
    if explicit and first:
        return {"no" if explicit["no"] else "yes"}
    if _shared(clause, question):
        return {"no" if _NEGATED.search(_NOT_NEGATIONS.sub("", clause)) else "yes"}
    return set()


def _shared(clause: str, question: str) -> bool:
    """Whether a clause repeats two characters of the question other than its question words."""
    asked = _FRAME.sub(" ", _ASKING.sub(" ", question))
    bare = _FRAME.sub("", clause)
    if len(bare) == 1 and bare in _ORGANS and bare in asked:
        return True
    return any(clause[i : i + 2] in asked and " " not in clause[i : i + 2] for i in range(len(clause) - 1))


def parse_yes_no(text: str, question: str = "", *, by_statement: bool = True) -> Answer | None:
    """The yes or no that a cleaned Chinese reply gives, or None: neither, both, hedged, or a refusal.

    >>> parse_yes_no("不是"), parse_yes_no("图中没有肝脏", "图像中包含肝脏吗?"), parse_yes_no("是或否")
    ('no', 'no', None)
    """
    stated = marks.stated(text)
    said, question = _QUESTION.sub("", simplify(stated.text)), simplify(question)
    if stated.withdrawn or _BOTH.search(said):
        return None
    found: set[str] = set()
    parts = [part for part in _STOPS.split(said) if re.search(r"\w", part)][:3]
    for number, sentence in enumerate(parts):
        clauses = [clause for part in _COMMAS.split(sentence) if (clause := _PUNCTUATION.sub("", part).strip("、"))]
        for index, clause in enumerate(clauses[:6]):
            if re.match("因为|由于|原因|理由", clause):
                break
            if _HEDGE.search(clause):
                if not found:
                    return None
                continue
            first = index == 0 and number == 0
            reading = _read_clause(clause, question, first=first)
            if by_statement or _PURE.fullmatch(clause) or (first and _EXPLICIT.match(clause)):
                found |= reading
    return "yes" if found == {"yes"} else "no" if found == {"no"} else None


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
    parts = [part for part in _STOPS.split(text) if re.search(r"\w", part)]
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
