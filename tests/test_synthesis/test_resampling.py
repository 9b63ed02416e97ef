"""Hard and rare layouts more often: shares by hand, counts to within one, plans that are beginnings of longer ones."""

import json
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from mmdiff2in1.synthesis import Source, make_plan
from mmdiff2in1.synthesis.resampling import (
    hard_weights,
    rare_weights,
    read_scores,
    resample_settings,
    weighted_order,
)
from mmdiff2in1.tasks import Depth, SemanticSegmentation

NAMES = [f'images/{index}.png' for index in range(10)]
SOURCES = [Source(name, 'a', (64, 64)) for name in NAMES]


def plan(weights=None, **options):
    return make_plan(SOURCES, weights_hash='w', multiple=8, num_calls=4, weights=weights, **options)


def test_hard_shares_are_those_of_freemask():
    """n = min(1 + round(p / N · 20), 20) for the rank p of 10 masks, the easiest first: 3, 5, 7 … 19, 20."""
    scores = {name: float(10 - index) for index, name in enumerate(NAMES)}  # the first is the hardest
    expected = dict(zip(NAMES[::-1], [3, 5, 7, 9, 11, 13, 15, 17, 19, 20], strict=True))
    assert hard_weights(scores, NAMES) == expected
    assert set(hard_weights(scores, NAMES, most=1).values()) == {1}
    # As many samples as the shares together: exactly the published numbers.
    counts = Counter(recipe.source for recipe in plan(expected, num_samples=sum(expected.values())))
    assert counts == expected


def test_rare_shares_by_hand():
    """Classes 0, 1, 2 are in all, half and one of four sources: factors 1, √2, 2; the rarest of a source counts."""
    maps = {
        'a': np.array([[0, 0]]), 'b': np.array([[0, 1]]), 'c': np.array([[2, 1], [0, 255]]), 'd': np.array([[0, 255]]),
    }  # fmt: skip
    read = SimpleNamespace(task=SemanticSegmentation(4), map=maps.get, check=lambda names: None)
    found = rare_weights(read, list(maps))
    assert found == pytest.approx(dict(a=1, b=2**0.5, c=2, d=1))
    assert rare_weights(read, list(maps), 0.3) == pytest.approx(dict(a=1, b=1, c=(0.3 / 0.25) ** 0.5, d=1))


def test_counts_follow_the_weights_to_within_one_at_every_length():
    weights = dict(zip(NAMES, [1, 1, 2, 0.5, 3, 1.25, 7, 1, 0.1, 4], strict=True))
    order = list(islice(weighted_order(NAMES, weights, seed=0), 500))
    counts: Counter = Counter()
    for length, (name, seed) in enumerate(order, 1):
        assert seed == counts[name]  # the k-th sample of a source has the k-th seed
        counts[name] += 1
        if length in (50, 137, 500):
            # There is a t with t · w - 1 < count < t · w + 1 for all.
            low = max((counts[n] - 1) / weights[n] for n in NAMES)
            high = min((counts[n] + 1) / weights[n] for n in NAMES)
            assert low < high
    total = sum(weights.values())
    for name, weight in weights.items():
        assert abs(counts[name] - 500 * weight / total) < 2


def test_a_smaller_plan_is_the_beginning_of_a_larger_one_and_no_order_matters():
    weights = dict(zip(NAMES, range(1, 11), strict=True))
    whole = plan(weights, num_samples=60, T=[200, 600])
    assert all(plan(weights, num_samples=count, T=[200, 600]) == whole[:count] for count in (1, 9, 30))
    assert len({recipe.sample_id for recipe in whole}) == 60
    shuffled = make_plan(
        SOURCES[::-1], weights_hash='w', multiple=8, num_calls=4, weights=weights, num_samples=60, T=[200, 600]
    )
    assert shuffled == whole
    assert plan(weights, samples_per_image=2) == plan(weights, num_samples=20)
    assert plan(weights, num_samples=20, seed=1) != plan(weights, num_samples=20)


def test_equal_weights_are_the_rounds_of_a_plan_without():
    for options in (dict(num_samples=27), dict(samples_per_image=3, seed=5), dict(num_samples=4, T=[200, 600])):
        assert plan(dict.fromkeys(NAMES, 1), **options) == plan(**options)
        assert plan(dict.fromkeys(NAMES, 2.5), **options) == plan(**options)


def test_scores_are_read_by_name(tmp_path):
    file = tmp_path / 'scores.jsonl'
    lines = [dict(source='a', hardness=0.5, loss=2), dict(source='b', hardness=1, loss=1)]
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    assert read_scores(file, 'hardness') == dict(a=0.5, b=1.0)
    assert hard_weights(read_scores(file, 'loss'), ['a', 'b'], most=2) == dict(b=2, a=2)
    assert hard_weights(read_scores(file, 'loss'), ['a', 'b'], most=4) == dict(b=3, a=4)
    with pytest.raises(ValueError, match=r'scores\.jsonl:1: .* expected JSON with source and area'):
        read_scores(file, 'area')
    with pytest.raises(FileNotFoundError, match='write it with mmdiff2in1 free-mask'):
        read_scores(tmp_path / 'none', 'loss')


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (dict(type='soft'), "resample has type 'soft'; known: hard, rare"),
        (dict(type='rare', by='loss'), 'unknown keys in resample: by; known: task, threshold'),
        (dict(type='hard'), 'lacks scores'),
        ('rare', 'resample has type None'),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ValueError, match=message):
        resample_settings(given)


def test_impossible_weights():
    with pytest.raises(ValueError, match=r'1 of 2 sources have no score \(b\)'):
        hard_weights(dict(a=1.0), ['a', 'b'])
    with pytest.raises(ValueError, match='most is 0'):
        hard_weights(dict(a=1.0), ['a'], most=0)
    with pytest.raises(ValueError, match='source a has the weight 0'):
        next(weighted_order(['a'], dict(a=0), 0))
    with pytest.raises(ValueError, match=r'threshold is 2, expected a share in \(0, 1\]'):
        rare_weights(SimpleNamespace(task=SemanticSegmentation(2)), ['a'], 2)
    with pytest.raises(ValueError, match='depth has none; use type='):
        rare_weights(SimpleNamespace(task=Depth()), ['a'])
