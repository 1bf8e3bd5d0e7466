r"""The last \boxed{…} of a reply, with balanced braces, as mathruler's `extract_boxed_content` finds it (0.1.0)."""


def last_boxed(text: str) -> str | None:
    r"""The content of the last \boxed{…}, without edge white space; None if there is none or it never ends.

    >>> last_boxed(r"so \boxed{\text{left} lung}")
    '\\text{left} lung'
    """
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    start += len(r"\boxed{")
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[start:index].strip()
    return None
