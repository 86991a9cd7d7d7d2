"""config.yaml: what it may say, what is inherited, and what a changed setting makes stale."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.experiments import config as experiments
from stages.experiments.settings import Experiment, StepSettings

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
            "experiments.a.traces.temprature: there is no such setting; did you mean 'temperature'",
        ),
        ({"a": {"trases": {}}}, "experiments.a.trases: .* did you mean 'traces'"),
        ({"a": {"traces": {"temperature": 3}}}, "a.traces.temperature: .* less than or equal to 2"),
        ({"a": {"traces": {"k": "many"}}}, r"a.traces.k: .* valid integer.* \(given: 'many'\)"),
        (
            {"a": {"weights": {"select": "worst"}}},
            "a.weights.select: .*'best', 'all' or 'resample'",
        ),
        ({"a": {"answers": {"m": 0}}}, "answers.m is 0, but weights.answer: accuracy"),
        ({"a": {"questions": {"file": "x", "dataset": "y"}}}, "not several"),
        ({"a": {"inherits": "tinny"}, "tiny": {}}, "no experiment 'tinny' .* did you mean 'tiny'"),
        ({"a": {"inherits": "b"}, "b": {"inherits": "a"}}, "inherits from itself"),
        ({"a/b": {}}, "a name is made of letters, digits"),
        ({"a": ["traces"]}, "experiments.a: give settings as `name: value`, not"),
        ({"a": {"finetune": 5}}, "experiments.a.finetune: give settings as `name: value`, not 5"),
        ({"a": {"inherits": ["b"]}}, "there is no experiment"),
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


# Who uses what of whom ---------------------------------------------------------------------------


FAMILY = {
    "parent": {"traces": {"k": 4}, "rounds": 2},
    "gml": {"inherits": "parent", "weights": {"answer": "geometric_likelihood"}},
    "longer": {"inherits": "parent", "final": {"epochs": 9}},
    "warmer": {"inherits": "gml", "traces": {"temperature": 1.0}},
    "again": {"inherits": "parent", "seed": 1},
}


@pytest.mark.parametrize(
    ("name", "shared", "own"),
    [
        ("gml", ["initial", "posterior", "traces", "scores", "verdicts"], ["weights", "final"]),
        ("longer", ["posterior", "verdicts", "weights"], ["final", "eval-final"]),
        ("warmer", ["base", "questions", "initial", "posterior"], ["traces", "scores", "final"]),
        ("again", [], ["questions", "base", "initial", "final"]),
    ],
)
def test_a_child_uses_what_its_parent_makes_alike(
    name: str, shared: list[str], own: list[str]
) -> None:
    config = load(**FAMILY)
    assert {a: experiments.home(config, name, a) for a in shared} == dict.fromkeys(shared, "parent")
    assert {a: experiments.home(config, name, a) for a in own} == dict.fromkeys(own, name)


def test_gpus_and_evaluation_change_no_model() -> None:
    config = load(a={}, b={"inherits": "a", "gpus": {"finetune": 8}, "evaluation": {"top_p": 0.9}})
    assert experiments.home(config, "b", "final") == "a"
    assert experiments.home(config, "b", "eval-final") == "b"


def test_a_child_with_more_rounds_shares_all_that_is_made_once_and_the_rounds_before() -> None:
    config = load(one={}, two={"inherits": "one", "rounds": 2})
    for artifact in ("questions", "base", "initial"):
        assert experiments.home(config, "two", artifact, 2) == "one"
    assert experiments.home(config, "two", "final", 1) == "one"
    for artifact in ("posterior", "traces", "final"):
        assert experiments.home(config, "two", artifact, 2) == "two"


def test_later_rounds_depend_on_all_before_them() -> None:
    config = load(**FAMILY)
    assert experiments.home(config, "gml", "posterior", 2) == "gml"  # its prior is gml's own
    assert "final" in experiments.sections(config.experiments["gml"], "traces", 2)


def test_a_setting_at_its_default_is_not_in_the_recipe() -> None:
    """So a setting that a later version adds makes nothing stale."""
    given = experiments.step_settings(load(a={"traces": {"k": 8}}).experiments["a"], "traces")
    assert given == {}


def test_rollouts_are_of_the_prior_and_weighed_by_accuracy() -> None:
    made = load(a={"posterior": {"rollouts": 3}, "rounds": 2}).experiments["a"]
    given = experiments.step_settings(made, "posterior", 2, rollouts=True)
    settings = StepSettings.model_validate(given)
    assert (settings.round, settings.role) == (2, "posterior")
    assert (settings.traces.proposal, settings.traces.k) == ("prior", 3)
    assert (settings.weights.ratio, settings.weights.select) == ("none", "all")
    assert (settings.weights.answer, settings.weights.no_candidate) == ("accuracy", "drop")


@pytest.mark.parametrize(
    ("answer", "m", "wanted"),
    [
        ("geometric_likelihood", 8, "geometric_likelihood"),
        ("none", 8, "accuracy"),
        ("none", 0, "geometric_likelihood"),
    ],
)
def test_rollouts_are_weighed_by_their_answers_even_where_traces_are_not(
    answer: str, m: int, wanted: str
) -> None:
    made = load(a={"weights": {"answer": answer}, "answers": {"m": m}, "rounds": 2})
    assert experiments.as_rollouts(made.experiments["a"]).weights.answer == wanted


# Stale artifacts ---------------------------------------------------------------------------------


def artifact(folder: Path, settings: Experiment, name: str = "shard-0000.parquet") -> Path:
    path = folder / name
    made = {"settings": StepSettings(**settings.model_dump()).model_dump(mode="json")}
    if name.endswith(".parquet"):
        store.write_table(path, tables.VERDICTS, tables.VERDICTS.schema.empty_table(), made)
    else:
        store.write_json(path / "provenance.json", made)
    return path


def fresh(path: Path, now: Experiment, kind: str = "traces") -> bool:
    given = experiments.step_settings(now, kind)
    return experiments.is_fresh(path, given, experiments.sections(now, kind), "mine")


def test_a_changed_setting_that_would_throw_traces_away_stops(tmp_path: Path) -> None:
    path = artifact(tmp_path, load(a={}).experiments["a"])
    assert fresh(path, load(a={}).experiments["a"])
    changed = load(a={"traces": {"temperature": 1.0}, "seed": 3}).experiments["a"]
    with pytest.raises(UserError) as stopped:
        fresh(path, changed)
    message = str(stopped.value)
    assert "traces.temperature: 0.7 then, 1.0 now" in message
    assert "seed: 0 then, 3 now" in message
    assert "inherits: mine" in message and f"delete {path}" in message


def test_what_a_model_learned_from_makes_it_stale_too(tmp_path: Path) -> None:
    path = artifact(tmp_path, load(a={}).experiments["a"], "final")
    with pytest.raises(UserError, match=r"weights.ratio: 'geometric_mean' then, 'full' now"):
        fresh(path, load(a={"weights": {"ratio": "full"}}).experiments["a"], "final")
    with pytest.raises(UserError, match=r"traces.k: 8 then, 16 now"):
        fresh(path, load(a={"traces": {"k": 16}}).experiments["a"], "final")


def test_more_traces_keep_the_first_ones_but_fewer_stop(tmp_path: Path) -> None:
    path = artifact(tmp_path, load(a={}).experiments["a"])
    assert not fresh(path, load(a={"traces": {"k": 16}}).experiments["a"])
    with pytest.raises(UserError, match=r"traces.k: 8 then, 4 now"):
        fresh(path, load(a={"traces": {"k": 4}}).experiments["a"])


def test_settings_of_later_steps_do_not_matter(tmp_path: Path) -> None:
    path = artifact(tmp_path, load(a={}).experiments["a"])
    later = {"weights": {"ratio": "full"}, "gpus": {"sampling": 4}, "final": {"epochs": 1}}
    assert fresh(path, load(a=later).experiments["a"])


def test_files_that_do_not_say_how_they_were_made_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    store.write_table(path, tables.VERDICTS, pa.Table.from_pylist([], tables.VERDICTS.schema), {})
    assert fresh(path, load(a={"traces": {"k": 3}}).experiments["a"])
    assert not fresh(tmp_path / "nothing", load(a={}).experiments["a"])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    assert fresh(tmp_path / "base", load(a={"seed": 3}).experiments["a"], "base")
