"""The one declaration: what an artifact depends on decides its identity, and nothing else does."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import base, questions, rows
from stages.artifacts import store, tables
from stages.artifacts.journal import Journal
from stages.common.errors import UserError
from stages.experiments import config, layout, recipes
from stages.experiments.layout import Artifact
from stages.experiments.recipes import Ancestry
from stages.experiments.reuse import Workspace
from stages.experiments.settings import StepSettings
from stages.prompts import templates
from stages.running import origin_of

SMALL = {
    "questions": {"addition": {"traced": 3, "answer_only": 2, "held_out": 2}},
    "model": {
        "scratch": {"hidden_size": 32, "layers": 1, "heads": 1, "key_value_heads": 1}
        | {"intermediate_size": 64}
    },
    "prompts": {"template": "plain"},
}


def workspace(**experiments: Any) -> Workspace:
    return Workspace(config.load({"experiments": experiments}))


def ancestry(settings: dict[str, Any], artifact: Artifact) -> Ancestry:
    return workspace(a=settings).ancestry("a", artifact)


def nested(name: str, value: Any) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


def merged(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {**one, **{k: merged(one.get(k), v) if k in one else v for k, v in other.items()}}


# Two faults of hand-written identities -----------------------------------------------------------


TRACES = Artifact("traces", 1)


def trace_row(k: int) -> dict[str, Any]:
    text = {"question_id": "a", "k": k, "seed": 1, "token_ids": [1], "trace": "x"}
    return {**text, "n_tokens": 1, "finish_reason": "stop", "closed": True, "leaking": None}


def traces_origin(tmp_path: Path, **changes: Any) -> origin_of.Origin:
    made_of = {"questions": tmp_path / "q.parquet"}
    if not made_of["questions"].exists():
        store.write_table(made_of["questions"], tables.QUESTIONS, QUESTION, {})
    return origin_of.output("traces", StepSettings.model_validate(changes), made_of)


QUESTION = pa.Table.from_pylist(
    [{"question_id": "a", "question": "1+1", "answer": "2", "answer_kind": "math", "source": "s"}],
    schema=tables.QUESTIONS.schema,
)


def test_traces_of_two_wordings_are_never_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sample K = 1, edit the hint's text, ask for K = 2."""
    out = tmp_path / "t.parquet"
    with Journal(out, tables.TRACES, traces_origin(tmp_path).recipe) as journal:
        journal.append(trace_row(0))
    plain = templates.TEMPLATES["reasoning"]
    edited = dataclasses.replace(plain, hint_a="{question} The answer is {hint}.")
    monkeypatch.setitem(templates.TEMPLATES, "reasoning", edited)

    with Journal(out, tables.TRACES, traces_origin(tmp_path).recipe) as journal:
        assert ("a", 0) not in journal
        for k in range(2):
            journal.append(trace_row(k))
        journal.finish([("a", 0), ("a", 1)], {})
    assert "round-1/traces.prompts.posterior" in capsys.readouterr().err

    monkeypatch.setitem(templates.TEMPLATES, "reasoning", plain)
    with pytest.raises(UserError, match=r"round-1/traces\.prompts\.posterior: \w+ -> \w+"):
        Journal(out, tables.TRACES, traces_origin(tmp_path).recipe).__enter__()


def test_verdicts_of_two_versions_of_the_verifiers_are_never_in_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.parquet"

    def recipe() -> dict[str, Any]:
        traces_origin(tmp_path)
        made_of = {"questions": tmp_path / "q.parquet"}
        return origin_of.output("verdicts", StepSettings(), made_of).recipe

    verdict = {"question_id": "a", "k": 0, "m": 0, "verdict": "correct", "seconds": 0.0}
    with Journal(out, tables.VERDICTS, recipe()) as journal:
        journal.append(verdict)
    declared = recipes.RECIPES["verdicts"]
    raised = lambda e, a: dataclasses.replace(declared(e, a), version=99)  # noqa: E731
    monkeypatch.setitem(recipes.RECIPES, "verdicts", raised)
    with Journal(out, tables.VERDICTS, recipe()) as journal:
        assert len(journal) == 0
    assert "-> 99); discarding 1 unfinished rows" in capsys.readouterr().err


def test_a_hint_that_nobody_sees_makes_no_trace_stale() -> None:
    prior = {"traces": {"proposal": "prior"}}
    hinted = {**prior, "posterior": {"template": "B"}}
    assert ancestry(prior, TRACES) == ancestry(hinted, TRACES)
    assert ancestry({}, TRACES) != ancestry({"posterior": {"template": "B"}}, TRACES)


