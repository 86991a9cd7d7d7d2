"""Items made one ahead are the same items, and errors come where they would have come."""

from collections.abc import Iterator

import pytest

from stages.running.ahead import ahead


@pytest.mark.parametrize("n", [0, 1, 5])
def test_items_come_in_their_order(n: int) -> None:
    assert list(ahead(range(n))) == list(range(n))


def test_only_one_item_is_made_ahead() -> None:
    made = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    stream = ahead(numbers())
    assert next(stream) == 0
    stream.close()
    assert made in ([0], [0, 1])


def test_an_error_is_raised_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    stream = ahead(broken())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)
