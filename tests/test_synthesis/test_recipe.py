"""Recipes: stable names, equal for equal recipes, different for any change."""

import dataclasses

import pytest

from mmdiff2in1.synthesis import SampleRecipe
from mmdiff2in1.synthesis.recipe import stable_hash

KNOWN = dict(
    source='images/train/room 7.png', caption='a red ball', seed=1, T=600, grid='even', num_calls=20, solver='ddim',
    guidance_scale=1.0, size=(64, 96), weights_hash='ab' * 32,
)  # fmt: skip


def test_name_of_a_known_recipe_never_changes():
    assert SampleRecipe(**KNOWN).sample_id == 'room_7-T600-s0001-6db1f3e6'
    assert SampleRecipe(**KNOWN).noise_seed == 8640759503931513723


def test_canonical_text_is_sorted_json():
    assert SampleRecipe(**KNOWN).canonical == (
        '{"T":600,"caption":"a red ball","grid":"even","guidance_scale":1.0,"num_calls":20,"seed":1,'
        '"size":[64,96],"solver":"ddim","source":"images/train/room 7.png","weights_hash":"' + 'ab' * 32 + '"}'
    )


def test_equal_values_of_other_types_give_the_same_name():
    assert SampleRecipe(**KNOWN | dict(guidance_scale=1, size=[64, 96])) == SampleRecipe(**KNOWN)


@pytest.mark.parametrize(
    'change',
    [dict(source='images/val/room 7.png'), dict(caption=''), dict(seed=2), dict(T=599), dict(grid='released'),
     dict(num_calls=10), dict(solver='dpm++'), dict(guidance_scale=2.0), dict(size=(96, 64)), dict(weights_hash='0')],
)  # fmt: skip
def test_every_field_changes_the_name(change):
    assert SampleRecipe(**KNOWN | change).sample_id != SampleRecipe(**KNOWN).sample_id


def test_noise_depends_on_source_and_repeat_only():
    recipe = SampleRecipe(**KNOWN)
    same = dict(caption='x', T=300, num_calls=5, solver='dpm++', guidance_scale=3.0, size=(8, 8), weights_hash='c')
    assert dataclasses.replace(recipe, **same).noise_seed == recipe.noise_seed
    assert dataclasses.replace(recipe, seed=2).noise_seed != recipe.noise_seed
    assert dataclasses.replace(recipe, source='other.png').noise_seed != recipe.noise_seed
    assert 0 <= recipe.noise_seed < 2**63


def test_names_are_safe_for_file_systems():
    awkward = dataclasses.replace(SampleRecipe(**KNOWN), source='a/../ü:*?' + 'x' * 300 + '.png').sample_id
    assert set(awkward) <= set('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-')
    assert len(awkward) < 120
    assert dataclasses.replace(SampleRecipe(**KNOWN), source=None, T=1000).sample_id.startswith('noise-T1000-s0001-')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(T=0), r'room 7\.png: T is 0, expected 1'),
        (dict(T=600.0), 'T is 600.0, expected an integer'),
        (dict(T=True), 'T is True, expected an integer'),
        (dict(num_calls=0), 'num_calls is 0, expected 1 … T = 600'),
        (dict(num_calls=601), 'num_calls is 601, expected 1 … T = 600'),
        (dict(caption=None), 'caption is None, expected text'),
        (dict(seed=-1), 'seed is -1'),
        (dict(size=(64,)), r'size is \[64\], expected \[height, width\]'),
        (dict(size=(0, 64)), r'size is \[0, 64\]'),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SampleRecipe(**KNOWN | change)


def test_stable_hash_is_sha256_of_the_json():
    # printf '["draw", "a", 1]' | sha256sum
    assert stable_hash('draw', 'a', 1) == 0xDC2A853D06C48B9F6D82AA5B3A6A57C6F4B82AFD72ACB8A31208D87E75C03629
