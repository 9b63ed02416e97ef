"""Captions of training images taken apart into things and a place, and put together anew: scenes not seen before."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from mmdiff2in1.core.randomness import derived_seed

from .sources import enumerate_names

CONNECTIVES = ('in front of', 'next to', 'inside', 'beside', 'behind', 'under', 'near', 'with', 'in', 'on', 'at')
"""Words between the things of a caption and their place; the first that occurs in a caption parts it."""
LIST = ','
"""Stands for the connective of a caption that is nothing but a list of names."""
EMPTY = 'an empty '

_CONNECTIVE = re.compile(rf'\s({"|".join(CONNECTIVES)})\s', re.IGNORECASE)
_BETWEEN_NAMES = re.compile(r',\s*(?:and\s+)?|\s+and\s+')
_ARTICLE = re.compile(r'an?\s+', re.IGNORECASE)


@dataclass(frozen=True)
class CaptionParts:
    """`things`, '' for an empty place, the word between, and the `place`; of a list its two halves."""

    things: str
    connective: str
    place: str

    def __str__(self) -> str:
        if self.connective == LIST:
            return enumerate_names(list(dict.fromkeys([*split_names(self.things), *split_names(self.place)])))
        if not self.things:
            return EMPTY + _ARTICLE.sub('', self.place, count=1)
        return f'{self.things} {self.connective} {self.place}'


def split_names(text: str) -> list[str]:
    """'a bed, two balls and a bin' → its three phrases; '' has none."""
    return [phrase for phrase in _BETWEEN_NAMES.split(text.strip()) if phrase]


def split_caption(caption: str) -> CaptionParts | None:
    """A caption in its parts, whose text is the caption again; None if it is one phrase alone.

    >>> split_caption('a red bed and a bin in a room with white walls')
    CaptionParts(things='a red bed and a bin', connective='in', place='a room with white walls')
    >>> split_caption('an empty office with white walls')
    CaptionParts(things='', connective='in', place='an office with white walls')
    >>> split_caption('a photo of wall, floor and table')
    CaptionParts(things='a photo of wall and floor', connective=',', place='table')
    """
    if caption.startswith(EMPTY):
        place = caption.removeprefix(EMPTY)
        return CaptionParts('', 'in', f'{"an" if place[:1] in "aeiou" else "a"} {place}')
    found = _CONNECTIVE.search(caption)
    if found:
        return CaptionParts(caption[: found.start()], found[1], caption[found.end() :])
    names = split_names(caption)
    half = (len(names) + 1) // 2
    if len(names) < 2:
        return None
    return CaptionParts(enumerate_names(names[:half]), LIST, enumerate_names(names[half:]))


def recombined(things_of: str, place_of: str) -> str:
    """The things of one caption in the place of another.

    >>> recombined('a bed in a room with red walls and a wooden floor', 'an empty room with blue walls and a red floor')
    'a bed in a room with blue walls and a red floor'

    Raises ValueError for a caption that has no parts.
    """
    things, place = split_caption(things_of), split_caption(place_of)
    for caption, parts in ((things_of, things), (place_of, place)):
        if parts is None:
            raise ValueError(
                f'{caption!r} has no parts; expected a list, or "things … place" with one of {CONNECTIVES}'
            )
    return str(CaptionParts(things.things, place.connective, place.place))


class RecombinedCaptions:
    """New captions: the things of one of `captions` in the place of another that has the same connective.

    In every round each place and the things of each caption come once, with another shift between the two, so all are
    used equally often; places left without a thing, the captions themselves and those to `avoid` are left out. What
    comes depends on the captions and the seed, not on their order.

    Raises ValueError if there is no new caption.
    """

    def __init__(self, captions: Sequence[str], seed: int = 0, avoid: Collection[str] = ()) -> None:
        self._known = {*captions, *avoid}
        texts = sorted(set(captions), key=lambda text: derived_seed(seed, 'recombined', text))
        parts = [(text, split_caption(text)) for text in texts]
        self._parts = [each for _, each in parts if each is not None]
        self._index = {text: i for i, text in enumerate(text for text, each in parts if each is not None)}
        shifts = range(1, len(self._parts))
        self._shifts = sorted(shifts, key=lambda shift: derived_seed(seed, 'recombined', 'shift', shift))
        if next(self._all(), None) is None:
            raise ValueError(
                f'no new caption can be made of {len(texts)} different ones, e.g. {texts[0] if texts else "none"!r}; '
                'expected at least two with things and a place, such as "a bed and a bin in a room with blue walls". '
                "Use scenes=dict(type='classes') or dict(type='file', path=…)"
            )

    def captions(self, count: int) -> list[str]:
        """The first `count`: all different as long as there are new ones, then from the first again."""
        return list(islice(_endless(self._all), count))

    def around(self, own: Sequence[str]) -> list[str]:
        """For each caption in turn, the things of another one in its place; where that gives nothing new, any other."""
        others, turns = _endless(self._all), {}
        for caption in set(own) & self._index.keys():
            turns[caption] = _endless(partial(self._at, self._index[caption]))
        return [next(turns.get(caption, others), None) or next(others) for caption in own]

    def _all(self) -> Iterator[str]:
        """Every new caption once."""
        found = set(self._known)
        for shift in self._shifts:
            for place in range(len(self._parts)):
                caption = self._joined(place, shift)
                if caption is not None and caption not in found:
                    found.add(caption)
                    yield caption

    def _at(self, place: int) -> Iterator[str]:
        """Every new caption of a place."""
        joined = (self._joined(place, shift) for shift in self._shifts)
        return (caption for caption in joined if caption is not None and caption not in self._known)

    def _joined(self, place: int, shift: int) -> str | None:
        here, other = self._parts[place], self._parts[(place + shift) % len(self._parts)]
        if other.connective != here.connective or not other.things:
            return None
        return str(CaptionParts(other.things, here.connective, here.place))


def _endless(captions: Callable[[], Iterator[str]]) -> Iterator[str]:
    """From the first again when they are used up; ends where there is none."""
    while (first := next(turn := captions(), None)) is not None:
        yield first
        yield from turn
