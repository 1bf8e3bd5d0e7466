"""Chinese answers in other words: pairs of question and reference in the forms that SLAKE's Chinese rows have.

All are made up here. The right answers say the reference in other words; the wrong ones negate it, doubt it, or say
something else.
"""

# ruff: noqa: RUF001  # full-width punctuation is what is tested

import pytest

from radvqa_jax.evaluation.rules import verdict, verdicts
from radvqa_jax.schema import Record

ORGANS = "肝脏 肺 心脏 脾脏 肾脏 大脑 膀胱 小肠".split()
ASKS = """图中是否包含{o}? 图像中有{o}吗? 这张图像包含{o}吗? {o}是否出现在图中? 图中存在{o}吗? 这张图片里能看到{o}吗?
图中有没有{o}? 该图像是否显示了{o}?""".split()
REFERENCES = [("是", "否"), ("是的", "不是"), ("有", "没有"), ("包含", "不包含"), ("存在", "不存在")]
YES = """是 是的 是的。 有 有的 包含 包含。 存在 对
是的,图中包含{o} 图中有{o}。 图像中包含{o} 有{o} 可以看到{o} 能 答案:是 答案：有
回答：是的 是，包含{o}。 图中存在{o}。 显示了{o}。 yes Yes.""".split()
NO = """否 不是 没有 没有。 无 不包含 不包含。 不存在 不 图中没有{o} 图像中不包含{o}。 没有{o} 未见{o}
看不到{o} 不能 答案:否
答案：没有 不是的 图中未显示{o}。 没有，图中没有{o}。 No""".split()
STATES = [("{o}看起来正常吗?", "正常", "不正常"), ("{o}健康吗?", "健康", "不健康"), ("图中的{o}是否正常?", "是", "否")]
STATES += [("图中{o}是否异常?", "否", "是"), ("{o}是否有病变?", "没有", "有"), ("{o}看起来异常吗?", "否", "是")]
WELL = "正常 是正常的 {o}正常 {o}正常。 没有异常 未见异常 未见明显异常 {o}是健康的 健康 {o}看起来正常 无异常".split()
ILL = "不正常 异常 {o}异常 {o}不正常。 有病变 {o}有异常 {o}不健康 存在异常 {o}看起来不正常".split()
# kind -> questions, and {reference: its answers in other words}; each answer is wrong for the other references.
OPEN: dict[str, tuple[list[str], dict[str, str]]] = {
    "modality": (
        [
            "这张图像的成像方式是什么?",
            "该图像使用什么模态?",
            "图像的模态是什么?",
            "这是什么模态的图像?",
            "这张图片是用什么方式拍摄的?",
        ],
        {
            "MRI": (
                "磁共振|核磁共振|磁共振成像|MR|mri|MRI图像|"
                "核磁|这是MRI。|图像的模态是MRI|这张图像是用磁共振成像拍摄的|使用核磁共振拍摄|磁振造影"
            ),
            "CT": (
                "ct|CT扫描|计算机断层扫描|电子计算机断层扫描|CT图像|"
                "这是一张CT|这是CT扫描图像。|電腦斷層掃描|该图像使用CT拍摄"
            ),
            "X-Ray": "X光|X射线|X光片|x-ray|X线|X線|这是一张X光片|胸片|X光成像|X 光|X射线图像|这幅图像是X光图像。",
        },
    ),
    "plane": (
        ["图像的扫描平面是什么?", "这张图像是哪个平面?", "这是什么切面?"],
        {
            "横断面": "轴位|横断位|轴状面|水平面|横断面。|这是横断面|横切面|图像是横断面。|軸位",
            "冠状面": "冠状位|冠狀面|冠状切面|冠状面图像|这张图像是冠状面",
            "矢状面": "矢状位|矢狀面|矢状切面",
        },
    ),
    "number": (
        ["图中有几个肾脏?", "图中有多少个肾脏?"],
        {
            "1": "1个|一个|1|一|只有一个",
            "2": "2个|两个|两|二|2|有两个|图中有2个肾脏|两个肾脏|共有两个肾脏。|2 个|一共2个",
            "3": "3个|三个|三|图中有三个肾脏",
            "4": "四个|4个",
        },
    ),
    "place": (
        ["病变位于哪里?", "异常在图像的什么位置?", "病灶在哪里?"],
        {
            "左肺": "左侧肺部|左肺部|左边的肺|病变在左肺|位于左肺|左肺。|左侧肺|在左肺中",
            "右肺": "右侧肺|右肺部|右边肺部",
            "左下": "左下方|图像左下方|左下部|在左下方",
            "右上": "右上方|图像的右上方|在右上部",
            "左肺上叶": "左肺上叶。|左上肺叶|左肺的上叶|位于左肺上叶",
            "大脑右侧": "大脑右侧。|右侧大脑|右脑",
            "双肺": "双侧肺|两肺|两侧肺部|左右肺|双肺。",
            "胸部": "胸|胸腔|胸部。",
            "腹部": "腹|腹部区域",
        },
    ),
    "organs": (
        ["图中有哪些器官?", "图像中包含哪些器官?", "这张图像里的器官是什么?"],
        {
            "肝脏,脾脏": "脾脏,肝脏|肝脏、脾脏|脾和肝|肝脏和脾脏|图中有肝脏和脾脏。|肝脏与脾脏|肝臟、脾臟",
            "肝脏,肾脏,脾脏": "肝、肾、脾|肾脏、肝脏以及脾脏|肝脏，脾脏，肾脏|图中的器官有肝脏、肾脏和脾脏。",
            "心脏,肺": "肺,心脏|心脏和肺部|肺、心",
            "肺": "肺部|图中有肺。",
            "肝脏": "肝",
        },
    ),
    "disease": (
        ["图中有什么疾病?", "这张图像显示了什么异常?", "患者患有什么疾病?"],
        {
            "肺炎": "肺炎。|患者患有肺炎|图中显示肺炎|是肺炎|肺炎,因为可见实变影",
            "胸腔积液": "胸水|胸腔積液|胸膜腔积液|可见胸腔积液",
            "肺不张": "肺不张。|肺不張",
            "脑水肿": "脑水肿。|大脑水肿",
            "脑胶质瘤": "脑胶质瘤",
            "气胸": "氣胸|气胸。|这是气胸",
            "心影增大": "心脏增大|心脏肥大|心脏扩大",
        },
    ),
    "colour": (
        ["肿块是什么颜色?", "图中肝脏是什么颜色?"],
        {
            "白色": "白|白色。|是白色的|亮白色",
            "黑色": "黑|黑色的",
            "灰色": "灰|灰色",
        },
    ),
    "alternative 0": (
        ["这是T1加权还是T2加权?"],
        {
            "T1": "T1加权|T1|这是T1加权。|T1加权像",
            "T2": "T2加权|T2加权成像|T2",
        },
    ),
    "alternative 1": (
        ["病变在左侧还是右侧?"],
        {
            "左侧": "左|左边|在左侧|左侧。",
            "右侧": "右|右边|位于右侧",
        },
    ),
    "alternative 2": (
        ["图中的肝脏正常还是异常?"],
        {
            "正常": "正常|正常。|肝脏正常|是正常的",
            "异常": "异常|不正常|肝脏异常",
        },
    ),
    "alternative 3": (
        ["哪个器官更大,肝脏还是脾脏?"],
        {
            "肝脏": "肝|肝脏|肝脏更大",
            "脾脏": "脾|脾脏",
        },
    ),
    "alternative 4": (
        ["右肺正常吗?"],
        {
            "正常": "正常|是",
            "不正常": "异常|否",
        },
    ),
}
# Questions and statements about something, and pairs of which neither is the other.
STATED = [
    ("图中有{}吗?", "有{}", "没有{}"),
    ("图像中包含{}吗?", "图像中包含{}", "不包含{}"),
    ("图中存在{}吗?", "存在{}", "图中不存在{}"),
]
STATED += [
    ("这是{}吗?", "这是{}", "这不是{}"),
    ("病变在{}吗?", "病变在{}", "病变不在{}"),
    ("{}正常吗?", "{}正常", "{}异常"),
]
STATED += [("{}有骨折吗?", "{}有骨折", "{}未见骨折"), ("{}是否增大?", "{}增大", "{}没有增大")]
TWINS = (
    "肝脏-肺 心脏-脾脏 左肺-右肺 左侧-右侧 右肺上叶-右肺下叶 左肾-左肺 MRI-CT 横断面-冠状面 大脑-小脑 两个结节-一个结节"
)
NEVER = ["不是{r}", "没有{r}", "不在{r}", "可能是{r}", "不知道", "无法确定", "{r}或其他", "{q}"]
Pair = tuple[str, str, str, bool]  # question, reference, answer, whether it is right


