"""Words that a text encoder does not know, and captions that are longer than it reads."""

import logging

import pytest

from mmdiff2in1.generators.caption_flaws import caption_flaws
from mmdiff2in1.generators.tokenizer import caption_tokenizer, clip_tokenizer
from mmdiff2in1.synthesis import checks

WORDS = ['a', 'ball', 'red', 'wall']


def test_words_and_lengths():
    tokenizer = caption_tokenizer(WORDS, 6)  # four words between its ends
    captions = ['a red ball', 'A robot, a dog', 'a robot', 'a red ball a wall', '']
    flaws = caption_flaws([tokenizer], captions)
    assert flaws.unknown == ['dog', 'robot'] and flaws.cut == ['a red ball a wall']
    richer = caption_flaws([tokenizer, caption_tokenizer([*WORDS, 'dog'], 9)], captions)
    assert richer.unknown == ['robot'] and richer.cut == []
    assert caption_flaws([], captions).unknown == []


def test_clip_spells_every_word():
    flaws = caption_flaws([clip_tokenizer('<|endoftext|>', 77)], ['a qwrtz ü', 'word ' * 75, 'word ' * 76])
    assert flaws.unknown == [] and flaws.cut == ['word ' * 76]


def test_they_are_said_once(tiny_diffusion, monkeypatch):
    said = []
    monkeypatch.setattr(checks, 'print_log', lambda text, logger, level: said.append((level, text)))
    monkeypatch.setattr(checks, '_told', set())
    for _ in range(2):
        checks.warn_of_captions(tiny_diffusion, ['a red robot', 'a red robot', 'a ball', 'a ' * 7])
    assert said == [
        (logging.WARNING, '1 words of the captions are unknown to the text encoder: robot'),
        (logging.WARNING, f'1 of 3 captions are too long and are cut, e.g. {"a " * 7!r}'),
    ]


@pytest.mark.parametrize('caption', ['a red ball', ''])
def test_nothing_is_said_of_good_captions(tiny_diffusion, caption):
    flaws = tiny_diffusion.caption_flaws([caption])
    assert (flaws.unknown, flaws.cut) == ([], [])
