"""The same predictions under the rules of other tools: one file for each, with its source, version and known flaws.

A protocol is a module with `NAME`, `LABEL`, `VERSION`, `METRICS` and `score(record, answer_type)`, which returns the
values of the protocol's metrics for such a question, each in [0, 1]. Each was written from its source's behaviour, not
from its text, and was compared once with the original on one file (tests/evaluation/protocols.json).
"""

from types import ModuleType

from radvqa_jax.evaluation.protocols import llava_med, lmms_eval, medevalkit, medgemma, vlmevalkit

PROTOCOLS: dict[str, ModuleType] = {
    module.NAME: module for module in (llava_med, medevalkit, vlmevalkit, lmms_eval, medgemma)
}