def closed() -> list[Pair]:
    """Yes/no questions: is something in the image, is something as it should be."""
    found: list[Pair] = []
    for i, organ in enumerate(ORGANS):
        asked = [(q, *r) for j, q in enumerate(ASKS) for k, r in enumerate(REFERENCES) if (i + j + k) % 10 == 0]
        for (question, yes, no), affirmed, denied in [
            *((one, YES, NO) for one in asked),
            *((one, WELL, ILL) for one in (STATES if i < 4 else [])),
        ]:
            for reference, right, wrong in ((yes, affirmed, denied), (no, denied, affirmed)):
                found += [(question, reference, answer, True) for answer in right]
                found += [(question, reference, answer, False) for answer in wrong]
        found = [(q.format(o=organ), r, a.format(o=organ), right) for q, r, a, right in found]
    return found


def opened(kind: str) -> list[Pair]:
    """Open questions of a kind."""
    questions, words = OPEN[kind]
    found: list[Pair] = []
    for question in questions:
        for reference, listed in words.items():
            found += [(question, reference, answer, True) for answer in listed.split("|")]
            others = [answer for other, more in words.items() if other != reference for answer in more.split("|")]
            found += [(question, reference, answer, False) for answer in others]
            if reference not in ("正常", "异常", "不正常", "肺"):
                denied = [form.format(r=reference, q=question) for form in NEVER]
                found += [(question, reference, answer, False) for answer in denied]
    return found


