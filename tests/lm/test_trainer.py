"""A step's gradient is a function of its rows alone, and a killed training ends as any other."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from random_rows import random_rows

from stages.lm.model import load
from stages.lm.plan import TrainingRows, TrainingSettings
from stages.lm.trainer import Interrupted, Trainer

HERE = Path(__file__).parent
LENGTHS = [2, 3, 9, 30, 30, 30, 31, 64, 65, 120, 300, 7]
N_CONTEXT = [1, 1, 4, 1, 10, 29, 3, 60, 1, 20, 100, 2]
WEIGHTS = [1.0, 0.0, 2.0, 0.25, 1.0, 3.0, 0.0, 1.0, 0.5, 1.0, 0.125, 4.0]
EVERYTHING = np.arange(len(LENGTHS))
# Gradients are sums of float32 numbers in another order: the project's bar for the relative error.
RELATIVE = 1e-5


def rows_of(tokens, n_context, weights):
    return TrainingRows(
        token_ids=np.concatenate(tokens).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(t) for t in tokens])]),
        n_context=np.array(n_context, dtype=np.int32),
        weights=np.array(weights, dtype=np.float64),
    )


def some_rows():
    return rows_of(random_rows(LENGTHS), N_CONTEXT, WEIGHTS)


def settings(**changes):
    usual = {
        "mean_response_tokens": 40.0,
        "steps": 12,
        "n_draws": 46,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "warmup_fraction": 0.2,
        "weight_decay": 0.01,
    }
    return TrainingSettings(**(usual | changes))


def trainer(checkpoint, tmp_path, rows=None, **changes):
    rows = rows or some_rows()
    held_back = rows_of(random_rows([20, 30], seed=5), [4, 4], [1.0, 2.0])
    return Trainer(load(checkpoint, "auto"), rows, held_back, settings(**changes), tmp_path)


def gradients(trained):
    return {
        name.removeprefix("checkpoint."): p.grad
        for name, p in trained.model.named_parameters()
        if p.grad is not None
    }


def assert_same_gradients(got, wanted):
    """The difference of all parameters' gradients together, against their norm; and of each."""
    assert got.keys() == wanted.keys()
    total = sum(float(g.double().square().sum()) for g in wanted.values()) ** 0.5
    off = sum(float((got[n] - g).double().square().sum()) for n, g in wanted.items()) ** 0.5
    assert off <= RELATIVE * total
    for name, gradient in wanted.items():
        error = float((got[name] - gradient).double().norm())
        assert error <= RELATIVE * float(gradient.double().norm()), name


@pytest.fixture(scope="module")
def by_definition(checkpoints):
    """Objective and gradient of docs/method.md's formula, one row at a time, full logits."""
    from transformers import AutoModelForCausalLM

    def compute(name):
        model = AutoModelForCausalLM.from_pretrained(checkpoints[name], dtype=torch.float32)
        rows, divisor, objective = some_rows(), 4 * 40.0, 0.0
        for i in EVERYTHING:
            ids = torch.from_numpy(rows.tokens(i).astype(np.int64))
            logits = model(ids[None], use_cache=False).logits[0]
            logprobs = torch.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])
            loss = -rows.weights[i] * logprobs[rows.n_context[i] - 1 :].sum() / divisor
            loss.backward()
            objective += loss.item()
        return objective, {n: p.grad for n, p in model.named_parameters()}

    return {name: compute(name) for name in checkpoints}


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    "changes",
    [
        {"tokens_per_micro_batch": 10**6},
        {"tokens_per_micro_batch": 10**6, "recompute_every": 0},
        {"tokens_per_micro_batch": 128, "recompute_every": 2},
        {"tokens_per_micro_batch": 1},
    ],
)
def test_the_gradient_is_the_objectives_for_any_micro_batch(
    checkpoints, by_definition, tmp_path, architecture, changes
):
    trained = trainer(checkpoints[architecture], tmp_path, **changes)
    objective, wanted = by_definition[architecture]
    assert trained.gradient(EVERYTHING) == pytest.approx(objective, rel=RELATIVE)
    assert_same_gradients(gradients(trained), wanted)


def test_the_gradient_accumulates(checkpoints, by_definition, tmp_path):
    trained = trainer(checkpoints["qwen3"], tmp_path)
    parts = [trained.gradient(part) for part in (EVERYTHING[:5], EVERYTHING[5:6], EVERYTHING[6:])]
    objective, wanted = by_definition["qwen3"]
    assert sum(parts) == pytest.approx(objective, rel=RELATIVE)
    assert_same_gradients(gradients(trained), wanted)


