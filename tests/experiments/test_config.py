"""config.yaml: what it may say, and what is inherited."""

from pathlib import Path

import pytest
import yaml

from stages.common.errors import UserError
from stages.experiments import config as experiments
from stages.experiments.settings import Experiment

SHIPPED = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())


def load(**given: dict) -> experiments.Config:
    return experiments.load({"experiments": given})


@pytest.mark.parametrize("name", SHIPPED["experiments"])
def test_every_shipped_experiment_is_valid(name: str) -> None:
    assert isinstance(experiments.load(SHIPPED).experiments[name], Experiment)


def test_the_papers_settings() -> None:
    paper = experiments.load(SHIPPED).experiments["qwen3_8b"]
    assert (paper.traces.k, paper.answers.m) == (8, 8)
    assert (paper.traces.temperature, paper.traces.top_p, paper.traces.top_k) == (0.7, 1.0, -1)
    assert (paper.traces.max_tokens, paper.answers.max_tokens) == (32764, 32764)
    assert (paper.scores.max_tokens, paper.weights.max_trace_tokens) == (32000, 28000)
    assert paper.weights.model_dump(include={"ratio", "answer", "normalize", "select"}) == {
        "ratio": "geometric_mean",
        "answer": "accuracy",
        "normalize": "question",
        "select": "best",
    }
    assert paper.rows.teacher and paper.evaluation.max_tokens == 38912


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"a": {"traces": {"temprature": 1}}},
            "experiments.a.traces.temprature: no such setting; did you mean 'temperature'",
        ),
        ({"a": {"trases": {}}}, "experiments.a.trases: .* did you mean 'traces'"),
        ({"a": {"traces": {"temperature": 3}}}, "a.traces.temperature: .* less than or equal to 2"),
        ({"a": {"traces": {"k": "many"}}}, r"a.traces.k: .* valid integer.* \(value: 'many'\)"),
        (
            {"a": {"weights": {"select": "worst"}}},
            "a.weights.select: .*'best', 'all' or 'resample'",
        ),
        ({"a": {"answers": {"m": 0}}}, "answers.m is 0, but weights.answer: accuracy"),
        ({"a": {"questions": {"file": "x", "dataset": "y"}}}, "not several"),
        ({"a": {"inherits": "tinny"}, "tiny": {}}, "no experiment 'tinny' .* did you mean 'tiny'"),
        ({"a": {"inherits": "b"}, "b": {"inherits": "a"}}, "inherits from itself"),
        ({"a/b": {}}, "names consist of letters, digits"),
        ({"a": ["traces"]}, "experiments.a: give settings as `name: value`, not"),
        ({"a": {"finetune": 5}}, "experiments.a.finetune: give settings as `name: value`, not 5"),
        ({"a": {"inherits": ["b"]}}, "no experiment"),
    ],
)
def test_mistakes_are_named_with_their_place(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(**given)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/tinny/eval.json", "results/tinny/eval.json: .* did you mean 'tiny'"),
        ("./results/xyz/eval.json", "no experiment 'xyz' in config.yaml; known are tiny, big"),
        ("results/compare/tiny+bigg.html", "no experiment 'bigg' .* did you mean 'big'"),
    ],
)
def test_a_target_of_an_unknown_experiment_is_named(target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiments.check_targets([target], ["tiny", "big"])


def test_other_targets_are_snakemakes_own_affair() -> None:
    targets = ["all", "results/tiny/eval.json", "results/compare/tiny+big.html", "logs/x.log"]
    experiments.check_targets(targets, ["tiny", "big"])


def test_numbers_as_yaml_reads_them() -> None:
    assert (
        load(a={"finetune": {"learning_rate": "1e-5"}}).experiments["a"].final.learning_rate == 1e-5
    )


def test_defaults_then_parents_then_own() -> None:
    config = experiments.load(
        {
            "defaults": {"seed": 7, "traces": {"k": 2}},
            "experiments": {
                "parent": {"traces": {"temperature": 0.5}},
                "child": {"inherits": "parent", "traces": {"k": 3}},
            },
        }
    )
    child = config.experiments["child"]
    assert (child.seed, child.traces.k, child.traces.temperature) == (7, 3, 0.5)


def test_one_finetune_section_holds_for_all_models_that_say_nothing_else() -> None:
    made = load(a={"finetune": {"steps": 5}, "posterior": {"steps": 9}}).experiments["a"]
    assert (made.initial.steps, made.posterior.steps, made.final.steps) == (5, 9, 5)