@pytest.mark.parametrize(
    "twins", [pair for twins in TWINS.split() for pair in (twins.split("-"), twins.split("-")[::-1])]
)
def test_a_statement_about_something_else_is_not_read(twins: list[str]) -> None:
    mine, other = twins
    for question, *statements in STATED:
        for statement, answer in zip(statements, ("correct", "incorrect"), strict=True):
            for said in (mine, other):
                asked = Record("q", "i", question.format(mine), "是", [], [], language="zh")
                found = verdicts(asked, statement.format(said))
                assert found.radvqa.outcome == (answer if said == mine else "unparsed"), (question, statement, twins)
                assert found.exact.outcome in ("unparsed", found.radvqa.outcome)


@pytest.mark.parametrize("kind", ["yes or no", *OPEN])
def test_other_words_are_right_and_other_answers_are_not(kind: str) -> None:
    pairs = list(dict.fromkeys(closed() if kind == "yes or no" else opened(kind)))
    found = [
        (pair, verdict(Record("q", "i", pair[0], pair[1], [], [], language="zh"), pair[2]).outcome == "correct")
        for pair in pairs
    ]
    assert [pair for pair, right in found if right and not pair[3]] == []
    missed = [pair for pair, right in found if pair[3] and not right]
    assert len(missed) <= 0.01 * sum(pair[3] for pair in pairs), missed
