"""Writes the caption of a scene from its graph: what is visible, how many, which colours, what kind of room."""

import numpy as np

from .graph import Layout
from .vocabulary import COUNTS, PLURALS, UNCOLOURED


def caption(layout: Layout, visible: np.ndarray, min_pixels: float, max_groups: int = 5) -> str:
    """Caption of a scene, in the words of `VOCABULARY`.

    Args:
        layout: The scene.
        visible: (number of things,) pixels of each thing in the label map.
        min_pixels: A thing with fewer pixels is not mentioned.
        max_groups: At most so many classes are mentioned, those that cover most pixels first.

    Returns:
        E.g. `a green table , two balls and a window in a room with striped blue walls and a wooden floor`, without
        the space before the comma.
    """
    groups: dict[str, list[int]] = {}
    for number, thing in enumerate(layout.things):
        if thing.category not in ('floor', 'ceiling', 'wall') and visible[number] >= min_pixels:
            groups.setdefault(thing.category, []).append(number)
    ranked = sorted(groups, key=lambda name: -sum(visible[i] for i in groups[name]))[:max_groups]
    phrases = [_phrase(layout, name, groups[name]) for name in ranked]

    pattern, colour = layout.wall
    walls = f'{colour} walls' if pattern == 'plain' else f'{pattern} {colour} walls'
    pattern, colour = layout.floor
    floor = {'plain': f'a {colour} floor', 'wooden': 'a wooden floor'}.get(pattern, f'a {pattern} {colour} floor')
    room = f'room with {walls} and {_article(floor)}'
    if not phrases:
        return f'an empty {room}'
    listed = phrases[0] if len(phrases) == 1 else f'{", ".join(phrases[:-1])} and {phrases[-1]}'
    return f'{listed} in a {room}'


def _phrase(layout: Layout, category: str, members: list[int]) -> str:
    colours = {layout.things[i].colour for i in members}
    colour = '' if category in UNCOLOURED or len(colours) > 1 else f'{colours.pop()} '
    if len(members) == 1:
        return _article(f'a {colour}{category}')
    return f'{COUNTS[min(len(members), len(COUNTS) - 1)]} {colour}{PLURALS[category]}'


def _article(phrase: str) -> str:
    return f'an {phrase[2:]}' if phrase.startswith('a ') and phrase[2] in 'aeiou' else phrase
