"""Kinds of answers that real models write, one rule each: what is equal, and what is not."""

import pytest

from stages.verifiers import Pool


def judge(pool: Pool, gold: str, answer: str) -> str:
    ((_, verdict),) = pool.run([(None, rf"so $\boxed{{{answer}}}$", gold, "math", None)])
    return verdict.verdict


@pytest.mark.parametrize(
    ("gold", "same", "other"),
    [
        # units: a known pair converts, an unknown pair that differs is refused
        (r"4\text{ kN}", r"4000\text{ N}", r"4\text{ N}"),
        (r"7\text{ MHz}", r"7000\text{ kHz}", r"7\text{ GHz}"),
        (r"2\text{ mA}", r"0.002\text{ A}", r"2\text{ A}"),
        (r"6\text{ apples}", r"6\text{ red apples}", r"6\text{ pears}"),
        (r"20^\circ\text{C}", r"68^\circ\text{F}", r"20^\circ\text{F}"),
        (r"60^\circ", "60", r"60\text{ radians}"),
        (r"\$2.50", r"250\text{ cents}", r"2.50\text{ euros}"),
        # words that change a number
        ("36", r"3\text{ dozen}", r"36\text{ dozen}"),
        ("700", r"7\text{ hundred}", r"\text{less than } 700"),
        ("12", r"\text{twelve}", r"\text{twenty}"),
        ("45", r"\text{forty-five}", r"45\text{ is wrong}"),
        # plain notation, braces left out
        (r"4\pi b", "4*pi*b", "3*pi*b"),
        (r"\ln 5", "ln(5)", "ln(6)"),
        (r"5\sqrt{13}", "5*sqrt(13)", r"5\sqrt(12)"),
        (r"\frac{\beta}{3}", r"\frac\beta3", r"\frac\beta4"),
        (r"3^{\frac{5}{2}}", r"3^\frac52", r"3^\frac32"),
        # equal wherever both are real
        (r"\sqrt{u^5}", r"u^2\sqrt{u}", r"u\sqrt{u}"),
        (r"\ln p-\ln q", r"\ln(p/q)", r"\ln(pq)"),
        (r"\sqrt{y^2}", r"|y|", "y"),
        # remarks, systems, cases, matrices
        ("5k+2", r"5k+2, k \in \mathbb{Z}", r"5k+3, k \in \mathbb{Z}"),
        ("a=2, b=7", r"\begin{cases}a=2\\b=7\end{cases}", r"\begin{cases}a=7\\b=2\end{cases}"),
        (
            r"\begin{cases}1&x>0\\2&x<0\end{cases}",
            r"\begin{cases} 1, & \text{if } x>0 \\ 2, & \text{if } x<0 \end{cases}",
            r"\begin{cases}2&x>0\\1&x<0\end{cases}",
        ),
        (r"\begin{pmatrix}1\\8\end{pmatrix}", r"(1,8)^T", r"(8,1)^T"),
        ("A", "A", "A^T"),
        ("f(x)", "f(x)", "f'(x)"),
        (r"\binom{9}{4}", r"{9 \choose 4}", r"{9 \choose 3}"),
        (r"3e^{i\pi/5}", r"3\operatorname{cis}\frac{\pi}{5}", r"3\operatorname{cis}\frac{\pi}{4}"),
        ("(0,6)", "]0,6[", "[0,6]"),
        (r"(-\infty,1)\cup(2,\infty)", r"]-\infty,1[\cup]2,\infty[", r"]-\infty,1]\cup]2,\infty["),
        (r"(-\infty,2)\cup\{5\}", r"x<2 \text{ or } x=5", "x<2"),
        (r"\frac{1}{6}", r"0.1666\ldots", r"0.1777\ldots"),
        # words
        ("west", r"\text{West}", "stew"),
        (r"\text{parabola}", r"\text{a parabola}", r"\text{not a parabola}"),
    ],
)
def test_each_kind(pool, gold, same, other):
    assert judge(pool, gold, same) == "correct"
    assert judge(pool, gold, other) != "correct"


def test_reports_of_others(pool, rows):
    cases = [row for row in rows("verifier/reports_dev") if row["kind"] == "math"]
    tasks = ((i, row["answer"], row["gold"], "math", None) for i, row in enumerate(cases))
    verdicts = {i: verdict.verdict == "correct" for i, verdict in pool.run(tasks)}
    agree = sum(verdicts[i] == row["correct"] for i, row in enumerate(cases))
    assert agree >= 0.98 * len(cases)
