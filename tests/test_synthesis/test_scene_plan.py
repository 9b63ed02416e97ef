"""Plans of new scenes: from noise or around images, under which captions, seeds and sizes."""

import pytest

from mmdiff2in1.captions import RecombinedCaptions
from mmdiff2in1.captions.recombined import split_caption
from mmdiff2in1.synthesis import Source, make_plan
from mmdiff2in1.synthesis.plan import timestep_choices
from mmdiff2in1.synthesis.scene_plan import scene_plan

CAPTIONS = [f'a thing {index} in a room {index}' for index in range(5)]
SOURCES = [Source(f'{index}.png', text, (64, 96) if index else (32, 32)) for index, text in enumerate(CAPTIONS)]
SCENES = RecombinedCaptions(CAPTIONS)
OPTIONS = dict(T_max=1000, multiple=8, num_calls=4, weights_hash='w', grid='even', solver='ddim', guidance_scale=1.0)


def plan(scenes=SCENES, sources=SOURCES, **options):
    return scene_plan(scenes, sources, **OPTIONS | dict(T='noise') | options)


def test_from_noise_there_is_one_sample_per_caption():
    recipes = plan(num_samples=20)
    assert [recipe.caption for recipe in recipes] == SCENES.captions(20)
    assert len({recipe.caption for recipe in recipes}) == 20 and not {r.caption for r in recipes} & set(CAPTIONS)
    assert {(recipe.source, recipe.T, recipe.seed, recipe.size) for recipe in recipes} == {(None, 1000, 0, (64, 96))}
    assert len({recipe.noise_seed for recipe in recipes}) == len({recipe.sample_id for recipe in recipes}) == 20
    assert plan(num_samples=20, T=1000) == plan(num_samples=20, T=[1000]) == recipes


def test_a_caption_that_comes_again_has_the_next_seed():
    recipes = plan(num_samples=45, seed=7)
    assert [recipe.seed for recipe in recipes] == [7] * 20 + [8] * 20 + [9] * 5
    assert recipes[40].caption == recipes[20].caption == recipes[0].caption
    assert len({recipe.sample_id for recipe in recipes}) == len({recipe.noise_seed for recipe in recipes}) == 45


@pytest.mark.parametrize('T', ['noise', [400, 800]])
def test_a_smaller_plan_is_the_beginning_of_a_larger_one(T):
    whole = plan(num_samples=33, T=T)
    assert all(plan(num_samples=count, T=T) == whole[:count] for count in (1, 5, 20, 32))


def test_sizes_from_noise():
    assert {recipe.size for recipe in plan(num_samples=3, size=32)} == {(32, 48)}
    assert {recipe.size for recipe in plan(num_samples=3, size=[40, 50], sources=[])} == {(40, 48)}
    with pytest.raises(ValueError, match=r'size is None and there are no images to take it from'):
        plan(num_samples=3, sources=[])


def test_around_images_only_the_captions_are_others():
    options = dict(num_samples=13, T=[400, 600, 1000], seed=2)
    theirs = make_plan(SOURCES, multiple=8, num_calls=4, weights_hash='w', **options)
    mine = plan(**options)
    for own, new in zip(theirs, mine, strict=True):
        assert (new.source, new.seed, new.T, new.size) == (own.source, own.seed, own.T, own.size)
        assert split_caption(new.caption).place == split_caption(own.caption).place
        assert new.caption not in CAPTIONS
    assert {recipe.T for recipe in mine} == {400, 600, 1000}
    assert len(plan(samples_per_image=2, T=600)) == 10


@pytest.mark.parametrize('options', [dict(), dict(samples_per_image=2), dict(num_samples=0)])
def test_from_noise_a_number_is_needed(options):
    with pytest.raises(ValueError, match=r'from noise \(T = T_max\) belong to no image; expected num_samples of 1'):
        plan(**options)


def test_from_noise_no_image_is_hard():
    weights = {str(source.image): 1.0 for source in SOURCES}
    with pytest.raises(ValueError, match=r'resample says from which images .* from noise \(T = T_max\) belong to no'):
        plan(num_samples=3, weights=weights)
    assert len(plan(num_samples=3, weights=weights, T=600)) == 3


def test_noise_is_the_last_timestep():
    assert timestep_choices('noise', 1000) == [1000]
    with pytest.raises(ValueError, match="T is 'noise', expected"):
        timestep_choices('noise')
    with pytest.raises(ValueError, match="T is 'noisy', expected"):
        timestep_choices('noisy', 1000)
