"""Mathematical answers, through the pool as every caller has them."""

import pytest

from stages.verifiers import Pool, VerifyOptions, check_reference, equal, verify
from stages.verifiers.math import compare

# One label of math_labelled_math is wrong: 10{,}000 and 10000 are the same number.
WRONG_LABELS = {"math-72-7"}


def judge(pool: Pool, gold, answer: str, tests=None) -> str:
    options = VerifyOptions(tests=tests)
    ((_, verdict),) = pool.run([(None, answer, gold, "math", options)])
    return verdict.verdict


def boxed(pool: Pool, gold: str, content: str) -> bool:
    verdict = judge(pool, gold, rf"so \boxed{{{content}}}")
    assert verdict != "error"
    return verdict == "correct"


def test_every_pair_with_an_expectation(pool, rows):
    pairs = [row for row in rows("verifier/math_pairs") if row["expected"] is not None]
    tasks = ((row["name"], row["answer"], row["gold"], "math", None) for row in pairs)
    result = {name: verdict.verdict == "correct" for name, verdict in pool.run(tasks)}
    assert result == {row["name"]: row["expected"] for row in pairs}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("verifier/math_labelled_gsm8k", set()), ("verifier/math_labelled_math", WRONG_LABELS)],
)
def test_real_outputs_are_judged_as_people_did(pool, rows, name, wrong):
    labelled = {row["id"]: row for row in rows(name)}
    tasks = ((key, row["answer"], row["gold"], "math", None) for key, row in labelled.items())
    result = {key: verdict.verdict == "correct" for key, verdict in pool.run(tasks)}
    assert {
        key for key, is_right in result.items() if is_right != labelled[key]["correct"]
    } == wrong


def test_worked_solutions_hold_their_own_answers(pool, rows):
    problems = rows("benchmarks/math500")
    tasks = ((i, p["solution"], p["answer"], "math", None) for i, p in enumerate(problems))
    wrong = [problems[i]["answer"] for i, verdict in pool.run(tasks) if verdict[0] != "correct"]
    assert wrong == []


def test_every_benchmark_gold_is_readable_or_named(pool, rows):
    golds = [gold for row in rows("benchmarks/olympiadbench") for gold in row["final_answer"]]
    golds += [row["answer"] for row in rows("benchmarks/math500")]
    checked = pool.check((i, gold, "math", None) for i, gold in enumerate(golds))
    unreadable = {golds[i] for i, reason in checked if reason is not None}
    assert {gold[:7] for gold in unreadable} == {"$f(x)=a", "$t(0,4]"}