def test_a_weight_is_a_number_of_repetitions(checkpoints, tmp_path):
    tokens, n_context, weights = random_rows([20, 33, 8, 50]), [3, 5, 1, 9], [2, 1, 0, 3]
    weighted = trainer(checkpoints["qwen3"], tmp_path, rows_of(tokens, n_context, weights))
    weighted.gradient(np.arange(4))
    repeated_rows = rows_of(
        [t for t, w in zip(tokens, weights, strict=True) for _ in range(w)],
        [c for c, w in zip(n_context, weights, strict=True) for _ in range(w)],
        [1.0] * sum(weights),
    )
    repeated = trainer(checkpoints["qwen3"], tmp_path, repeated_rows)
    repeated.gradient(np.arange(6))
    assert_same_gradients(gradients(weighted), gradients(repeated))


def test_a_row_of_weight_zero_is_as_good_as_absent(checkpoints, tmp_path):
    tokens, n_context = random_rows([20, 33, 8]), [3, 5, 1]
    with_it = trainer(checkpoints["qwen3"], tmp_path, rows_of(tokens, n_context, [1.0, 0.0, 2.0]))
    without = trainer(
        checkpoints["qwen3"], tmp_path, rows_of(tokens[::2], n_context[::2], [1.0, 2.0])
    )
    assert with_it.gradient(np.arange(3)) == without.gradient(np.arange(2))
    assert_same_gradients(gradients(with_it), gradients(without))


def test_a_step_of_rows_of_weight_zero_changes_nothing(checkpoints, tmp_path):
    rows = rows_of(random_rows([9, 9]), [1, 1], [0.0, 0.0])
    trained = trainer(checkpoints["qwen3"], tmp_path, rows, weight_decay=0.0, batch_size=2)
    before = {n: p.detach().clone() for n, p in trained.model.named_parameters()}
    line = trained.train_step()
    assert line["loss"] == line["grad_norm"] == 0
    assert all(torch.equal(p, before[n]) for n, p in trained.model.named_parameters())


# Training ----------------------------------------------------------------------------------------


