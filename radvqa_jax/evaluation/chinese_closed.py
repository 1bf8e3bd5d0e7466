"""The yes or no of a Chinese reply: as a word, or by a statement compared with its question.

"图中有肝脏" is a yes to "图中有肝脏吗?" and says nothing on a question about another organ. A statement is a yes if it
says everything that the question asks, and a no if it denies that or more; else nothing is read.
"""

import functools
import re
from typing import Literal, NamedTuple

from radvqa_jax.evaluation import marks, terms
from radvqa_jax.evaluation.chinese import (
    ABNORMAL,
    ALTERNATIVE,
    NEGATED,
    NORMAL,
    NOT_NEGATIONS,
    ORGANS,
    PUNCTUATION,
    STOPS,
    counted,
    in_terms,
    plain,
    simplify,
    status_of,
)

Answer = Literal["yes", "no"]

_COMMAS = re.compile("[\uff0c,:]|而(?=是)|(?=而(?:不|非))")
_YES = (
    "是的|是|对的|对|有的|有|存在|包含|包括|含有|能够|能|可以|会的|会|需要"
    "|正确|没错|嗯|属于|可见|看得到|看得见|在|同意|确实|当然|肯定"
)
_NO = (
    "不是的|不是|否定|否|不对|不存在|不包含|不包括|不含|不能|不会|不可以|不需要|不属于|不可见|不在|不"
    "|没有|没|无|未见|未|并非|并不|并没有|非|看不到|看不见|错误|错的|错"
)
_EXPLICIT = re.compile(f"(?:{_NO})|(?:{_YES})")
_PURE = re.compile(f"(?:(?P<no>{_NO}|no)|(?P<yes>{_YES}|yes))(?:的|了|啊|呢|吧)?")
# An answer before its explanation, without a comma between them.
_OPENING = re.compile("(?:(?P<no>不是的|不对|否(?![认定])|no(?![a-z]))|(?P<yes>是的|对的|没错|yes(?![a-z])))")
_BOTH = re.compile(
    "(?:是|有|对|能|会)(?:的)?\\s?(?:或|或者|还是|/|、|和|与)\\s?(?:否|不是|没有|无|不|错)|(?:否|不是|没有|无)\\s?(?:或|或者|还是|/|、|和|与)\\s?(?:是|有"
    "|对)"
)
_HEDGE = re.compile("可能|也许|大概|或许|似乎|疑似|不确定|不清楚|不知道|无法|难以|不能确定|不好说|不太确定")
_QUESTION = re.compile("(?:^|(?<=[\u3002!;\n?]))[^\u3002!;\n?]+(?:\\?|吗(?=[\u3002!;\n]|$))")
# Words of asking and the verbs that they hide.
_ASKING = {"是不是": "是", "是否": "是", "能否": "能", "可否": "能", "能不能": "能", "有没有": "有", "有无": "有"}
_ASKING |= {"会不会": "会", "在不在": "在", "对不对": "", "包不包含": "有", "存不存在": "有"}
_ASKED = re.compile("|".join(_ASKING))
_TAIL = re.compile("[,\uff0c](?:是|对)吗$|[吗呢吧么]$")
# Changes, which no normal organ has, and findings, which no healthy one has.
_CHANGED = re.compile("增大|肿大|扩大|扩张|移位|偏移|狭窄|增厚|变形|肥大|萎缩|增宽|缩小")
_FINDING = re.compile(
    "肿块|肿瘤|结节|囊肿|骨折|积液|积水|炎症|炎|水肿|出血|血肿|梗死|梗塞|钙化|转移|占位|实变|脓肿|破裂|撕裂|结石|纤维化"
)
_SIZE = "大小|体积"
_NEGATOR = "看不到|看不见|看不出|并?没有?|[并从]?(?:未能|未|非|不|无)|否"
_IMAGE = "(?:这|该|此|本|那)?(?:张|幅|个|份|些)?(?:医学)?(?:图像|图片|影像|画面|片子|照片|图)"
_PRESENCE = (
    "存在于|存在|包含有|包含|包括|含有|含|(?:能够|可以|能|可)?(?:清楚地|清晰地)?(?:看得到|看得见|看到|看见|观察到|发现|见到|见)到?"
    "|出现在?|显示了?出?|展示|呈现出?|有着|具有|有"
)
_PLACED = "位于|处于|在于|分布在|在"
_VERB = f"{_PRESENCE}|{_PLACED}|属于|就是|是|为|患有|患了?|采用|使用|利用|通过|用|拍摄"
_WORDS = (
    "[里内中]面?(?=有|存|包|含|可|能|看|见|未|没|无|不|是|出|显|都|$)|患者|病人|请问|这|该|此|其中|其|都|也|还|确实|非常|明显"
    "|清楚|看起来|看上去|看来|基本|很|十分|完全|呈|而|清晰(?=可见|显示)|任何|器官|部位|模态|平面|切面|成像|扫描|检查|方式|技术|类型|区域|颜色|形状|迹象|证据|征象"
    "|表现|了|着|以及|和|与|及|或者|或|、|拍|照|能够|可以|能|可|会"
)
_SPLIT = re.compile(f"{_NEGATOR}|{_IMAGE}|{_VERB}|{_WORDS}")
_NEGATORS = re.compile(_NEGATOR)
# "In the image"; "图像上方" and "图像中心" are places in it, and "图中心脏" is the heart in it.
_INSIDE = re.compile(f"({_IMAGE})(?:[里内]面?|中(?!央|间|部|心(?![脏影包室房肌血]))|上(?![方部侧边叶半中下左右]))")
# No content but that something is there or not: "图中没有", "能看到", "不在图中".
_THERE = re.compile(f"(?:{_IMAGE})?(?:{_NEGATOR}|{_PRESENCE}|{_PLACED}|不是|都|也|确实)++(?:{_IMAGE})?[的了]?")
_LISTED = re.compile(f"(?:{_IMAGE})?(?:{_NEGATOR})(?:{_VERB})*+(?P<items>.+)")
_ENDS_IN_STATUS = re.compile(f"(?:{NORMAL.pattern}|{ABNORMAL.pattern}|{_CHANGED.pattern})的?(?:{_IMAGE}|器官|情况)?$")


