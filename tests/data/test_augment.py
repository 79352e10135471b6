"""Mirroring is a pure function, and fair."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from iqazoo.data.augment import AXES, flipped_axes

numbers = st.integers(0, 2**32)


@given(seed=numbers, epoch=numbers, index=numbers)
def test_the_same_every_time(seed, epoch, index):
    assert flipped_axes(seed, epoch, index) == flipped_axes(seed, epoch, index)


def test_values_that_must_never_change():
    """A run that is resumed with another version must see what it would have seen."""
    assert [AXES.index(flipped_axes(1, 2, i)) for i in range(8)] == [2, 2, 3, 3, 1, 0, 0, 3]


def test_all_ways_come_equally_often_along_each_argument():
    for where in range(3):
        arguments = [[7, 11, 13] for _ in range(4000)]
        for i, each in enumerate(arguments):
            each[where] = i
        counts = Counter(flipped_axes(*each) for each in arguments)
        assert set(counts) == set(AXES)
        assert all(abs(count - 1000) < 120 for count in counts.values())  # more than 4 standard deviations