def weights_of(trained):
    return {n: p.detach().clone() for n, p in trained.model.named_parameters()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def undisturbed(checkpoints, tmp_path_factory):
    trained = trainer(checkpoints["qwen2"], tmp_path_factory.mktemp("undisturbed"))
    log = list(trained.run())
    return weights_of(trained), log


def test_training_lowers_the_loss_and_logs_every_step(undisturbed):
    _, log = undisturbed
    assert [line["step"] for line in log] == list(range(1, 13))
    assert log[-1]["epoch"] == pytest.approx(46 / 12)
    assert [line["step"] for line in log if line["eval_loss"] is not None] == [3, 6, 9, 12]
    assert log[-1]["eval_loss"] < log[2]["eval_loss"]
    assert all(np.isfinite([line["loss"], line["grad_norm"]]).all() for line in log)
    assert log[-1]["tokens"] > sum(LENGTHS) * 3


@pytest.mark.parametrize("kills", [[1, 4, 9], [2, 3, 11], [5, 6, 7]])
def test_a_training_killed_three_times_ends_with_the_same_weights(
    checkpoints, tmp_path, undisturbed, kills
):
    for kill in kills:
        killed = trainer(checkpoints["qwen2"], tmp_path)
        killed.resume()
        with pytest.raises(Interrupted, match=f"step {kill} of 12"):
            list(killed.run(stop_requested=lambda: killed.step == kill))  # noqa: B023
    last = trainer(checkpoints["qwen2"], tmp_path)
    last.resume()
    assert [line["step"] for line in last.run()] == list(range(kills[-1] + 1, 13))
    weights, log = undisturbed
    assert_equal_weights(weights_of(last), weights)
    reproducible = ("step", "loss", "eval_loss", "grad_norm", "tokens", "learning_rate")
    for ours, theirs in zip(last.log, log, strict=True):
        assert {n: ours[n] for n in reproducible} == {n: theirs[n] for n in reproducible}


def test_an_unfinished_checkpoint_is_not_taken_for_one(checkpoints, tmp_path, undisturbed):
    killed = trainer(checkpoints["qwen2"], tmp_path)
    list(killed.run(checkpoint_seconds=0.0))  # a checkpoint after every step but the last
    assert [p.name for p in tmp_path.iterdir()] == ["step-11"]
    shutil.copytree(tmp_path / "step-11", tmp_path / "unfinished")  # as if killed while writing
    (tmp_path / "unfinished" / ".metadata").unlink()
    again = trainer(checkpoints["qwen2"], tmp_path)
    again.resume()
    assert again.step == 11
    list(again.run())
    assert_equal_weights(weights_of(again), undisturbed[0])


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_the_model_written_is_the_model_trained(checkpoints, tmp_path, architecture):
    from transformers import AutoModelForCausalLM

    trained = trainer(checkpoints[architecture], tmp_path / "partial", steps=2)
    list(trained.run())
    trained.save_model(tmp_path / "model", [3, 5])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert plain.generation_config.eos_token_id == [3, 5]
    assert plain.config._attn_implementation == "sdpa"
    ours = dict(trained.model.checkpoint.named_parameters())
    theirs = dict(plain.named_parameters())
    assert_equal_weights(ours, theirs)
    original = AutoModelForCausalLM.from_pretrained(checkpoints[architecture])
    assert not torch.equal(original.lm_head.weight, plain.lm_head.weight)


@pytest.mark.parametrize("master", [torch.float32, torch.bfloat16])
def test_small_updates_are_not_lost(checkpoints, tmp_path, master):
    """A step of 1e-5 on a weight of size 0.3 is far below bfloat16's spacing there, 2e-3.

    The first step of Adam moves every weight by the learning rate, against its gradient.
    """
    trained = trainer(
        checkpoints["qwen3"],
        tmp_path,
        dtype=torch.bfloat16,
        master_dtype=master,
        learning_rate=1e-5,
        warmup_fraction=0.0,
        weight_decay=0.0,
        max_grad_norm=1e9,
    )
    names = [n for n in trained._parameters if "proj" in n]
    # what the weights are rounded from, as bfloat16 has it
    before = {n: whole(trained._parameters[n]).clone() for n in names}
    trained.gradient(EVERYTHING)
    downhill = {n: -whole(trained._parameters[n].grad).sign() for n in names}
    trained.optimizer.step()
    moved = torch.cat(
        [
            ((whole(trained._parameters[n]).double() - before[n].double()) * downhill[n]).flatten()
            for n in names
        ]
    )
    # float32 spacing at 0.3 is 3e-8, a share of 0.3 % of a step. Rounded at random, the mean of
    # n weights is off by at most 4 standard errors.
    tolerance = 3e-8 if master == torch.float32 else 4 * float(moved.std()) / len(moved) ** 0.5
    assert float(moved.mean()) == pytest.approx(1e-5, abs=tolerance)
    assert tolerance < 1e-5 / 2  # or the test could not tell lost updates from kept ones
    assert all(p.dtype == master for p in trained._parameters.values())


def test_half_precision_gradients_are_near_the_exact_ones(checkpoints, by_definition, tmp_path):
    trained = trainer(checkpoints["qwen3"], tmp_path, dtype=torch.bfloat16)
    objective, wanted = by_definition["qwen3"]
    assert trained.gradient(EVERYTHING) == pytest.approx(objective, rel=0.02)
    dot = norm = 0.0
    for name, gradient in wanted.items():
        ours = whole(trained._parameters["checkpoint." + name].grad)
        assert ours.dtype == torch.float32
        dot += float((ours.double() * gradient.double()).sum())
        norm += float(gradient.double().square().sum())
    assert dot / norm == pytest.approx(1, abs=0.05)  # bfloat16 has 8 bits


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach()


# Several processes -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_processes(checkpoints, tmp_path_factory):
    """What `two_processes.py` leaves: gradients, and a training that one process began."""
    folder = tmp_path_factory.mktemp("two")
    begun = trainer(checkpoints["qwen2"], folder / "partial")
    with pytest.raises(Interrupted):
        list(begun.run(stop_requested=lambda: begun.step == 3))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = [HERE / "two_processes.py", folder, checkpoints["qwen2"], checkpoints["qwen3"]]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([*launch, *map(str, arguments)], env=environment)
    try:
        assert started.wait(timeout=100) == 0
    finally:
        started.terminate()  # ends its two children too
        started.wait()
    return folder


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_two_processes_have_the_gradient_of_one(two_processes, by_definition, architecture):
    saved = torch.load(two_processes / f"{architecture}.pt", weights_only=True)
    objective, wanted = by_definition[architecture]
    assert saved["objective"] == pytest.approx(objective, rel=RELATIVE)
    assert_same_gradients(saved["gradient"], wanted)


def test_two_processes_finish_what_one_began(two_processes, undisturbed):
    from transformers import AutoModelForCausalLM

    plain = dict(AutoModelForCausalLM.from_pretrained(two_processes / "model").named_parameters())
    weights = {n.removeprefix("checkpoint."): p for n, p in undisturbed[0].items()}
    for name, p in weights.items():
        # Adam divides by the gradient's size: where that is tiny, rounding shows in full.
        torch.testing.assert_close(plain[name], p, rtol=1e-3, atol=1e-4)


def test_two_processes_share_the_rows(two_processes):
    seen = Counter()
    for rank in (0, 1):
        seen.update((two_processes / f"rows-{rank}").read_text().split())
    assert seen == Counter({str(i): 1 for i in EVERYTHING if WEIGHTS[i]})


def test_two_processes_learn_the_adapters_of_one(two_processes, checkpoints, tmp_path):
    from stages.lm.lora import Lora

    alone = trainer(checkpoints["qwen2"], tmp_path, lora=Lora(rank=4, alpha=8.0), steps=3)
    list(alone.run())
    together = torch.load(two_processes / "adapters.pt", weights_only=True)
    assert together.keys() == alone._parameters.keys()
    for name, p in alone._parameters.items():
        torch.testing.assert_close(together[name], p, rtol=1e-3, atol=1e-4)
