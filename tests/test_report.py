"""report.html of a made-up experiment, looked at in headless Chromium."""

import json
import re
import shutil

import pytest

from stages import report, summary
from stages.artifacts import tables
from stages.common.errors import UserError
from stages.reporting import content
from tests.reporting.report_tables import HOSTILE, RNG, samples, trace_tables, training_log, write

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A made-up results folder with its report: 10,000 questions with four traces each."""
    folder = tmp_path_factory.mktemp("made") / "results" / "tiny"
    trace_tables(folder)
    cost = {"step": "evaluate", "seconds": 41.0, "tokens": 90_000}
    for model, skill in (("initial", 0.1), ("final", 0.7)):
        training_log(folder / "models" / model, 0.3 if model == "initial" else 0.15)
        for name, items, n in (("held_out", 600, 4), ("math500", 100, 2), ("gsm8k", 200, 1)):
            chance = RNG.beta(0.6, 0.6, items) * skill * (1.2 if name == "held_out" else 0.8)
            rows = samples(name, items, n, lambda i, p=chance: p[i])
            write(folder / f"eval/{model}/{name}.parquet", tables.SAMPLES, rows, **cost)
    training_log(folder / "models" / "posterior", 0.2)
    models = [f"{m}={folder}/models/{m}" for m in ("initial", "posterior", "final")]
    root = folder / "round-1"
    artifacts = [folder / "questions.parquet", *(m.split("=")[1] for m in models)]
    artifacts += [root / "traces", root / "verdicts", root / "weights.parquet"]
    evals = [f"{m}={folder}/eval/{m}" for m in ("initial", "final")]
    questions = f"{folder}/questions.parquet"
    output = f"{folder}/eval.json"
    inputs = ["--eval", *evals, "--questions", questions, "--artifacts", *map(str, artifacts)]
    summary.main(["--name", "tiny", *inputs, "--out", output])
    drawn = ["--traces", f"{root}/traces", "--verdicts", f"{root}/verdicts"]
    drawn += ["--weights", f"{root}/weights.parquet", "--summaries", f"{root}/weights.json"]
    inputs = ["--eval", output, "--models", *models, "--questions", questions, *drawn]
    report.main([*inputs, "--out", f"{folder}/report.html"])
    return folder


@pytest.fixture(scope="module")
def chromium():
    """Chromium without a network, as a person without one has it."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: the report was not looked at in a browser")
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def look(chromium):
    """Opens a page, which notes all that its console said and all that it asked the network."""
    contexts = []

    def open_page(path, width=1280, height=800, theme="light"):
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, offline=True
        )
        context.set_default_timeout(120_000)  # a busy machine takes long to parse 5 MB of script
        contexts.append(context)
        page = context.new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page(experiment, look):
    """The report on a laptop, in light."""
    return look(experiment / "report.html")


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_renders_without_errors_network_or_sideways_scrolling(
    experiment, look, width, height, theme
):
    page = look(experiment / "report.html", width, height, theme)
    assert page.said == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (brightness > 200) == (theme == "light")
    for plot in page.locator(".plot").all():
        assert plot.locator("svg.main-svg").count() > 0
        assert plot.evaluate("e => e.scrollWidth <= e.clientWidth + 1")


def test_every_section_is_there(page):
    links = [link.inner_text() for link in page.locator("nav a").all()]
    assert links == [
        *("Result", "pass@k", "Difficulty", "Training", "Traces", "Cost", "Examples"),
    ]
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_numbers_are_those_of_eval_json(experiment, page):
    output = json.loads((experiment / "eval.json").read_text())
    shown = [float(s.get_attribute("data-exact")) for s in page.locator(".scores .score").all()]
    titles = {b["name"]: b["title"] for b in output["benchmarks"]}
    expected = []
    for name in titles:
        of = {r["model"]: r for r in output["results"] if r["benchmark"] == name}
        expected += [of[m]["average"]["value"] for m in output["models"]]
        expected += [p["difference"]["value"] for p in output["pairs"] if p["benchmark"] == name]
    assert shown == expected
    row = page.locator(".scores tbody tr", has_text="MATH500").inner_text()
    result = next(r for r in output["results"] if r["benchmark"] == "math500")
    for number in (result["average"]["value"], result["average"]["population"]["low"]):
        assert f"{100 * number:.1f}" in row
    assert f"cut {100 * result['rates']['truncated']:.1f}" in row
    data = "document.getElementById('differences').data"
    points = page.evaluate(f"{data}.filter(t => t.showlegend).flatMap(t => [...t.x])")
    differences = [100 * p["difference"]["value"] for p in output["pairs"]]
    assert points == pytest.approx(differences)
    lead = page.locator(".lead").inner_text()
    assert f"{differences[0]:+.1f}\N{NO-BREAK SPACE}points" in lead


