"""mmdiff2in1 distil: what its arguments ask of the recipe."""

import argparse

import pytest

from mmdiff2in1.commands import distil

NEEDED = ['student.py', '--teacher', 'teacher.py', 'teacher.pth', '--generator', 'builtin:scenes']


def settings(*arguments: str) -> dict:
    parser = argparse.ArgumentParser()
    distil.add_arguments(parser)
    return distil.settings(parser.parse_args([*NEEDED, *arguments]))


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ([], {}),
        (['--T', '200', '600'], dict(T=[200, 600])),
        (['--scenes', 'recombined'], dict(scenes=dict(type='recombined'), T='noise', num_calls=20, guidance_scale=3.0)),
        (['--T', 'noise', '--guidance-scale', '1'], dict(T='noise', num_calls=20, guidance_scale=1.0)),
        (['--num-calls', '4'], dict(num_calls=4)),
    ],
)
def test_new_scenes_are_guided_unless_told_otherwise(arguments: list[str], expected: dict) -> None:
    assert settings(*arguments) == dict(diffusion='builtin:scenes', num_samples=500) | expected
