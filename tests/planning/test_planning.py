"""The plan: numbers of a two-layer model by hand, the paper's experiments, and a measured run."""

import json
from pathlib import Path

import pytest
import yaml

from stages import plan
from stages.common.errors import UserError
from stages.experiments import config as experiments
from stages.experiments.settings import Experiment, Machine
from stages.experiments.sources import Model
from stages.planning import memory
from stages.planning.estimate import Plan, make_plan
from stages.planning.rates import rate_of
from stages.planning.shapes import KNOWN, Shape
from stages.planning.workload import lengths_of, works

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())
PAPER = ("qwen3_4b", "qwen3_8b", "qwen25_7b", "qwen25_32b", "qwen25_7b_1k")
TWO_LAYERS = Shape(
    hidden=4, intermediate=8, layers=2, heads=2, kv_heads=1, head_dim=2, vocabulary=10, tied=False
)


def planned(name: str, **changes: object) -> Plan:
    experiment = experiments.load(SHIPPED).experiments[name]
    values = experiment.model_dump()
    for path, value in changes.items():
        section, key = path.split("__")
        values[section][key] = value
    experiment = Experiment.model_validate(values)
    lengths = lengths_of(experiment)
    assert lengths is not None
    shape = plan.shape_of(experiment.model)
    return make_plan(name, experiment, Machine(), shape, lengths, jobs=8)


def test_parameters_of_two_layers() -> None:
    # queries and output 2 x 4 x 4, keys and values 2 x 4 x 2, feed-forward 3 x 4 x 8
    assert TWO_LAYERS.layer_parameters == 32 + 16 + 96
    assert TWO_LAYERS.parameters == 2 * 144 + 2 * 40
    assert TWO_LAYERS.linear_widths == 2 * (2 * (4 + 4) + 2 * (4 + 2) + 3 * (4 + 8))


def test_flops_of_two_layers() -> None:
    assert TWO_LAYERS.forward_flops(0) == 2 * (2 * 144 + 40)
    assert TWO_LAYERS.forward_flops(5) - TWO_LAYERS.forward_flops(0) == 4 * 5 * 2 * 4
    assert TWO_LAYERS.training_flops(0, recomputed=0) == 3 * 656
    assert TWO_LAYERS.training_flops(0, recomputed=1) == 3 * 656 + 2 * 288
    assert TWO_LAYERS.cache_bytes(2) == 2 * 2 * 1 * 2 * 2  # keys and values, layers, width, bytes


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen3-4B-Base", 4.02),
        ("Qwen/Qwen3-8B-Base", 8.19),
        ("Qwen/Qwen2.5-7B-Instruct", 7.62),
        ("Qwen/Qwen2.5-32B-Instruct", 32.76),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.1345),
    ],
)
def test_known_shapes_have_the_parameters_of_their_cards(name: str, billions: float) -> None:
    assert Shape.of(KNOWN[name]).parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_states_of_a_training_by_hand() -> None:
    parts = memory.training(
        TWO_LAYERS,
        devices=1,
        dtype="float32",
        master_dtype="float32",
        tokens=3,
        recomputed=1,
        logits=1 << 20,
    )
    states = {"weights": 4 * 368, "gradients": 4 * 368, "optimizer": 8 * 368}
    assert {name: parts[name] for name in states} == states
    assert parts["gathered"] == 4 * 40  # the head's gradient of one bin
    assert parts["logits"] == 4 * 3 * 10


# Peak memory in MB of two optimizer steps with bins of 2,048 tokens, above what the process held
# before, measured on a CPU as bench/lm.py does
@pytest.mark.parametrize(("recomputed", "mb"), [(1, 1735), (0, 1863)])
def test_memory_of_a_step_is_within_a_fifth_of_what_was_measured(recomputed: int, mb: int) -> None:
    shape = Shape(
        hidden=256,
        intermediate=768,
        layers=4,
        heads=4,
        kv_heads=2,
        head_dim=64,
        vocabulary=151_936,
        tied=False,
    )
    parts = memory.training(
        shape,
        devices=1,
        dtype="float32",
        master_dtype="float32",
        tokens=2048,
        recomputed=recomputed,
        logits=128 << 20,
    )
    assert sum(parts.values()) / 1e6 == pytest.approx(mb, rel=0.2)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_experiments_are_planned(name: str) -> None:
    made = planned(name)
    assert made.device == "H100" and made.lengths.questions in (1000, 16_710)
    assert all(e.low <= e.seconds <= e.high and e.tokens > 0 for e in made.entries)
    assert made.wall_seconds <= made.total("seconds")
    json.dumps(made.as_json(), allow_nan=False)