# What math-verify gets wrong, by other examples than the known ones ------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        # tiny and huge numbers are compared by ratio
        (r"\frac{1}{3^{60}}", r"\frac{1}{3^{61}}", False),
        (r"\frac{1}{3^{60}}", "3^{-60}", True),
        (r"(\frac{1}{2^{80}}, 0)", r"(\frac{1}{2^{81}}, 0)", False),
        (r"\frac{\pi}{10^{20}}", r"\frac{\pi}{10^{21}}", False),
        (r"x/2^{99}", r"x/2^{98}", False),
        (r"2^{300}", r"2^{300}+1", False),
        # units
        (r"10\text{ kg}", r"10\text{ g}", False),
        (r"2\text{ hours}", r"120\text{ min}", True),
        (r"3\sqrt{2}\text{ cm}", r"3\sqrt{2}\text{ m}", False),
        (r"7\text{ cm}", "7", True),
        ("7", r"7\text{ dollars}", True),
        ("2s", "2", False),
        # patterns with dots
        (r"1, 2, \ldots, n", r"1, 2, 3, \dots, n", True),
        (r"2, 4, \ldots, 2n", r"1, 2, \ldots, n", False),
        (r"1, 2, \cdots, 9", "1, 2, ..., 9", True),
        # equations
        ("x^2+1=0", "x^2+2=0", False),
        ("1+1=2", "2+2=4", False),
        ("y=2x", "2y=4x", True),
        ("x^2+y^2=1", "x^2+y^2=2", False),
        ("x=1", "y=1", False),
        # operators that are left to be worked out are no answer, unless the reference has one
        ("2", r"\int_0^2 1 dx", False),
        ("120", r"\prod_{k=1}^{5} k", False),
        (r"\sum_{k=1}^{n} k", r"\sum_{k=1}^{n} k", True),
        # refused by the library
        ("2500", "2.5e3", True),
        ("0.0015", "1.5e-3", True),
        ("1234567", r"1\,234\,567", True),
        (r"\cos 60^\circ", r"\frac{1}{2}", True),
        (r"\frac{\sqrt{3}}{2}", r"\sin 60^{\circ}", True),
        ("90^{\\circ}", "90", True),
        # lists
        ("1, 1, 2", "1, 2", False),
        ("1, 2", "2, 1", True),
        (r"\sqrt{2}, \sqrt{2}", r"\sqrt{2}", False),
        (r"3 \pm 2\sqrt{2}", r"3+2\sqrt{2}, 3-2\sqrt{2}", True),
        # bases, moduli, times
        ("101_2", "101_3", False),
        ("101_2", "11_4", True),
        (r"3 \pmod 7", r"3 \pmod 5", False),
        ("12:30", "12:45", False),
        ("2:30", r"\text{2:30}", True),
        # text
        (r"\text{Tuesday}", "tuesday", True),
        (r"\text{Tuesday}", "Monday", False),
        (r"\text{(B)}", r"\text{B}", True),
        # undefined is nothing
        ("0", r"\frac{0}{0}", False),
        (r"\infty", r"\frac{1}{0}", False),
        # and what is equal stays so
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        ("x^2-1", "(x-1)(x+1)", True),
        (r"\frac{1}{2}x", "0.5x", True),
        (r"(-\infty, 3]", r"x \le 3", True),
        (r"x \le 3", r"(-\infty, 3]", True),
        (r"(-\infty, 3]", "x < 3", False),
        (r"2\pi", "6.283185", True),
        (r"2\pi", "6.28", False),
        ("1+2i", "1-2i", False),
        (
            r"\begin{pmatrix}1 & 2\\3 & 4\end{pmatrix}",
            r"\begin{pmatrix}1&2\\3&5\end{pmatrix}",
            False,
        ),
        (r"\begin{pmatrix}1/2\\3\end{pmatrix}", r"\begin{pmatrix}0.5\\3\end{pmatrix}", True),
        (r"m_{\max}=n^2", "n^2", True),
        ("5", r"\boxed{5}", True),
    ],
)
def test_the_librarys_wrong_verdicts_are_mended(pool, gold, answer, expected):
    assert boxed(pool, gold, answer) is expected


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        # a set, a bare list and a set of one
        ("5, 6", r"\{6, 5\}", True),
        (r"\{5, 6\}", "5, 6", True),
        (r"\{5\}", "5", True),
        ("5, 5, 6", r"\{5, 6\}", False),
        (r"\{5, 6\}", "5, 7", False),
        # the imaginary unit, however it is spelled
        ("-1", "i^2", True),
        ("3+4i", r"3+4\mathrm{i}", True),
        ("3+4i", r"3+4\cdot i", True),
        ("2i", r"\sqrt{-4}", True),
        (r"\frac{1}{2}+\frac{\sqrt{3}}{2}i", r"e^{i\pi/3}", True),
        ("2", r"2\mathrm{i}", False),
        (r"\mathbf{i}+3\mathbf{j}", r"\mathbf{i}+3\mathbf{k}", False),
        (r"a_i = 2i", r"a_i = 2i+1", False),
        # inequalities, and the sets of their solutions
        ("[1, 2]", r"1 \le x \le 2", True),
        ("1<x<2", "2>x>1", True),
        ("1<x<2", "1<y<2", False),
        (r"(-\infty,2)\cup(3,\infty)", r"x<2 \text{ or } x>3", True),
        (r"(2, 3)", r"x>2 \text{ and } x<3", True),
        (r"(-\infty,0)\cup(0,\infty)", r"x \ne 0", True),
        ("[1, 2)", r"\{x \mid 1 \le x < 2\}", True),
        ("[1, 2)", r"1 \le x \le 2", False),
        # ratios
        ("3:4:5", "6:8:10", True),
        ("3:4:5", "3:5:4", False),
        (r"1:\sqrt{3}:2", r"\sqrt{3}:3:2\sqrt{3}", True),
        ("3:4", "3:4:5", False),
        # vectors
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", "(1, 2, 3)", True),
        (r"\langle 1, 2 \rangle", "(1, 2)", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}", False),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\[4pt]2\end{pmatrix}", True),
        # a value that is named
        ("f(2)=5", "5", True),
        ("f(2)=5", "6", False),
        ("f(2)=5", "f(2)=6", False),
        ("5", r"\text{The answer is } 5", True),
        (r"(1011)_2", "1011_2", True),
    ],
)
def test_answers_in_two_forms_are_brought_into_one(pool, gold, answer, expected):
    assert boxed(pool, gold, answer) is expected