class _Text(NamedTuple):
    """A clause or a question, in terms and without words of asking, and its parts of content."""

    text: str
    parts: tuple[str, ...]

    @property
    def negated(self) -> int:
        """The number of its negations."""
        return len(_NEGATORS.findall(self.text))


def _guard(text: str, other: str) -> str:
    """The text with the "不" of words that deny nothing (不规则) hidden, unless the other text has their opposite."""

    def hidden(match: re.Match[str]) -> str:
        opposite = match[0] not in other and match[0][1:] in other
        return match[0] if opposite else "_" + match[0][1:]

    return NOT_NEGATIONS.sub(hidden, text.replace("非常", ""))


def _tidy(text: str, other: str = "") -> str:
    """The simplified text of a clause or a question in terms, without marks, words of asking and measure words."""
    text = _TAIL.sub("", text.strip("?!\u3002 "))
    text = PUNCTUATION.sub("", _ASKED.sub(lambda match: _ASKING[match[0]], text)).strip("、")
    text = in_terms(_INSIDE.sub(r"\1", _guard(text, other)), status=False).replace("心影", "心")
    text = re.sub(f"(?:双侧|两|左右)(?=[{ORGANS}])", "双", re.sub("一[张幅副]", "", text))
    if not re.search(r"[一二两三四五六七八九十\d][个种处]", other):
        text = re.sub(r"一[个种例项处](?=\w)", "", text)
    return counted(text).replace("的", "")


@functools.lru_cache(maxsize=1 << 14)
def _read_text(text: str, other: str = "", drop: str = "") -> _Text:
    tidy = _tidy(text, other)
    split = _SPLIT.split(re.sub(drop, "、", tidy) if drop else tidy)
    return _Text(tidy, tuple(part for part in split if part))


