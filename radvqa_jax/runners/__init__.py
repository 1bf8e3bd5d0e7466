"""One function for each mode; the only place that imports all packages."""

from collections.abc import Callable
from pathlib import Path

from radvqa_jax.config import Config
from radvqa_jax.runners.ablations import ablations_mode
from radvqa_jax.runners.ask import ask_mode
from radvqa_jax.runners.audit import audit_mode
from radvqa_jax.runners.compare import compare_mode
from radvqa_jax.runners.convert import convert_mode
from radvqa_jax.runners.data import build_data_mode
from radvqa_jax.runners.evaluate import predict_mode
from radvqa_jax.runners.export import export_mode
from radvqa_jax.runners.fit import fit_mode
from radvqa_jax.runners.fit_scaling import fit_scaling_mode
from radvqa_jax.runners.job import job_mode
from radvqa_jax.runners.judge import judge_mode
from radvqa_jax.runners.reproduce import reproduce_mode
from radvqa_jax.runners.saliency import saliency_mode
from radvqa_jax.runners.saliency_quality import saliency_quality_mode
from radvqa_jax.runners.score import score_mode
from radvqa_jax.runners.train import train_mode
from radvqa_jax.runners.write_questions import write_questions_mode

RUNNERS: dict[str, Callable[[Config, Path], None]] = {
    "build_data": build_data_mode,
    "train": train_mode,
    "predict": predict_mode,
    "judge": judge_mode,
    "write_questions": write_questions_mode,
    "score": score_mode,
    "compare": compare_mode,
    "saliency": saliency_mode,
    "saliency_quality": saliency_quality_mode,
    "ask": ask_mode,
    "ablations": ablations_mode,
    "reproduce": reproduce_mode,
    "job": job_mode,
    "audit": audit_mode,
    "fit": fit_mode,
    "convert": convert_mode,
    "export": export_mode,
    "fit_scaling": fit_scaling_mode,
}
