from __future__ import annotations

from itertools import islice

import torch

from fedse.learning.examples import Example
from fedse.learning.packing import batches, pack
from fedse.types import TokenRecord
from helpers.learning_reference import examples, records


def loss_positions(record: TokenRecord) -> tuple[int, ...]:
    return tuple(loss.at for loss in Example(record).losses())


def test_the_loss_is_on_tokens_whose_successor_the_agent_wrote() -> None:
    record = TokenRecord(tuple(range(10, 20)), ((0, 2), (4, 7), (9, 10)), "t")
    assert loss_positions(record) == (0, 3, 4, 5, 8)
    (batch,) = pack([Example(record)], 100)
    assert batch.ids[0, batch.loss_positions].tolist() == [10, 13, 14, 15, 18]
    assert batch.targets.tolist() == [11, 14, 15, 16, 19]


def test_a_row_holds_the_shared_beginning_once_and_positions_go_on_from_it() -> None:
    first, second = records([30, 40], shared=12)
    (batch,) = pack(examples([first, second]), 1000)
    assert batch.layout.prefix == 12
    assert batch.layout.segments == ((12, 29), (29, 56))
    assert batch.layout.longest == 39
    assert batch.ids.tolist() == [[*first.ids[:-1], *second.ids[12:-1]]]
    assert batch.positions.tolist() == [[*range(29), *range(12, 39)]]
    assert batch.tokens == 70


def test_the_shared_beginning_ends_where_loss_begins() -> None:
    twice = records([30], shared=12) * 2
    (batch,) = pack(examples(twice), 1000)
    assert batch.layout.prefix == loss_positions(twice[0])[0]
    assert len(batch.targets) == 2 * len(loss_positions(twice[0]))


def test_every_target_of_every_record_is_kept_when_a_batch_is_split() -> None:
    made = records([30, 40, 50, 35, 45], shared=10)
    split = pack(examples(made), 80)
    assert len(split) > 1
    assert all(batch.ids.shape[1] <= 80 for batch in split)
    expected = [record.ids[index + 1] for record in made for index in loss_positions(record)]
    assert torch.cat([batch.targets for batch in split]).tolist() == expected
    assert sum(batch.tokens for batch in split) == 200


def test_a_trajectory_longer_than_the_limit_has_a_row_of_its_own_and_is_whole() -> None:
    short, long, other = records([20, 200, 20])
    split = pack(examples([short, long, other]), 64)
    assert [batch.ids.shape[1] for batch in split] == [19, 199, 19]
    assert split[1].ids[0].tolist() == list(long.ids[:-1])


def test_what_follows_the_last_agent_token_is_left_out() -> None:
    record = TokenRecord(tuple(range(100)), ((10, 20),), "t")
    (batch,) = pack([Example(record)], 100)
    assert batch.ids.shape == (1, 19)
    assert batch.tokens == 100


def test_records_without_agent_tokens_make_no_row() -> None:
    assert pack(examples([TokenRecord((1, 2, 3), (), "t"), TokenRecord((1, 2, 3), ((0, 1),), "t")]), 100) == []


def test_each_pass_visits_every_index_once_in_another_order() -> None:
    passes = [[], []]
    stream = batches([1] * 10, 4, seed=0)
    for order in passes:
        sizes = []
        for batch in islice(stream, 3):
            sizes.append(len(batch))
            order += batch
        assert sizes == [4, 4, 2]
        assert sorted(order) == list(range(10))
    assert passes[0] != passes[1]
    assert list(islice(batches([1] * 10, 4, seed=0), 6)) == list(islice(batches([1] * 10, 4, seed=0), 6))
    assert next(batches([1] * 10, 10, seed=0)) != next(batches([1] * 10, 10, seed=1))


def test_a_batch_is_full_as_soon_as_its_costs_reach_the_size() -> None:
    costs = [5, 1, 9, 2, 2, 3, 8]
    stream = batches(costs, 8, seed=3)
    seen: list[int] = []
    while len(seen) < len(costs):
        batch = next(stream)
        seen += batch
        assert sum(costs[index] for index in batch[:-1]) < 8
        assert sum(costs[index] for index in batch) >= 8 or len(seen) == len(costs)
    assert sorted(seen) == list(range(len(costs)))