@functools.cache
def _qualifiers() -> re.Pattern[str]:
    """Words before a noun that make it narrower: sides, levels, amounts, organs, planes."""
    kinds = ("organ", "sequence", "plane", "side")
    named = [row for row in terms.rows("chinese") if row["kind"] in kinds]
    names = {name for row in named for name in (row["term"], *terms.split(row["variants"]))}
    words = "|".join(sorted(names, key=len, reverse=True))
    return re.compile(
        rf"(?:{words}|[左右上下前后中双]|[叶段部区侧腔]|多发|单发|大量|少量|轻度|中度|重度|较[大小]|巨大|局部|弥漫性?|散在|多个|\d+|肋骨|支气管)*+"
    )


def _is_narrower(part: str, than: str) -> bool:
    """Whether a part of content is another one, or that with a side, an amount or an organ before it.

    >>> _is_narrower("左肺", "肺"), _is_narrower("肺", "左肺"), _is_narrower("小脑", "脑")
    (True, False, False)
    """
    return part.endswith(than) and bool(_qualifiers().fullmatch(part[: len(part) - len(than)]))


def _agrees(status: str, question: str) -> Answer | None:
    """The yes or no that the word normal or abnormal is to a question about normal, abnormal or changed."""
    asked = status_of(_ASKED.sub("", question)) or ("abnormal" if _CHANGED.search(question) else None)
    return None if asked is None else "yes" if status == asked else "no"


def reference_polarity(reference: str, question: str) -> Answer | None:
    """The yes or no that a reference is, or None: a Chinese yes has many words (是, 有, 包含, 正常, …).

    >>> reference_polarity("不包含", "图像中包含肝脏吗?"), reference_polarity("正常", "肺部正常吗?")
    ('no', 'yes')
    """
    text, question = plain(reference), simplify(question)
    if text in ("yes", "no"):
        return "yes" if text == "yes" else "no"
    if status := status_of(text) if re.fullmatch("(?:不|没有|无|非)?(?:正常|健康|异常|病变)的?", text) else None:
        return None if ALTERNATIVE.search(question) else _agrees(status, question)
    pure = _PURE.fullmatch(text)
    return None if pure is None else "no" if pure["no"] else "yes"


def _by_status(clause: str, question: str, *, elsewhere: bool) -> Answer | None:
    """Reads whether a clause calls normal, or not normal, what the question asks about."""
    denied = bool(NEGATED.search(NOT_NEGATIONS.sub("", clause)))
    change, named = _CHANGED.search(clause), status_of(clause)
    stated = named or ("abnormal" if not denied and (change or _FINDING.search(clause)) else None)
    asked = status_of(_ASKED.sub("", question))
    if stated is None or (asked is None and (stated == "abnormal" or not _CHANGED.search(question))):
        return None
    about = f"{NORMAL.pattern}|{ABNORMAL.pattern}"
    sized = f"|{_SIZE}" if change or _CHANGED.search(question) else ""
    mine = _read_text(
        clause, question, f"{about}{sized}" if named else f"{about}|{_CHANGED.pattern}|{_FINDING.pattern}"
    ).parts
    theirs = _read_text(question, clause, f"{about}|{_CHANGED.pattern}{sized}").parts
    if stated == "normal":
        fits = all(any(_is_narrower(their, my.removeprefix("双")) for their in theirs) for my in mine)
    elif mine:
        fits = all(any(_is_narrower(my, their) for my in mine) for their in theirs)
    else:  # "有病变" answers "肺部正常吗?", and not "病变在左肺吗?"
        fits = bool(_ENDS_IN_STATUS.search(_tidy(question))) and not (theirs and re.search("图|影像|片", clause))
    return _agrees(stated, question) if fits and not (elsewhere and not mine) else None


def _repeats(clause: str, question: str) -> bool:
    """Whether a clause repeats the end of the question from a verb on: "有肿块" to "左肺有肿块吗?"."""
    mine, theirs = (
        re.sub("是有", "有", re.sub(_PLACED, "在", re.sub(_PRESENCE, "有", re.sub("属于|为", "是", text))))
        for text in (clause, question)
    )
    before = theirs[: -len(mine)]
    return theirs.endswith(mine) and (mine[0] in "有在是可能会需" or before[-1:] in ("有", "在", "是"))


