import pytest
from hypothesis import given
from hypothesis import strategies as st

from iqazoo.errors import InputError
from iqazoo.train.order import batches


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 30), st.integers(0, 9), st.integers(0, 9))
def test_processes_share_each_batch_of_one(processes, each, extra, seed, epoch):
    size = processes * each
    count = size + extra
    alone = batches(count, size, seed=seed, epoch=epoch)
    shared = [batches(count, size, seed=seed, epoch=epoch, rank=rank, processes=processes) for rank in range(processes)]
    assert len(alone) == count // size
    for number, batch in enumerate(alone):
        assert sorted(batch) == sorted(i for rank in shared for i in rank[number])
        assert {len(rank[number]) for rank in shared} == {each}
    seen = [i for batch in alone for i in batch]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(count))


def test_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        return batches(100, 10, seed=seed, epoch=epoch)

    assert order(0, 1) == order(0, 1)
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_too_few_samples():
    with pytest.raises(InputError, match="12 samples, fewer than one batch of 50; take a --batch-size of 12"):
        batches(12, 50, seed=0, epoch=0)


def test_a_batch_that_cannot_be_shared():
    with pytest.raises(InputError, match="batch of 50 cannot be shared by 4"):
        batches(100, 50, seed=0, epoch=0, processes=4)