def test_a_hinted_prior_needs_no_posterior() -> None:
    recipes_of = ancestry({"traces": {"proposal": "hinted_prior"}}, layout.model("final")).recipes
    assert "models/posterior" not in recipes_of
    scores = recipes_of["round-1/scores/posterior"]
    assert scores["inputs"]["model"] == "models/initial"
    assert "posterior" in recipes_of["round-1/traces"]["prompts"]


# One changed setting -----------------------------------------------------------------------------


CHANGES: dict[str, list[Any]] = {
    "seed": [1],
    "questions.addition.traced": [4],
    "model.scratch.layers": [2],
    "prompts.template": ["reasoning"],
    "engine.dtype": ["float32"],
    "initial.steps": [7],
    "initial.batch_size": [5],
    "posterior.epochs": [9.0],
    "posterior.hint": ["solution", "none"],
    "posterior.template": ["B"],
    "posterior.init": ["initial"],
    "posterior.rollouts": [3],
    "final.learning_rate": [1e-3],
    "traces.k": [9],
    "traces.temperature": [1.0],
    "traces.shards": [3],
    "scores.prior_temperature": [0.5],
    "scores.posterior_temperature": [0.5, "sampling"],
    "scores.max_tokens": [99],
    "answers.m": [9],
    "answers.temperature": [0.1],
    "verdicts.time_limit": [1.0],
    "weights.ratio": ["full"],
    "weights.select": ["all"],
    "rows.teacher": [False],
    "evaluation.temperature": [0.0],
    "evaluation.models": [("final",)],
    "gpus.finetune": [8],
}


def all_artifacts(experiment: Any) -> list[Artifact]:
    parts = [layout.QUESTIONS, layout.BASE, *layout.draws(experiment)]
    return [*parts, *layout.trained_models(experiment), *layout.evaluations(experiment)]


def declares(recipe: recipes.Recipe, name: str) -> bool:
    """Whether a recipe's own settings include one that decides."""

    def includes(names: tuple[str, ...]) -> bool:
        return any(name == other or name.startswith(other + ".") for other in names)

    grows = recipe.growth or ()
    return includes(recipe.settings) and not includes((*recipe.undecisive, *grows))


def depends(work: Workspace, other: Workspace, artifact: Artifact, name: str) -> bool:
    """Whether the declaration, followed by hand, says that a setting decides an artifact."""
    recipe, changed = (
        recipes.recipe_of(w.config.experiments["a"], artifact) for w in (work, other)
    )
    if recipe.inputs != changed.inputs:
        return True  # `posterior.init` and its like choose what an artifact is made from
    text = name in ("prompts.template", "posterior.template", "posterior.hint") and (
        "posterior" in recipe.prompts or (name.startswith("prompts") and recipe.prompts)
    )
    inputs = recipe.inputs.values()
    whole = recipe.growth is None
    extent = whole and any(name in grown(work, part) for part in inputs)
    return bool(
        declares(recipe, name)
        or text
        or extent
        or any(depends(work, other, part, name) for part in inputs)
    )


def grown(work: Workspace, artifact: Artifact) -> set[str]:
    """Growth settings of a table that may still grow, its inputs' included."""
    recipe = recipes.recipe_of(work.config.experiments["a"], artifact)
    if recipe.growth is None:
        return set()
    own = {
        "posterior.rollouts" if artifact.rollouts and g == "traces.k" else g for g in recipe.growth
    }
    return own.union(*(grown(work, part) for part in recipe.inputs.values()))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(n, v) for n, values in CHANGES.items() for v in values]),
    st.sampled_from(
        [
            {},
            {"traces": {"proposal": "prior"}},
            {"answers": {"m": 2}},
            {"weights": {"select": "all"}},
        ]
    ),
)
def test_identities_change_exactly_where_the_declaration_says(
    change: tuple[str, Any], common: dict[str, Any]
) -> None:
    name, value = change
    before = merged(merged(SMALL, {"rounds": 2}), common)
    one, other = workspace(a=before), workspace(a=merged(before, nested(name, value)))
    experiment = other.config.experiments["a"]
    if experiment == one.config.experiments["a"]:
        return
    for artifact in all_artifacts(experiment):
        changed = one.ancestry("a", artifact).identity != other.ancestry("a", artifact).identity
        declared = depends(one, other, artifact, name)
        assert changed == declared, (artifact.name, name)