def _by_content(clause: str, question: str, *, first: bool, elsewhere: bool) -> Answer | None:
    """Reads whether a clause says, or denies, what the question asks."""
    mine, asked = _read_text(clause, question), _read_text(question, clause)
    if mine.negated > 1 or asked.negated or "还是" in question:
        return None
    if not asked.parts:  # the question is unknown, or asks nothing
        return "no" if first and mine.negated and mine.text.startswith(tuple(_NO.split("|"))) else None
    if not mine.parts:
        bare = _THERE.fullmatch(mine.text) and not elsewhere
        return None if not bare else "no" if mine.negated else "yes"
    if NORMAL.search(asked.text):
        return None
    same = "".join(mine.parts) == "".join(asked.parts)
    if mine.negated:
        listed = _LISTED.fullmatch(mine.text)
        if listed and not re.search(_VERB, listed["items"]) and set(asked.parts) <= set(mine.parts):
            return "no"  # "没有肝脏和脾脏" denies each
        wider = all(any(_is_narrower(their, my) for their in asked.parts) for my in mine.parts)
        return "no" if same or wider else None
    sides = [set(re.findall("[左右]", text.text)) for text in (mine, asked)]
    if sides[1] and sides[0] - sides[1]:
        return None
    if same or _repeats(mine.text, asked.text):
        return "yes"
    counts = any(re.search(r"\d", part) for part in asked.parts)
    within = all(any(_is_narrower(my, their) for my in mine.parts) for their in asked.parts)
    return "yes" if within and not (counts and set(asked.parts) - set(mine.parts)) else None


def _read_clause(clause: str, question: str, *, first: bool, elsewhere: bool) -> set[str]:
    """The yes or no that a clause gives: as a word, by what it calls normal, or by what it states."""
    pure = _PURE.fullmatch(clause)
    if pure:
        return {"no" if pure["no"] else "yes"}
    found: set[str] = set()
    opening = _OPENING.match(clause) if first else None
    if opening:
        found.add("no" if opening["no"] else "yes")
        clause = clause[opening.end() :]
    if reading := _by_status(clause, question, elsewhere=elsewhere):
        return found | {reading}
    reading = _by_content(clause, question, first=first, elsewhere=elsewhere)
    return found | {reading} if reading else found


def _names_another_place(clause: str, question: str) -> bool:
    """Whether a clause names a side or an organ that the question does not."""
    places = [set(re.findall(f"[左右{ORGANS}]", _tidy(text))) for text in (clause, question)]
    return bool(places[0] - places[1])


def parse_yes_no(text: str, question: str = "", *, by_statement: bool = True) -> Answer | None:
    """The yes or no that a cleaned Chinese reply gives, or None: neither, both, hedged, or a refusal.

    Without `by_statement`, only a word counts, and a statement that opens with the question's verb ("有肝脏").

    >>> parse_yes_no("不是"), parse_yes_no("图中没有肝脏", "图像中包含肝脏吗?"), parse_yes_no("是或否")
    ('no', 'no', None)
    >>> parse_yes_no("病变在右肺", "病变在左肺吗?") is None
    True
    """
    stated = marks.stated(text)
    said, question = _QUESTION.sub("", simplify(stated.text)), simplify(question)
    if stated.withdrawn or _BOTH.search(said):
        return None
    found: set[str] = set()
    elsewhere = False
    parts = [part for part in STOPS.split(said) if re.search(r"\w", part)][:3]
    for number, sentence in enumerate(parts):
        clauses = [clause for part in _COMMAS.split(sentence) if (clause := PUNCTUATION.sub("", part).strip("、"))]
        for index, clause in enumerate(clauses[:6]):
            if re.match("因为|由于|原因|理由", clause):
                break
            if _HEDGE.search(clause):
                if not found:
                    return None
                continue
            first = index == 0 and number == 0
            if by_statement or _PURE.fullmatch(clause) or (first and _EXPLICIT.match(clause)):
                found |= _read_clause(clause, question, first=first, elsewhere=elsewhere)
            elsewhere |= _names_another_place(clause, question)
    return "yes" if found == {"yes"} else "no" if found == {"no"} else None
