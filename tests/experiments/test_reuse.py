"""Which artifacts a child shares with its parent, and which finished ones are stale."""

from pathlib import Path
from typing import Any

import pytest

from stages.artifacts import store, tables
from stages.common.errors import UserError
from stages.experiments import config, layout, recipes
from stages.experiments.layout import Artifact
from stages.experiments.reuse import Workspace
from stages.experiments.settings import StepSettings

FAMILY = {
    "parent": {"traces": {"k": 4}, "rounds": 2},
    "gml": {"inherits": "parent", "weights": {"answer": "geometric_likelihood"}},
    "longer": {"inherits": "parent", "final": {"epochs": 9}},
    "warmer": {"inherits": "gml", "traces": {"temperature": 1.0}},
    "again": {"inherits": "parent", "seed": 1},
}
ARTIFACTS = {
    "questions": layout.QUESTIONS,
    "base": layout.BASE,
    "initial": layout.model("initial"),
    "posterior": layout.model("posterior"),
    "final": layout.model("final"),
    "traces": Artifact("traces"),
    "scores": Artifact("scores", role="posterior"),
    "verdicts": Artifact("verdicts"),
    "weights": Artifact("weights"),
    "eval-final": Artifact("evaluate", role="final"),
}


def load(**experiments: Any) -> Workspace:
    return Workspace(config.load({"experiments": experiments}))


# A parent's --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shared", "own"),
    [
        ("gml", ["initial", "posterior", "traces", "scores", "verdicts"], ["weights", "final"]),
        ("longer", ["posterior", "verdicts", "weights"], ["final", "eval-final"]),
        ("warmer", ["base", "questions", "initial", "posterior"], ["traces", "scores", "final"]),
        ("again", [], ["questions", "initial", "final"]),
    ],
)
def test_a_child_shares_what_its_parent_makes_alike(
    name: str, shared: list[str], own: list[str]
) -> None:
    work = load(**FAMILY)
    homes = {part: work.home(name, ARTIFACTS[part]) for part in [*shared, *own]}
    assert homes == dict.fromkeys(shared, "parent") | dict.fromkeys(own, name)


def test_gpus_and_evaluation_change_no_model() -> None:
    work = load(a={}, b={"inherits": "a", "gpus": {"finetune": 8}, "evaluation": {"top_p": 0.9}})
    assert work.home("b", ARTIFACTS["final"]) == "a"
    assert work.home("b", ARTIFACTS["eval-final"]) == "b"


def test_a_child_with_more_rounds_shares_all_that_is_made_once_and_the_rounds_before() -> None:
    work = load(one={}, two={"inherits": "one", "rounds": 2})
    for part in ("questions", "base", "initial", "final"):
        assert work.home("two", ARTIFACTS[part]) == "one"
    for part in (layout.model("posterior", 2), Artifact("traces", 2), layout.model("final", 2)):
        assert work.home("two", part) == "two"


def test_later_rounds_depend_on_all_rounds_before_them() -> None:
    work = load(**FAMILY)
    assert work.home("gml", layout.model("posterior", 2)) == "gml"  # its prior is gml's own
    assert "models/final" in work.ancestry("gml", Artifact("traces", 2)).recipes


def test_rollouts_come_from_the_prior_and_are_weighted_by_their_answers() -> None:
    work = load(a={"posterior": {"rollouts": 3}, "rounds": 2})
    weights = Artifact("weights", 2, rollouts=True)
    settings = StepSettings.model_validate(
        recipes.step_settings(work.config.experiments["a"], weights)
    )
    assert (settings.round, settings.role, settings.rollouts) == (2, "posterior", True)
    assert (settings.traces.proposal, settings.weights.ratio) == ("prior", "none")
    assert (settings.weights.answer, settings.weights.no_candidate) == ("accuracy", "drop")
    traces = recipes.step_settings(work.config.experiments["a"], Artifact("traces", 2, True))
    assert traces["traces"] == {"proposal": "prior", "k": 3}


@pytest.mark.parametrize(
    ("answer", "m", "estimate"),
    [
        ("geometric_likelihood", 8, "geometric_likelihood"),
        ("none", 8, "accuracy"),
        ("none", 0, "geometric_likelihood"),
    ],
)
def test_rollouts_are_weighted_by_their_answers_even_where_traces_are_not(
    answer: str, m: int, estimate: str
) -> None:
    work = load(a={"weights": {"answer": answer}, "answers": {"m": m}, "rounds": 2})
    assert recipes.as_rollouts(work.config.experiments["a"]).weights.answer == estimate


