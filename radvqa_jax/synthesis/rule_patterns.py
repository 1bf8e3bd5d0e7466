"""The patterns of rules.py: one alternative on each line, ignoring case except in (?-i:…)."""

import re


def _any(alternatives: str, *, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile("|".join(line.strip() for line in alternatives.strip().splitlines()), flags | re.MULTILINE)


# Facts about a patient that no image shows: history, symptoms, treatment, laboratory findings.
HISTORY = _any(r"""
\bhistor(?:y|ies)\b|\bpast medical\b|\b(?:pmh|hx|s/p|c/o|h/o)\b|\bstatus post\b
\bpresent(?:s|ed|ing)? (?:to|for)\b|\bcomplain(?:s|ed|ts?|ing)?\b|\bsymptom\w*\b
\bpresent(?:s|ed|ing)? with\b.*\b(?:pain|fever|cough|dyspn\w+|weakness|headaches?|trauma|symptoms?)\b
\bunder(?:went|going|gone)\b|\bwho (?:has|had) been\b
\bprior (?:to|surg\w+|treat\w+|illness|exam\w*|stud\w+|imag\w+|scans?|ct|mri|radiographs?)\b
\bprevious(?:ly)?\b|\bfollow(?:ed)?[- ]?up\b
\b(?:was|were|been|being|is|are) (?:treated|admitted|discharged|hospitali[sz]ed|referred|diagnosed|operated)\b
\b(?:was|were|been|being|is|are) (?:intubated for|given|prescribed)\b
\btreatments?\b|\btherap(?:y|ies)\b|\b(?:chemo|radio)therapy\b|\bmedications?\b|\bdos(?:e|age)\b
\b(?:post|pre)-?operatively\b|\bmanag(?:ed|ement)\b|\bprognosis\b|\boutcome\b
\bsmok(?:er|ing|es)\b|\balcohol\w*\b|\b(?:his|her|their) (?:mother|father)\b|\bfamily\b|\boccupation\w*\b
\bmotor vehicle\b|\bmva\b|\bf[ae]ll(?:s|ing)? (?:from|down|off|on)\b
\b(?:after|following|since|before|due to|because of) (?:an? |the )?(?:fall(?:ing)?|accident|injury|trauma|collision)\b
\b(?:after|following|since|before|due to|because of) (?:an? |the )?(?:surgery|operation|procedure|assault|illness)\b
\blaborator(?:y|ies)\b|\bblood (?:test|count|pressure|work)\w*\b|\bhemoglobin\b|\bleu[ck]ocyt\w*\b|\bbiops(?:y|ies)\b
\bpregnan\w*|\ballerg\w*|\bvaccin\w*
\bfever\b|\bnausea\b|\bvomit\w*\b|\bcough\w*\b|\bdiabet\w*\b
\b(?:for|over|in) (?:the )?(?:past|last) (?:few |several |\w+ )?(?:days?|weeks?|months?|years?)\b
\b(?:days?|weeks?|months?|years?) (?:ago|earlier|later|prior)\b
\b(?:abdominal|chest|back|knee|neck|flank|pelvic|hip|shoulder|joint) pain\b
""")
# Of a disease in general, treatment and symptoms may be asked; of one patient they may not.
PATIENT = _any(r"""
\b(?:this|the) patient'?s? (?:has|had|history|presented|underwent|complain\w*|was)\b
\b(?:medical|family|social) history\b
""")
AGE = _any(r"""
\b\d{1,3}[ -]?(?:years?|yrs?|months?|weeks?|days?|mos?|wks?)[ -]?old\b|\b\d{1,3} ?(?:y/?o|yo|yrs?)\b
\baged? (?:of )?\d{1,3}\b|\b(?:how old|age of (?:the|this) patient|patient'?s age)\b
\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen)[ -](?:years?|months?|weeks?|days?)[ -]old\b
\b(?:twen|thir|for|fif|six|seven|eigh|nine)ty(?:[ -]\w+)?[ -](?:years?|months?)[ -]old\b
\b\d{2}[ -]?(?-i:[MF])\b
\bin (?:his|her|their) (?:early |mid[- ]?|late )?(?:\d0s|(?:twen|thir|for|fif|six|seven|eigh|nine)ties|teens)\b
\b(?:elderly|middle[- ]aged|toddler|teenage\w*|adolescent)\b
""")
DATE = _any(r"""
\b(?:19|20)\d{2}\b|\b\d{1,2}[/.-]\d{1,2}[/.-](?:\d{4}|\d{2})\b|\b\d{4}-\d{2}-\d{2}\b
\b(?:jan|feb|mar|apr|june?|july?|aug|sept?|oct|nov|dec)\.? (?:\d{1,2}(?:st|nd|rd|th)?\b|of \d)
\b(?:january|february|march|april|august|september|october|november|december)\b
\b\d{1,2}(?:st|nd|rd|th)? (?:may|june|july)\b|\bmay \d{1,2}\b|\b(?:yesterday|today|tomorrow)\b
\b(?:post-?operative |hospital )day \d+\b|\bwhen was (?:this|the) (?:image|scan|study|exam\w*)\b
""")
_UNITS = (
    r"(?:mm|cm|millimet(?:er|re)s?|centimet(?:er|re)s?|inch(?:es)?|mm[23]|cm[23]|cc|ml|millilit(?:er|re)s?|lit(?:er|re)s?"
    r"|kg|mg|grams?|hu|hounsfield(?: units?)?|%|percent|per ?cent|degrees?|\u00b0|kvp?|mas|ms|msec|tesla|mhz|bpm|mmhg)"
)
_SMALL_NUMBERS = r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty)"
MEASUREMENT = _any(rf"""
(?<![\w.])\d+(?:[.,]\d+)? ?-?{_UNITS}(?![a-z])|\b{_SMALL_NUMBERS}[ -]{_UNITS}(?![a-z])
\b\d+(?:\.\d+)? ?(?:x|\u00d7|by) ?\d+(?:\.\d+)?\b|\bmeasur(?:es?|ed|ing|ements?)\b
\bwhat (?:is|was) the (?:exact |approximate )?(?:diameter|length|width|height|volume|thickness)\b
\bhow (?:many|much) (?:cm|mm|centimet|millimet)\w*|\bexact size\b|\bdimensions?\b|\bsuv ?max\b|\bhounsfield\b
""")
CODE = _any(r"""
\b(?:acr|icd(?:-?\d+)?(?:-cm)?|snomed|cui|umls|cpt|loinc)\b(?: codes?)?
\bC\d{7}\b|\bMPX\d+|synpic\d+|\bPMC\d{4,}\b|\bROCO\w*_\d+\b|\b[A-TV-Z]\d{2}\.\d{1,3}\b
\b(?:case|accession|image|patient|record|mrn|id) ?(?:no\.?|number|id|#) ?:? ?\w*\d+
(?<![\w.])\d{1,3}\.\d{3,5}(?![\w.])|\bdoi:|https?://|\bwww\.
""")
NAME = _any(
    r"""
\b(?:Dr|Mr|Mrs|Ms|Prof|Doctor|Professor)\.? (?:[A-Z]\. ?)?[A-Z][a-z]+|\b[A-Z][a-z]+ et al\b
\b(?:[Cc]ourtesy|[Cc]opyright|[Cc]redit|[Pp]hoto(?:graph)? by|[Rr]eprinted|[Rr]eproduced|[Pp]ermission)\b|\u00a9
\b[\w.+-]+@[\w-]+\.[a-z]{2,}|\b(?:University|Hospital|Medical Center|Clinic|Institute) of [A-Z]\w+
\b[A-Z]\w+ (?:University|Hospital|Medical Center)\b|\b(?:this |the )?patient'?s (?:full |first |last )?name\b
""",
    flags=0,
)
CAPTION = _any(r"""
\bcaptions?\b|\bthe (?:given |provided |above |following )?(?:text|description|passage|context|report|summary)\b
\bthe (?:article|case (?:description|information|report))\b|\bmentioned\b|\baccording to (?:the|this)\b
\b(?:is|are|was|were|as) (?:also )?(?:stated|described|reported) (?:by|above|here|in the (?:case|text|report))\b
\b(?:as|not) (?:stated|specified|provided|described|indicated)\b
\blegends?\b|\b(?:is|are|was|were|being) (?:stated|written|documented)\b|\b(?:findings|impression) section\b
\binformation (?:is|was|are) (?:provided|given|available)\b|\b(?:narrative|write-?up|documentation)\b
\bbased on (?:the|this) (?:given |provided )?(?:text|description|information|case|report)\b
\b(?:fig(?:ure|\.)?|panel|table|image|arrow) ?\(?(?-i:[A-H1-9])\b(?!-)|\bauthors?\b
\bthe (?:above|given|provided) (?:image|figure|information)\b
""")
FILLER = _any(r"""
^\W*(?:sure|certainly|of course|okay|ok|here(?:'s| is| are)|great question|absolutely|i'?d be happy|let me)\b
\bas an? (?:ai|language model|large language)|\bi (?:can(?:not|'t)|am (?:un|not )able|do(?:n't| not) have|apologi[sz]e)
\bi'?m (?:sorry|unable|not able|just)|\bquestion[- ]answer pairs?|\bhope this helps|\blet me know|\bfeel free
\bplease note|\bnote that|\bconsult (?:a|your|with)\b|\bin conclusion\b|\bgenerated (?:question|pair|answer)\b
^\W*(?:q(?:uestion)?|a(?:nswer)?) ?\d* ?[:.)]|\*\*|```|</?\w+>|^\s*[-*#\u2022]|^\s*\d+[.)]\s
\blorem ipsum\b|\breplace this\b|\[(?:insert|answer|question|your)\b|\{\w*\}
""")
UNANSWERED = _any(r"""
^\W*(?:n/?a|none|null|nan|unknown|unclear|undetermined|indeterminate|-+|\?+|\.+)\W*$
^\W*not (?:applicable|available|known|sure|visible|specified|stated|given|provided|possible|clear|determined)\W*$
^\W*(?:cannot|can't) (?:be )?\w+\W*$|^\W*(?:insufficient|no) (?:information|answer|image|caption|data)\b.*$
\b(?:cannot|can't|can not|impossible to) (?:be )?(?:determin|answer|say|tell|assess)\w*
""")
# The beginnings of questions and requests that need more than a yes or no.
OPEN = _any(r"""
^(?:what|which|where|who|whom|whose|why|how|when)\b|^(?:in|on|at|from|by|to|of|for|with) (?:which|what|whom)\b
^(?:describe|name|identify|explain|list|state|give|summari[sz]e|specify|characteri[sz]e|point|choose|select|determine)\b
^interpret\b
""")
# Options that refer to the others.
OPTION_OF_OPTIONS = _any(r"""
^(?:all|none|both|neither) of (?:the |these |them)?(?:above|options|others)?\b
^(?:a|b|c|d) and (?:a|b|c|d)$
""")
