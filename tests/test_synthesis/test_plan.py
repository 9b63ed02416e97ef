"""Plans: which samples are drawn, with which seed, T and size."""

from collections import Counter

import pytest

from mmdiff2in1.synthesis import Source, creation_size, make_plan

SOURCES = [Source(f'images/{index:03d}.png', f'caption {index}', (64, 64)) for index in range(10)]


def plan(sources=SOURCES, **options):
    return make_plan(sources, weights_hash='w', multiple=8, **dict(num_calls=4) | options)


def names(recipes):
    return [(recipe.source, recipe.seed) for recipe in recipes]


def test_samples_per_image_gives_each_source_the_next_seeds():
    recipes = plan(samples_per_image=3, seed=5)
    assert Counter(names(recipes)) == Counter((source.image, seed) for source in SOURCES for seed in (5, 6, 7))
    assert [recipe.seed for recipe in recipes] == [5] * 10 + [6] * 10 + [7] * 10
    assert {recipe.caption for recipe in recipes if recipe.source == 'images/003.png'} == {'caption 3'}
    assert names(plan(num_samples=30, seed=5)) == names(recipes)


def test_fewer_than_the_sources_is_a_draw_without_replacement():
    drawn = plan(num_samples=6)
    assert len({recipe.source for recipe in drawn}) == 6
    assert {recipe.seed for recipe in drawn} == {0}
    assert names(drawn) == names(plan(num_samples=6))
    assert {r.source for r in drawn} != {r.source for r in plan(num_samples=6, seed=1)}


def test_draws_are_not_biased_towards_some_sources():
    drawn = Counter(recipe.source for seed in range(400) for recipe in plan(num_samples=3, seed=seed))
    # 1200 draws over 10 sources: 120 each, standard deviation sqrt(400 · 0.3 · 0.7) = 9.2
    assert all(abs(count - 120) < 5 * 9.2 for count in drawn.values())


def test_more_than_the_sources_goes_on_with_the_next_seed():
    recipes = plan(num_samples=14)
    assert {recipe.source for recipe in recipes[:10]} == {source.image for source in SOURCES}
    assert [recipe.seed for recipe in recipes] == [0] * 10 + [1] * 4
    assert len({recipe.source for recipe in recipes[10:]}) == 4


def test_a_smaller_plan_is_the_beginning_of_a_larger_one():
    whole = plan(num_samples=25)
    assert all(plan(num_samples=count) == whole[:count] for count in (1, 9, 10, 11, 24))


def test_the_order_of_the_sources_does_not_matter():
    assert plan(SOURCES[::-1], num_samples=14) == plan(num_samples=14)


def test_noise_level_is_drawn_per_sample_from_list_and_range():
    drawn = Counter(recipe.T for recipe in plan(samples_per_image=30, T=[200, 400, 600]))
    assert set(drawn) == {200, 400, 600}
    # 300 draws of 1/3: 100 each, standard deviation 8.2
    assert all(abs(count - 100) < 5 * 8.2 for count in drawn.values())
    levels = {recipe.T for recipe in plan(samples_per_image=30, T=dict(low=300, high=302))}
    assert levels == {300, 301, 302} == {recipe.T for recipe in plan(samples_per_image=30, T=range(300, 303))}
    assert plan(samples_per_image=2, T=[200, 600]) == plan(samples_per_image=2, T=[200, 600])


@pytest.mark.parametrize(
    ('native', 'size', 'expected'),
    [
        ((480, 640), None, (480, 640)),
        ((481, 643), None, (480, 640)),
        ((425, 560), None, (424, 560)),
        ((480, 640), 512, (512, 680)),  # 640 · 512 / 480 = 682.67, the nearest multiple of 8 is 680
        ((640, 480), 512, (680, 512)),
        ((480, 640), [64, 100], (64, 104)),  # 100 lies half-way between 96 and 104: up
        ((3, 300), None, (8, 304)),
    ],
)
def test_creation_size(native, size, expected):
    assert creation_size(native, size, multiple=8) == expected


def test_size_reaches_the_recipes():
    assert plan([Source('a.png', 'a', (100, 200))], num_samples=1, size=50)[0].size == (48, 104)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_samples=0), '0 samples are asked for'),
        (dict(samples_per_image=0), '0 samples are asked for'),
        (dict(num_samples=-1), '-1 samples are asked for'),
        (dict(), 'num_samples is None and samples_per_image is None; set exactly one'),
        (dict(num_samples=1, samples_per_image=1), 'set exactly one'),
        (dict(num_samples=1, sources=[]), 'no source images'),
        (dict(num_samples=1, sources=SOURCES[:1] * 2), r'images/000\.png is listed twice'),
        (dict(num_samples=1, T=0), r'T is 0, expected 1 … T_max'),
        (dict(num_samples=1, T=3), 'num_calls is 4, expected 1 … T = 3'),
        (dict(num_samples=1, T=[]), r'T is \[\], expected'),
        (dict(num_samples=1, T='600'), "T is '600', expected"),
        (dict(num_samples=1, T=dict(low=5, high=4)), 'low <= high'),
        (dict(num_samples=1, T=dict(min=5)), r'expected an integer, a list of integers or dict\(low'),
        (dict(num_samples=1, size=[1, 2, 3]), r'size is \[1, 2, 3\]'),
        (dict(num_samples=1, size=0), 'expected positive sides'),
    ],
)
def test_impossible_plans_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan(**options)