def test_search_finds_one_of_ten_thousand(page):
    result, rows = page.locator("#found"), page.locator("#rows .row")
    assert result.inner_text() == "10,000 of 10,000"
    assert rows.count() < 40  # only what is in sight is in the page
    page.fill("#search", "needle")
    page.wait_for_function("document.getElementById('found').textContent === '1 of 10,000'")
    rows.first.click()
    example = page.locator("#example")
    assert "q07777" in example.inner_text()
    assert example.locator(".trace").count() == 4
    assert example.locator("mark").count() == 4
    weights = page.evaluate("all[7777].traces.map(t => t.weight)")
    assert sum(weights) == pytest.approx(1, abs=1e-4)
    page.fill("#search", "")
    page.select_option("#filter", "never")
    page.wait_for_function("!document.getElementById('found').textContent.startsWith('1 of')")
    never = page.evaluate("shown.every(e => e.traces.every(t => t.accuracy === 0)) && shown.length")
    assert never and result.inner_text() == f"{never:,} of 10,000"


def test_ten_thousand_rows_scroll_to_their_end(page):
    page.select_option("#filter", "all")
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    page.wait_for_selector("#rows .row:has-text('q09999')")
    assert page.locator("#rows .row").count() < 40


def test_typing_that_a_filter_has_answered_does_not_send_the_list_back_to_its_top(page):
    page.evaluate(
        """() => {
            document.getElementById("search").dispatchEvent(new Event("input"));
            document.getElementById("filter").dispatchEvent(new Event("change"));
            document.getElementById("list").scrollTop = 1e9;
        }"""
    )
    page.wait_for_timeout(200)  # longer than typing is waited for
    assert page.evaluate("document.getElementById('list').scrollTop") > 9_900 * 56


def test_hostile_texts_stay_texts(page):
    page.evaluate("document.getElementById('list').scrollTop = 0")
    page.locator("#rows .row", has_text="owned").click()
    assert HOSTILE in page.locator("#example dd").first.inner_text()
    assert page.evaluate("window.owned") is None
    assert page.locator("#example img").count() == 0


def test_the_theme_can_be_switched(page):
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.querySelector('#differences').layout.font.color") == "#e8eaee"


def test_several_experiments_on_one_page(experiment, look, tmp_path):
    evals = [f"a/initial={experiment}/eval/initial", f"a/final={experiment}/eval/final"]
    evals += [f"b/final={experiment}/eval/initial"]
    summary.main(["--name", "a+b", "--eval", *evals, "--out", str(tmp_path / "a+b.json")])
    report.main(["--eval", str(tmp_path / "a+b.json"), "--out", str(tmp_path / "a+b.html")])
    page = look(tmp_path / "a+b.html")
    assert page.said == []
    heads = [h.inner_text().strip() for h in page.locator(".scores thead th").all()]
    assert heads[1:4] == ["a/initial", "a/final", "b/final"]
    assert heads[4:] == ["b/final − a/final"]
    cells = page.locator(".scores tbody tr").first.locator(".score")
    initial, final, other, gain = (float(c.get_attribute("data-exact")) for c in cells.all())
    assert other == initial  # b was made of a's initial model
    assert gain == pytest.approx(initial - final)
    assert page.locator("#examples").count() == 0


def test_a_page_of_eval_json_alone_has_no_empty_sections(experiment, tmp_path):
    report.main(["--eval", f"{experiment}/eval.json", "--out", str(tmp_path / "r.html")])
    text = (tmp_path / "r.html").read_text()
    assert 'id="result"' in text and 'id="cost"' in text
    assert 'id="training"' not in text and 'id="examples"' not in text


def test_an_invalid_eval_json_is_refused(tmp_path):
    for text, message in (("{}", "schema version None"), ("[", "not a valid eval.json")):
        (tmp_path / "eval.json").write_text(text)
        with pytest.raises(UserError, match=message):
            report.main(["--eval", str(tmp_path / "eval.json"), "--out", str(tmp_path / "r.html")])
    assert not (tmp_path / "r.html").exists()


def test_high_rates_are_said_before_the_table_each_in_one_sentence(experiment):
    evaluation = report.read_evaluation(experiment / "eval.json")
    cut = {"truncated": 0.5, "no_answer": 0.0, "error": 0.0}
    worst = evaluation.results[:2]
    worst = [r.model_copy(update={"rates": r.rates.model_copy(update=cut)}) for r in worst]
    said = content.notes(evaluation.model_copy(update={"results": worst}))
    assert said[0] == (
        "Samples that were cut at the token limit: initial on Held-out questions 50.0 %, "
        "initial on MATH500 50.0 %."
    )


def test_figures_of_estimators_are_shown_rounded_and_a_missing_one_as_a_dash(experiment):
    page = experiment / "report.html"
    text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
    row = re.search(r"full\s+accuracy\s+1\.04\s+–\s+−0\.12\s+41\.3\s+50\.0", text)
    assert row is not None


@pytest.mark.parametrize(("closed", "warned"), [(0.175, True), (0.5, False), (None, False)])
def test_traces_that_do_not_end_their_thought_are_warned_of(
    closed: float | None, warned: bool
) -> None:
    said = content.trace_notes("Traces of round 2", {"shares": {"closed": closed}})
    assert bool(said) is warned
    if warned:
        assert "Traces of round 2: only 17.5 % end their thought" in said[0]
        assert "Raise traces.max_tokens" in said[0]
