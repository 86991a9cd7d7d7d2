"""Both engines keep the promises of the sampling interface, on one start of each."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.common.seeds import derive_seed
from stages.engines import Draw, Engine, Request, Sampling, open_engine
from stages.experiments.settings import Engine as EngineSettings
from stages.experiments.settings import Machine
from stages.prompts import END_THOUGHT

LONGEST = 120
HOW = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=24, stop=(END_THOUGHT,))


@pytest.fixture(scope="module", params=["transformers", "vllm"])
def engine(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[Engine]:
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # leaves this process's threads alone
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"
    settings = EngineSettings(name=request.param, dtype="float32")
    with open_engine(tiny_model, settings, Machine(max_requests=16), LONGEST) as running:
        yield running


def requests(engine: Engine, count: int, how: Sampling = HOW) -> list[Request]:
    contexts = [engine.tokenizer(f"{n % 7}+1=")["input_ids"] for n in range(count)]
    return [Request(("q", n), c, derive_seed(0, n), how) for n, c in enumerate(contexts)]


def draw(engine: Engine, wanted: list[Request]) -> dict[tuple, Draw]:
    drawn = list(engine.sample(iter(wanted)))
    assert len(drawn) == len(wanted)
    return {d.key: d for d in drawn}


def test_draws_depend_on_their_requests_alone(engine: Engine) -> None:
    together = draw(engine, requests(engine, 40))
    backwards = draw(engine, requests(engine, 40)[::-1])
    alone = draw(engine, requests(engine, 40)[7:9])
    assert together == backwards
    assert all(together[key] == alone[key] for key in alone)


def test_draws_of_one_context_differ_by_their_seeds(engine: Engine) -> None:
    one = requests(engine, 1)[0]
    same = [Request(("q", n), one.prompt_token_ids, derive_seed(0, n), HOW) for n in range(30)]
    longer = [tuple(d.token_ids) for d in draw(engine, same).values() if len(d.token_ids) > 2]
    assert len(set(longer)) == len(longer) > 20  # the shortest may be equal by chance


def test_a_draw_ends_with_its_stop_or_is_cut(engine: Engine) -> None:
    ends = engine.tokenizer.convert_tokens_to_ids([END_THOUGHT, engine.tokenizer.eos_token])
    for d in draw(engine, requests(engine, 60)).values():
        stopped = d.token_ids[-1] in ends
        assert not set(d.token_ids[:-1]) & set(ends)
        assert d.finish_reason == ("stop" if stopped else "length")
        assert len(d.token_ids) == 24 or stopped


def test_temperature_zero_is_greedy(engine: Engine, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    greedy = Sampling(temperature=0.0, top_p=1.0, top_k=-1, max_tokens=1, stop=())
    expected = requests(engine, 7, greedy)
    for d in draw(engine, expected).values():
        context = torch.tensor([expected[d.key[1]].prompt_token_ids])
        assert d.token_ids == [int(model(context).logits[0, -1].argmax())]


def test_top_k_draws_from_the_k_likeliest(engine: Engine) -> None:
    two = Sampling(temperature=2.0, top_p=1.0, top_k=2, max_tokens=1, stop=())
    one = requests(engine, 1)[0]
    same = [Request(("q", n), one.prompt_token_ids, derive_seed(0, n), two) for n in range(50)]
    assert len({tuple(d.token_ids) for d in draw(engine, same).values()}) == 2


def test_a_context_that_fills_the_model_is_cut_at_once(engine: Engine) -> None:
    full = Request(("q", 0), [1] * LONGEST, 0, HOW)
    assert draw(engine, [full]) == {("q", 0): Draw(("q", 0), [], "length")}


def test_room_is_a_requests_own(engine: Engine) -> None:
    """A long context in the batch does not truncate the draw of a short one."""
    how = Sampling(temperature=1.0, top_p=1.0, top_k=-1, max_tokens=LONGEST, stop=())
    short, long = (Request(("q", n), [1] * n, n, how) for n in (2, LONGEST - 5))
    together, alone = draw(engine, [short, long]), draw(engine, [short])
    assert together[short.key] == alone[short.key]
    assert len(together[long.key].token_ids) <= 5


def test_the_model_has_no_wishes_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    """Qwen's instruct models ask for a repetition penalty; log-probs would not be of such draws."""
    wishful = Path(shutil.copytree(tiny_model, tmp_path / "wishful"))
    wishes = json.loads((wishful / "generation_config.json").read_text())
    wishes |= {"repetition_penalty": 5.0, "do_sample": True, "top_k": 1, "temperature": 0.1}
    (wishful / "generation_config.json").write_text(json.dumps(wishes))
    settings = EngineSettings(name="transformers", dtype="float32")
    drawn = []
    for model in (tiny_model, wishful):
        with open_engine(model, settings, Machine(), LONGEST) as running:
            drawn.append(draw(running, requests(running, 5)))
    assert drawn[0] == drawn[1]


def test_seeded_noise_draws_from_the_softmax() -> None:
    """20,000 draws of three tokens: shares within four standard errors of softmax(logits / T)."""
    import torch

    from stages.engines.transformers import _SeededNoise

    logits, n = torch.tensor([2.0, 1.0, -1.0]), 20_000
    how = Sampling(temperature=0.7, top_p=1.0, top_k=-1, max_tokens=1, stop=())
    rows = [Request((i,), [0], derive_seed(1, i), how) for i in range(n)]
    drawn = _SeededNoise(rows, how)(torch.zeros(n, 1), logits.expand(n, 3)).argmax(-1)
    expected = (logits / 0.7).softmax(0)
    shares = torch.bincount(drawn, minlength=3) / n
    assert ((shares - expected).abs() < 4 * (expected * (1 - expected) / n).sqrt()).all()


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    import torch

    from stages.engines.transformers import _filtered

    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    how = Sampling(temperature=1.0, top_p=0.75, top_k=-1, max_tokens=1, stop=())
    assert torch.isfinite(_filtered(logits, how)).tolist() == [[False, True, False, True]]
