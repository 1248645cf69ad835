"""Yes or no: cases worked by hand, and scikit-learn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from sketchlm.metrics import PRESENCE, PresenceRow, figures, presence_row


def test_by_hand() -> None:
    assert presence_row(0.5, 1) == PresenceRow(right=1, truth=1, yes=1)
    assert presence_row(0.49, 1) == PresenceRow(right=0, truth=1, yes=0)
    with pytest.raises(ValueError, match="truth is -1"):
        presence_row(0.5, -1)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
def test_scikit_learn_says_the_same(pairs: list[tuple[float, int]]) -> None:
    images = [str(n) for n in range(len(pairs))]
    found = figures([presence_row(*pair) for pair in pairs], PRESENCE, images, 10)
    truth, said = [t for _, t in pairs], [int(yes >= 0.5) for yes, _ in pairs]
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, said))
    assert found["said yes"].value == pytest.approx(sum(said) / len(said))
    if len(set(truth)) == 2:
        assert found["balanced accuracy"].value == pytest.approx(balanced_accuracy_score(truth, said))
