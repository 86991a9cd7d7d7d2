"""13-gram overlap of benchmark items with training questions."""

from stages.metrics import contamination

WORDS = [f"w{i}" for i in range(40)]


def text(first, last):
    return " ".join(WORDS[first:last])


def test_thirteen_words_in_common_are_an_overlap_and_twelve_are_not():
    items = {"a": text(0, 20)}
    assert contamination.overlapping(items, ["x " + text(7, 20) + " y"]) == ["a"]
    assert contamination.overlapping(items, ["x " + text(8, 20) + " y"]) == []


def test_case_and_punctuation_do_not_hide_an_overlap():
    assert contamination.overlapping({"a": text(0, 13)}, [text(0, 13).upper().replace(" ", ", ")])


def test_short_items_overlap_only_with_themselves():
    items = {"sum": "482+937+158", "other": "482+937"}
    assert contamination.overlapping(items, ["482+937+158"]) == ["sum"]
    assert contamination.overlapping(items, [text(0, 13) + " 482 937 158"]) == []


def test_items_come_in_their_order_and_nothing_overlaps_with_nothing():
    items = {"b": text(13, 30), "a": text(0, 13), "empty": "?!"}
    assert contamination.overlapping(items, [text(0, 13), text(13, 26), "", "?!"]) == ["b", "a"]
    assert contamination.overlapping(items, []) == []