def test_a_setting_at_its_default_is_in_no_identity() -> None:
    """So a setting that a later version adds makes nothing stale."""
    final = layout.model("final")
    assert ancestry({}, final) == ancestry({"traces": {"k": 8, "top_p": 1.0}}, final)
    view = recipes.step_settings(config.load({"experiments": {"a": {}}}).experiments["a"], TRACES)
    assert view == {}


def test_a_larger_k_grows_the_traces_and_makes_another_model() -> None:
    few, many = ({"traces": {"k": k}} for k in (4, 8))
    for artifact in (TRACES, Artifact("scores", role="prior"), Artifact("verdicts")):
        assert ancestry(few, artifact).identity == ancestry(many, artifact).identity
        assert ancestry(few, artifact) != ancestry(many, artifact)
    for artifact in (Artifact("weights"), layout.model("final")):
        assert ancestry(few, artifact).identity != ancestry(many, artifact).identity
    assert ancestry(few, layout.model("posterior")) == ancestry(many, layout.model("posterior"))


# Equal identities, equal tables ------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(n, v) for n, values in CHANGES.items() for v in values]))
def test_equal_identities_give_equal_tables(
    tmp_path_factory: pytest.TempPathFactory, change: tuple[str, Any]
) -> None:
    """The steps of seconds, run by hand on what the declaration gives them."""
    folder = tmp_path_factory.mktemp("pair")
    made: list[dict[Artifact, pa.Table]] = []
    works = [
        workspace(a={**SMALL, "seed": 3}),
        workspace(a=merged({**SMALL, "seed": 3}, nested(*change))),
    ]
    teacher_rows = Artifact("rows", role="posterior")
    for number, work in enumerate(works):
        given_to = {
            artifact: StepSettings.model_validate(
                recipes.step_settings(work.config.experiments["a"], artifact)
            ).model_dump_json()
            for artifact in (layout.QUESTIONS, layout.BASE, teacher_rows)
        }
        place = folder / str(number)
        asked, model, learned = place / "q.parquet", place / "base", place / "rows.parquet"
        questions.main(["--settings", given_to[layout.QUESTIONS], "--out", str(asked)])
        base.main(["--settings", given_to[layout.BASE], "--out", str(model)])
        inputs = ["--questions", str(asked), "--tokenizer", str(model)]
        rows.main(["--settings", given_to[teacher_rows], *inputs, "--out", str(learned)])
        made.append({layout.QUESTIONS: store.read_table(asked, tables.QUESTIONS)})
        made[-1][teacher_rows] = store.read_table(learned, tables.ROWS)
        for artifact, path in ((layout.QUESTIONS, asked), (teacher_rows, learned)):
            planned, recorded = work.ancestry("a", artifact), store.read_provenance(path)
            assert recorded["recipe"] == planned.recipes  # from config.yaml alone, and at run time
            assert recorded["identity"] == planned.identity
    for artifact in (layout.QUESTIONS, teacher_rows):
        one, other = (work.ancestry("a", artifact).identity for work in works)
        if one == other:
            assert made[0][artifact].equals(made[1][artifact])


# Inputs that disagree ----------------------------------------------------------------------------


def test_inputs_of_two_versions_are_refused(tmp_path: Path) -> None:
    paths = {}
    for name, temperature in (("traces", 0.7), ("verdicts", 1.0)):
        origin = traces_origin(tmp_path, traces={"temperature": temperature})
        paths[name] = tmp_path / f"{name}.parquet"
        kind = tables.TRACES if name == "traces" else tables.VERDICTS
        store.write_table(paths[name], kind, kind.schema.empty_table(), origin.marks())
    with pytest.raises(UserError, match=r"another version of round-1/traces .*\n.*1\.0") as refused:
        origin_of.output("weights", StepSettings(), paths)
    assert "verdicts.parquet" in str(refused.value)


def test_shards_of_two_versions_are_refused(tmp_path: Path) -> None:
    for shard, temperature in enumerate((0.7, 1.0)):
        origin = traces_origin(tmp_path, traces={"temperature": temperature})
        file = tmp_path / "traces" / f"shard-{shard:04d}.parquet"
        store.write_table(file, tables.TRACES, tables.TRACES.schema.empty_table(), origin.marks())
    with pytest.raises(UserError, match=r"shard-0001\.parquet does not belong to the same table"):
        origin_of.output("weights", StepSettings(), {"traces": tmp_path / "traces"})