def test_a_32b_with_float32_master_weights_does_not_fit_and_says_what_would() -> None:
    final = next(e for e in planned("qwen25_32b").entries if e.artifact == "models/final")
    assert not final.fits
    remedies = " ".join(final.remedies)
    assert "final.master_dtype: bfloat16" in remedies and "gpus.finetune: 16" in remedies
    fitting = planned("qwen25_32b", final__master_dtype="bfloat16")
    assert next(e for e in fitting.entries if e.artifact == "models/final").fits


def test_a_price_is_that_of_the_device_hours() -> None:
    made = planned("qwen3_8b", plan__price_per_device_hour=2.0)
    assert made.total("price") == pytest.approx(2 * made.total("seconds") / 3600)


def test_tokens_of_a_round_by_hand() -> None:
    experiment = experiments.load(
        {
            "experiments": {
                "a": {
                    "questions": {"file": "q.jsonl"},
                    "traces": {"k": 2},
                    "answers": {"m": 3},
                    "finetune": {"epochs": 2},
                    "plan": {
                        "questions": 10,
                        "question_tokens": 5,
                        "trace_tokens": 7,
                        "answer_tokens": 4,
                    },
                    "evaluation": {"models": ["final"]},
                }
            }
        }
    ).experiments["a"]
    lengths = lengths_of(experiment)
    assert lengths is not None
    tokens = {w.artifact: w.tokens for w in works(experiment, lengths)}
    assert tokens["models/initial"] == 2 * 10 * (5 + 7 + 4)
    assert tokens["models/posterior"] == 2 * 10 * (5 + 7)
    assert tokens["round-1/traces"] == tokens["round-1/scores/prior"] == 10 * 2 * 7
    assert tokens["round-1/answers"] == 10 * 2 * 3 * 4
    assert tokens["models/final"] == 2 * (10 + 10) * (5 + 7 + 4)


# Seconds of the demo on two cores, seed 0, one thread, from its eval.json
DEMO = {
    "models/initial": 163.0,
    "models/posterior": 103.0,
    "models/final": 107.5,
    "round-1/traces": 38.8,
    "round-1/scores/prior": 18.8,
    "round-1/scores/posterior": 18.5,
    "round-1/answers": 67.8,
    "eval/initial/held_out": 39.4,
    "eval/final/held_out": 23.7,
}


def test_the_demo_took_what_was_planned_within_a_factor_of_one_and_a_half() -> None:
    made = planned("tiny")
    assert {e.artifact for e in made.entries} == set(DEMO)
    for entry in made.entries:
        assert 1 / 1.5 < entry.seconds / DEMO[entry.artifact] < 1.5, entry.artifact


def test_the_nearest_measured_size_is_taken() -> None:
    assert rate_of("training", "cpu", 800_000).parameters == 1e6
    assert rate_of("training", "cpu", 134_000_000).parameters == 1.35e8
    assert rate_of("sampling", "H200", 32_000_000_000).parameters == 8e9


def test_an_unknown_shape_or_number_of_questions_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nobody/nothing: shape unknown"):
        plan.shape_of(Model(path="nobody/nothing"))
    with pytest.raises(UserError, match=r"set plan\.questions"):
        plan.main(["--out", str(tmp_path / "plan.json")])


def test_the_step_writes_the_plan_and_its_page_with_the_ledger(tmp_path: Path) -> None:
    settings = experiments.load(SHIPPED).experiments["tiny"].model_dump_json()
    ledger = {"cost": [{"artifact": "models/initial", "seconds": 100.0, "tokens": 7}]}
    (tmp_path / "eval.json").write_text(json.dumps(ledger))
    out, page = tmp_path / "plan.json", tmp_path / "plan.html"
    given = ["--settings", settings, "--name", "tiny", "--eval", str(tmp_path / "eval.json")]
    plan.main([*given, "--out", str(out), "--page", str(page)])
    made = json.loads(out.read_text())
    assert made["total"]["tokens"] == sum(e["tokens"] for e in made["entries"])
    text = page.read_text()
    assert "Plan of tiny" in text and "Measured time" in text and "100 s" in text
