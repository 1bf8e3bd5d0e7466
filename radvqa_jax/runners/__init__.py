"""One function a mode, and the only place where everything meets."""

from collections.abc import Callable
from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.runners.ablations import ablations_mode
from radvqa_jax.runners.ask import ask
from radvqa_jax.runners.audit import audit_mode
from radvqa_jax.runners.compare import compare_mode
from radvqa_jax.runners.convert import convert_mode
from radvqa_jax.runners.data import build_data
from radvqa_jax.runners.evaluate import predict_mode
from radvqa_jax.runners.export import export_mode
from radvqa_jax.runners.fit import fit_mode
from radvqa_jax.runners.fit_scaling import fit_scaling
from radvqa_jax.runners.job import job
from radvqa_jax.runners.judge import judge_mode
from radvqa_jax.runners.saliency import saliency_mode
from radvqa_jax.runners.saliency_quality import saliency_quality_mode
from radvqa_jax.runners.score import score_mode
from radvqa_jax.runners.train import train
from radvqa_jax.runners.write_questions import write_questions

RUNNERS: dict[str, Callable[[Config, Path], None]] = {
    "build_data": build_data,
    "train": train,
    "predict": predict_mode,
    "judge": judge_mode,
    "write_questions": write_questions,
    "score": score_mode,
    "compare": compare_mode,
    "saliency": saliency_mode,
    "saliency_quality": saliency_quality_mode,
    "ask": ask,
    "ablations": ablations_mode,
    "job": job,
    "audit": audit_mode,
    "fit": fit_mode,
    "convert": convert_mode,
    "export": export_mode,
    "fit_scaling": fit_scaling,
}
