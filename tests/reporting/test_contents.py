"""Examples and numbers of the report, without its page."""

import base64
import gzip
import json

import numpy as np
import pandas as pd
import pytest

from stages.reporting import content, examples


def test_too_many_examples_for_a_page_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"q{i}" for i in range(10)]
    questions = pd.DataFrame({"question_id": names, "question": "2+2", "source": "s"})
    traces = pd.DataFrame({"question_id": names, "k": 0, "n_tokens": 9, "trace": "x" * 100})
    columns = {"weight": 1.0, "accuracy": 0.5, "log_ratio": 0.0, "log_answer": -np.inf}
    weights = traces.drop(columns="trace").assign(**columns, selected=True, excluded=None)
    monkeypatch.setattr(examples, "MAX_TEXT", 500)
    packed = examples.pack(questions, {"q0": "4"}, traces, weights, None)
    assert (packed["shown"], packed["all"]) == (5, 10)
    unpacked = json.loads(gzip.decompress(base64.b64decode(packed["packed"])))
    assert [example["id"] for example in unpacked] == ["q0", "q2", "q4", "q6", "q8"]
    assert (unpacked[0]["hint"], unpacked[0]["traces"][0]["answer"]) == ("4", "−∞")


def test_differences_are_shown_with_their_sign_and_none_for_zero() -> None:
    shown = [content.points(v) for v in (0.356, -0.012, 0.0, -0.0004, None)]
    assert shown == ["+35.6", "−1.2", "0.0", "0.0", "–"]
