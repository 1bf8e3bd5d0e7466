"""The report of mode=fit for a tiny experiment on this machine, and its refusals."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import jax
import pytest

from radvqa_jax.config import MeshConfig
from radvqa_jax.planning.devices import GIB
from radvqa_jax.planning.frontier import format_frontier
from radvqa_jax.runners import RUNNERS
from radvqa_jax.runners import fit as fit_runner
from radvqa_jax.training.sharding import make_mesh
from tests.runners.shared import MakeConfig


def fit_config(make: MakeConfig, experiment: Path, **changed: Any) -> Any:
    fields = {"mode": "fit", "experiment": str(experiment), "target": "local"}
    small = {"fit.samples": 2, "fit.new_tokens": 3, "fit.resolutions": ()}
    return make(fields | small | changed)


def test_every_program_of_an_experiment_is_compiled_and_reported(
    micro_config: MakeConfig, micro_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    override = (
        "run_stages=('stage2',)",
        "stages.stage2.batch_size=4",
        "stages.stage2.accumulate=1",
        "model.remat=full",
    )
    RUNNERS["fit"](fit_config(micro_config, micro_file, **{"fit.override": override}), tmp_path)
    report = json.loads((tmp_path / "fit.json").read_text())
    assert (report["target"], report["devices"], report["largest_batches"]) == ("local", 1, [])
    programs = {program["name"]: program for program in report["programs"]}
    assert list(programs) == [
        "stage2: training step",
        "prefill, 1 image",
        "2 answers of 3 tokens, 1 image",
        "attention maps, 1 image",
    ]
    step = programs["stage2: training step"]
    assert step["rows"] == 4  # as overridden
    assert 0 < step["arguments"] < step["peak"]
    assert 1.02 < step["flops_over_minimum"] < 1.5  # `full` computes every layer again; most is the loss's logits here
    assert step["recomputed_flops"] == pytest.approx(step["flops"] - step["minimum_flops"])
    assert programs["prefill, 1 image"]["flops"] < programs["2 answers of 3 tokens, 1 image"]["flops"]
    printed = capsys.readouterr().out
    assert "Peak rates of this device: it is not in planning/devices.py" in printed
    assert all(name in printed for name in programs)
    share = step["flops_over_minimum"] - 1
    assert re.search(rf"minimum +recomputed.*\n.*\({share:.1%}\)", printed)
    assert str(tmp_path / "fit.json") in printed


def test_the_way_of_a_step_is_chosen_for_the_target_and_the_frontier_reported(
    micro_config: MakeConfig, micro_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    override = (
        "run_stages=('stage2',)",
        "stages.stage2.batch_size=4",
        "stages.stage2.accumulate=2",
        "model.remat=auto",
    )
    mesh, frozen = make_mesh(MeshConfig(), jax.devices()[:1]), {}
    config = fit_runner.read_experiment(str(micro_file), override)
    target = fit_runner.open_target("local")

    def compiled(program: Any, *_: Any, **__: Any) -> Any:
        model, options = program.kwargs["model"], program.kwargs["options"]
        stored = ["blocks", "attention", "gate", "products", "none"].index(model.remat)
        peak = GIB * (100 * stored + 10 * (8 // options.accumulate) + (model.remat_img != "full"))
        work = fit_runner.fit.count_work(program.function.trace(*program.args, **program.kwargs))
        sizes = {"arguments": 0, "temporaries": peak, "outputs": 0, "peak": peak, "work": work, "float32_copies": ()}
        told = {"minimum_flops": program.minimum_flops, "roofline_seconds": None, "compile_seconds": 0.0}
        return fit_runner.fit.Fitted(name=program.name, rows=program.rows, **sizes, **told)

    monkeypatch.setattr(fit_runner.fit, "compile_program", compiled)
    monkeypatch.setattr(fit_runner, "argument_bytes", lambda *_: 0)
    for memory, whole, taken in ((1000, False, "none"), (375, True, "products")):
        small = target._replace(memory=memory * GIB)
        planned = dataclasses.replace(config, fit=dataclasses.replace(config.fit, frontier=whole))
        found = fit_runner.find_way(planned, mesh, small, "stage2", frozen)
        way = found.choice.way
        assert (way.remat, way.batch_size * way.accumulate) == (taken, 8)
        assert found.compiled[way].peak <= found.room
        lines = format_frontier(found)
        assert [line.endswith("chosen") for line in lines].count(True) == 1
        assert len(lines) == 2 + len(found.compiled)
        assert found.to_json()["chosen"] == dataclasses.asdict(way)
        assert (len(found.compiled) > 4) == whole
        assert found.room == int(0.92 * memory * GIB)


def test_an_experiment_without_stages_is_planned_with_the_base(micro_config: MakeConfig) -> None:
    config = dataclasses.replace(micro_config(), stages={}, run_stages=())
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    prefill, _, maps = fit_runner.programs(config, mesh, samples=2, new_tokens=3)
    for program in (prefill, maps):
        assert set(program.args[0]) == set(fit_runner.base_shapes(config, ()))
        assert jax.eval_shape(program.function, *program.args)


def test_two_samples_of_an_answer_cost_one_prefill(micro_config: MakeConfig, micro_file: Path) -> None:
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    config = fit_runner.read_experiment(str(micro_file))

    def flops(samples: int) -> float:
        *_, prefill, answers, _ = fit_runner.programs(config, mesh, samples=samples, new_tokens=3)
        work = [
            fit_runner.fit.count_work(p.function.trace(*p.args, **p.kwargs), while_turns=p.while_turns).flops
            for p in (prefill, answers)
        ]
        return work[1] - work[0]

    assert flops(4) == pytest.approx(2 * flops(2), rel=0.01)


def test_an_impossible_resolution_is_found_before_anything_is_compiled(
    micro_config: MakeConfig, micro_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_runner, "base_shapes", None)
    fields = {"mode": "fit", "experiment": str(micro_file), "target": "local", "fit.resolutions": (28, 30)}
    with pytest.raises(ValueError, match=r"fit\.resolutions: 30 must be a multiple of the patch size 14"):
        fit_runner.fit_mode(micro_config(fields), tmp_path)


def test_the_largest_batch_is_found_at_the_given_resolution(
    micro_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_runner.fit, "largest_batch", lambda peak_of, memory, step: (8 * step, peak_of(8 * step)))
    target, mesh = fit_runner.open_target("local"), make_mesh(MeshConfig(), jax.devices()[:1])
    small, large = (fit_runner.search(micro_config(), mesh, target, "stage1", px) for px in (28, 56))
    assert (large["name"], large["resolution"], large["batch_size"]) == ("stage1", 56, 8)
    assert (large["accumulate"], large["compilations"]) == (micro_config().stages["stage1"].accumulate, 1)
    assert small["peak"] < large["peak"]


def test_parts_of_a_batch_that_a_mesh_cannot_divide_are_merged_and_reported(
    micro_config: MakeConfig, micro_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = micro_config(
        {"stages.stage1.batch_size": 8, "stages.stage2.batch_size": 6, "stages.stage2.accumulate": 16}
    )
    mesh = make_mesh(MeshConfig(data=2, fsdp=4), jax.devices()[:1] * 8)  # the same device: nothing is put there
    planned = fit_runner.spread(config, mesh)
    assert planned.stages["stage1"] == config.stages["stage1"]
    assert (planned.stages["stage2"].batch_size, planned.stages["stage2"].accumulate) == (24, 4)
    assert "stages.stage2.batch_size=24 and stages.stage2.accumulate=4" in capsys.readouterr().out


def test_the_report_says_that_its_times_exclude_communication() -> None:
    target = fit_runner.open_target("local")
    several = target._replace(devices=target.devices * 2)
    texts = ["".join(fit_runner.fit_report.unknown(which)) for which in (target, several)]
    assert ["Communication between the devices" in text for text in texts] == [False, True]


def test_answers_on_a_mesh_are_not_planned_with_splash(
    micro_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = micro_config({"model.attention": "splash", "stages.stage2.accumulate": 1})
    for size, answering in ((1, "splash"), (4, "blocks")):
        mesh = make_mesh(MeshConfig(fsdp=size), jax.devices()[:1] * size)
        programs = list(fit_runner.programs(config, mesh, samples=2, new_tokens=3))
        models = [program.kwargs["model"] for program in programs if "model" in program.kwargs]
        assert [model.variant.llm.kernel for model in models] == [answering]
        assert ("planned with model.attention=blocks" in capsys.readouterr().out) == (size > 1)


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("stages.stage2.accumulate", "give fields as 'stages.stage2.accumulate=1'"),
        ("stages.stage2.acumulate=1", "acumulate"),
        ("stages.stage2.accumulate=many", "fit.override has stages.stage2.accumulate=many"),
        ("mesh.fsdp=16", "the mesh is this mode's own: give --config.mesh.fsdp=16"),
    ],
)
def test_an_invalid_override_is_refused(micro_file: Path, override: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fit_runner.read_experiment(str(micro_file), (override,))


def test_an_invalid_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a file"):
        fit_runner.read_experiment(str(tmp_path / "none.py"))
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"has no get_config\(\)"):
        fit_runner.read_experiment(str(tmp_path / "empty.py"))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("c.dat.seq_len = 3", r"line 4, `c\.dat\.seq_len = 3`: AttributeError: .*data"),
        ("c.stages['stage7'].batch_size = 3", r"line 4, `.*`: KeyError: .*stage7"),
        ("c.seed = SEED", r"line 4, `.*`: NameError: name 'SEED' is not defined"),
        ("c.seed = 1 / 0", r"line 4, `.*`: ZeroDivisionError: division by zero"),
        ("c.seed = (", r"line 4, `c\.seed = \(`: SyntaxError: '\(' was never closed"),
        ("raise SystemExit(3)", r"ended the program \(sys\.exit\) instead of giving a configuration"),
        ("c = None", r"gives no configuration\. Its get_config\(\) must return one"),
        ("raise ValueError('the file says why')", "^the file says why$"),
    ],
)
def test_a_mistake_in_the_code_of_an_experiment_is_named_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "mine.py"
    code = (
        "from radvqa_jax.config import default_config",
        "def get_config():",
        "    c = default_config()",
        f"    {line}",
    )
    file.write_text("\n".join((*code, "    return c\n")))
    with pytest.raises(ValueError, match=says):
        fit_runner.read_experiment(str(file))