# Rules of a question besides its answer -----------------------------------------------------------


def test_of_several_golds_any_is_right(pool):
    assert judge(pool, ["1", "2"], r"\boxed{2}") == "correct"
    tests = {"kind": "math", "golds": ["1", r"\frac{1}{2}"]}
    assert judge(pool, None, r"\boxed{0.5}", tests) == "correct"
    assert judge(pool, None, r"\boxed{3}", tests) == "incorrect"


def test_a_tolerance_is_absolute(pool):
    tests = {"kind": "math", "tolerance": "1e-1"}
    assert judge(pool, "4.2", r"\boxed{4.25}", tests) == "correct"
    assert judge(pool, "4.2", r"\boxed{4.4}", tests) == "incorrect"


def test_a_unit_of_the_question_holds_for_its_golds(pool):
    tests = {"kind": "math", "unit": "km/h"}
    assert judge(pool, r"\frac{600}{7}", r"\boxed{\frac{600}{7}}", tests) == "correct"
    assert judge(pool, "36", r"\boxed{36\text{ km/h}}", tests) == "correct"
    assert judge(pool, "36", r"\boxed{10\text{ m/s}}", tests) == "correct"
    assert judge(pool, "36", r"\boxed{36\text{ m/s}}", tests) == "incorrect"
    assert (
        judge(pool, "90", r"\boxed{90^\circ}", {"kind": "math", "unit": r"^{\circ}"}) == "correct"
    )
    assert judge(pool, "166", r"\boxed{166}", {"kind": "math", "unit": "$cm^2$"}) == "correct"


def test_order_counts_where_a_question_says_so(pool):
    tests = {"kind": "math", "ordered": True}
    assert judge(pool, "1, 2", r"\boxed{1, 2}", tests) == "correct"
    assert judge(pool, "1, 2", r"\boxed{2, 1}", tests) == "incorrect"
    assert judge(pool, r"\sqrt{2}, 1", r"\boxed{1, \sqrt{2}}", tests) == "incorrect"


def test_a_gold_that_cannot_be_parsed_is_named_not_scored(pool):
    assert "parsed" in check_reference("t(0,4]", "math")
    assert judge(pool, "t(0,4]", r"\boxed{3}") == "error"


@pytest.mark.parametrize(
    ("reference", "tests", "said"),
    [
        (None, None, "no reference answer"),
        (" ", None, "no reference answer"),
        ("1", "{", "not valid JSON"),
        ("1", '{"kind": "stdin"}', "math question"),
        ("1", '{"kind": "math", "tolerance": "much"}', "tolerance"),
        ("1", '{"kind": "math", "tolerence": 1}', "tolerence"),
        ("1", '{"kind": "math", "golds": "1"}', "golds"),
    ],
)
def test_references_that_cannot_be_used_are_refused(reference, tests, said):
    assert said in check_reference(reference, "math", tests)


def test_an_answer_is_a_box_or_a_statement(pool):
    assert judge(pool, "5", "thus we get 5") == "incorrect"
    assert judge(pool, "5/4", "The answer is 1 1/4") == "correct"
    assert (
        judge(pool, "5", r"<|begin_of_thought|>\boxed{5}<|end_of_thought|> I give up")
        == "incorrect"
    )


def test_an_answer_of_nothing_but_length_is_refused_unread(pool):
    assert judge(pool, "5", rf"\boxed{{{'~' * compare.MAX_TEXT}5}}") == "error"
    assert judge(pool, "5", rf"\boxed{{{'~' * 9000}5}}") == "correct"


# One at a time, and votes -------------------------------------------------------------------------


def test_verify_says_what_it_read_and_why():
    verdict = verify(r"so \boxed{x^2-1}", "(x-1)(x+1)", "math")
    assert verdict.verdict == "correct"
    assert verdict.extracted == "x^2-1"
    assert verdict.reason == "math-verify: equal"
    assert 0 < verdict.seconds < 5


def test_equal_answers_vote_together(pool):
    answers = ["1/2", None, "0.5", "2", r"\frac{2}{4}", "2.0", "x"]
    assert pool.clusters(answers, "math") == [0, None, 0, 1, 0, 1, 2]
    assert pool.clusters(["A", "B", "A"], "choice") == [0, 1, 0]
    assert equal("50\\%", "0.5", "math")
    assert not equal("A", "B", "choice")