def test_the_first_posterior_may_learn_from_rollouts() -> None:
    work = load(a={"posterior": {"train_on": "rollouts"}})
    inputs = work.inputs("a", layout.model("posterior"))
    assert inputs["rows"] == "results/a/round-1/rollouts/rows.parquet"
    listed = layout.draws(work.config.experiments["a"])
    assert Artifact("weights", 1, rollouts=True) in listed


# Finished ones -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finish(work: Workspace, artifact: Artifact, shard: str | None = "0000") -> Path:
    """Write an empty artifact with the provenance that its step would leave."""
    path = Path(work.path("a", artifact, shard))
    made = work.ancestry("a", artifact)
    left = {"artifact": made.name, "recipe": made.recipes, "extent": made.extent}
    if path.suffix == ".parquet":
        store.write_table(path, tables.VERDICTS, tables.VERDICTS.schema.empty_table(), left)
    else:
        store.write_json(path / "provenance.json", left)
        (path / "config.json").write_text("{}")
    return path


def test_what_the_settings_would_make_is_finished() -> None:
    finish(load(a={}), ARTIFACTS["traces"])
    later = {"weights": {"ratio": "full"}, "gpus": {"sampling": 4}, "final": {"epochs": 1}}
    for settings in ({}, later):
        assert load(a=settings).is_finished("a", ARTIFACTS["traces"], "0000")
    assert not load(a={}).is_finished("a", ARTIFACTS["traces"], "0001")


def test_a_changed_setting_stops_and_says_which() -> None:
    path = finish(load(a={}), ARTIFACTS["traces"])
    with pytest.raises(UserError) as stopped:
        load(a={"traces": {"temperature": 1.0}, "seed": 3}).is_finished(
            "a", ARTIFACTS["traces"], "0000"
        )
    message = str(stopped.value)
    assert "round-1/traces.settings.traces.temperature: default -> 1.0" in message
    assert "round-1/traces.settings.seed: default -> 3" in message
    assert "inherits: a" in message and f"delete {path}" in message


def test_a_model_is_stale_when_what_it_learned_from_would_differ() -> None:
    finish(load(a={}), ARTIFACTS["final"], None)
    assert load(a={}).is_finished("a", ARTIFACTS["final"])
    for settings, message in (
        ({"weights": {"ratio": "full"}}, "weights.settings.weights.ratio: default -> full"),
        ({"traces": {"k": 16}}, "traces.extent.traces.k: 8 -> 16"),
    ):
        with pytest.raises(UserError, match=message):
            load(a=settings).is_finished("a", ARTIFACTS["final"])


def test_more_traces_keep_the_first_ones_but_fewer_stop() -> None:
    path = finish(load(a={}), ARTIFACTS["traces"])
    assert not load(a={"traces": {"k": 16}}).is_finished("a", ARTIFACTS["traces"], "0000")
    assert path.stat().st_mtime == 1  # Snakemake plans it until it has grown
    with pytest.raises(UserError, match=r"round-1/traces.traces.k: 8 -> 4"):
        load(a={"traces": {"k": 4}}).is_finished("a", ARTIFACTS["traces"], "0000")


def test_the_content_of_an_outside_file_decides_not_its_name() -> None:
    for name, text in (("one.jsonl", "1"), ("same.jsonl", "1"), ("other.jsonl", "2")):
        Path(name).write_text(text)
    one, same, other = (
        load(a={"questions": {"file": f}}).ancestry("a", layout.QUESTIONS).identity
        for f in ("one.jsonl", "same.jsonl", "other.jsonl")
    )
    assert one == same != other


def test_a_file_that_somebody_else_made_is_taken_as_it_is() -> None:
    path = finish(load(a={}), ARTIFACTS["traces"])
    store.write_table(path, tables.VERDICTS, tables.VERDICTS.schema.empty_table(), {})
    assert load(a={"traces": {"k": 3}}).is_finished("a", ARTIFACTS["traces"], "0000")


def test_an_artifact_of_the_parents_is_asked_for_there() -> None:
    work = load(**FAMILY)
    with pytest.raises(UserError, match=r"request results/parent/round-1/traces/shard-0000"):
        work.is_finished("gml", ARTIFACTS["traces"], "0000")
