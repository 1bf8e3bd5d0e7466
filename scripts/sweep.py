"""Trains adapters of several ranks on phantoms and keeps their held-out losses, for configs/fit_scaling.py.

    python scripts/sweep.py runs/sweep
    python -m radvqa_jax.main --config configs/fit_scaling.py --workdir runs/scaling \
        --config.scaling.runs="('runs/sweep/*/stage2',)"

Every run trains stage 2 of configs/demo.py from the embedded base: adapters only, at a constant learning rate, with at
most one pass over the data, so that no token is repeated. The same command continues a sweep. Two CPU cores are enough.
"""

import argparse
import dataclasses
import runpy
from pathlib import Path

from radvqa_jax import locks
from radvqa_jax.command_line.script import run_script
from radvqa_jax.config.check import from_config_dict
from radvqa_jax.data.preparing import prepare
from radvqa_jax.device_check import check_device
from radvqa_jax.files import read_json, write_json
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners.budget import BUDGET

SETTINGS = "sweep.json"
DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=320, help="training steps of 32 rows")
    parser.add_argument("--eval-every", type=int, default=40)
    parser.add_argument("--eval-rows", type=int, default=512)
    parser.add_argument("--builder-config", default="", help="configuration of phantom_rad")
    args = parser.parse_args()
    for name, least in (("ranks", 1), ("seeds", 0), ("steps", 1), ("eval_every", 1), ("eval_rows", 1)):
        given = getattr(args, name)
        if min(given if isinstance(given, list) else [given]) < least:
            parser.error(f"--{name.replace('_', '-')}: every number must be at least {least}.")
    args.folder.mkdir(parents=True, exist_ok=True)  # before minutes are spent on the data
    check_settings(args)
    check_device()
    for rank in args.ranks:
        for seed in args.seeds:
            workdir = args.folder / f"rank{rank}_seed{seed}"
            if not (workdir / "stage2" / BUDGET).is_file():
                train_one(workdir, rank=rank, seed=seed, args=args)


def check_settings(args: argparse.Namespace) -> None:
    """Keeps the settings that all runs of a sweep share.

    Raises:
        ValueError: if the folder holds a sweep with others: a fit would mix the two.
    """
    path = args.folder / SETTINGS
    settings = {name: getattr(args, name) for name in ("steps", "eval_every", "eval_rows", "builder_config")}
    if not path.is_file():
        if started := sorted(args.folder.glob(f"rank*_seed*/stage2/{BUDGET}")):
            raise ValueError(
                f"{started[0].parent.parent} is of a sweep whose settings are not known. Give another folder."
            )
        write_json(path, settings, private=False)
    elif (kept := read_json(path)) != settings:
        other = {name: value for name, value in kept.items() if settings.get(name) != value}
        raise ValueError(f"{args.folder} holds a sweep with {other}, and a fit would mix the two. Give another folder.")


def train_one(workdir: Path, *, rank: int, seed: int, args: argparse.Namespace) -> None:
    """Trains one run of the sweep."""
    config = runpy.run_path(str(DEMO))["get_config"]()
    config.mode, config.seed, config.run_stages = "train", seed, ("stage2",)
    stage = config.stages.stage2
    stage.lora.rank, stage.lora.alpha = rank, float(2 * rank)
    stage.train = ((r".*/lora_[ab]", "train:lora"), (".*", "freeze"))
    stage.total_steps, stage.eval_every = args.steps, args.eval_every
    stage.optim.schedule, stage.optim.warmup_steps = "constant", min(20, args.steps // 4)
    for source in (*stage.sources, config.eval.source, stage.eval_source):
        source.dataset, source.builder_config = "phantom_rad", args.builder_config
    config.eval.source.dataset = ""  # nothing is answered
    stage.eval_source.split, stage.eval_source.limit = "validation", args.eval_rows
    experiment = from_config_dict(config)
    prepare("phantom_rad", builder_config=args.builder_config, data=experiment.data)
    workdir.mkdir(parents=True, exist_ok=True)
    print(f"rank {rank}, seed {seed}: {dataclasses.asdict(experiment.stages['stage2'].lora)}", flush=True)
    with locks.hold(workdir, doing="sweep.py", remedy="Wait for it, end it, or give another folder."):
        RUNNERS["train"](experiment, workdir)


if __name__ == "__main__":
    run_script(main)
