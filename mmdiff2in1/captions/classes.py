"""Captions written from class names, rare ones more often than they are: 'a photo of a bed, two balls and a bin'."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from math import log

from mmdiff2in1.core.randomness import derived_seed

from .recombined import split_caption, split_names
from .sources import TEMPLATE, enumerate_names

NUMBERS = ('', 'a', 'two', 'three', 'four', 'five', 'six')
SEVERAL = (*NUMBERS[2:], 'some', 'several', 'many')
TRIES = 100
"""Draws for one caption until it is none of those to avoid."""


class WrittenCaptions:
    """Names of classes, drawn without replacement and put into `template`.

    The first name of a caption is class c with probability p_c = w_c / Σ w, w_c = ((1 + n_c) / (1 + n)) ^ -`balance`,
    where n_c of n images have it; the others follow from the same weights among the classes that are left (Efraimidis
    and Spirakis, 2006). The draw of a caption depends on its number, the seed and the names alone.

    Args:
        names: Of the classes.
        occurrences: Gives for each known image the names in it; called when the first caption is wanted.
        seed: Of the draw.
        avoid: Captions that are not to be written.
        template: With a place for `{names}`.
        num_names: Fewest and most names of a caption; each number in between is equally likely.
        max_count: A class is there once, …, or so many times, all equally likely, 6 at most: 'a bed', 'two beds'. None:
            its name alone, as `ClassCaptions` writes it.
        balance: 0: all classes equally likely; 1: the rarer, the likelier.
        plurals: By name, where the rule is wrong.
        without: Names that are never told.

    Raises:
        ValueError: Arguments outside of what is said here, or no names.
    """

    def __init__(
        self,
        names: Sequence[str],
        occurrences: Callable[[], Sequence[Collection[str]]],
        seed: int = 0,
        avoid: Collection[str] = (),
        template: str = TEMPLATE,
        num_names: Sequence[int] = (2, 4),
        max_count: int | None = 1,
        balance: float = 0.5,
        plurals: Mapping[str, str] | None = None,
        without: Collection[str] = (),
    ) -> None:
        if '{names}' not in template:
            raise ValueError(f'the template {template!r} has no place for {{names}}, e.g. {TEMPLATE!r}')
        if len(num_names) != 2 or not 1 <= num_names[0] <= num_names[1]:
            raise ValueError(f'num_names is {list(num_names)}, expected (fewest, most), at least 1')
        if max_count is not None and not 1 <= max_count < len(NUMBERS):
            raise ValueError(f'max_count is {max_count}, expected 1 … {len(NUMBERS) - 1}, or None for bare names')
        if balance < 0:
            raise ValueError(f'balance is {balance}, expected 0 or more')
        for given, what in ((without, 'leave out'), (plurals or {}, 'name the plural of')):
            if unknown := set(given) - set(names):
                raise ValueError(f'{", ".join(sorted(unknown))}: no such class to {what}; known: {", ".join(names)}')
        self.names = [name for name in dict.fromkeys(names) if name not in set(without)]
        if not self.names:
            raise ValueError('there are no class names to write captions with; expected some in names=(…)')
        self._occurrences, self.seed, self._avoid = occurrences, seed, set(avoid)
        self.template, self.num_names, self.max_count = template, num_names, max_count
        self.balance, self.plurals = balance, dict(plurals or {})

    @cached_property
    def weights(self) -> dict[str, float]:
        """w_c by name."""
        occurrences = self._occurrences() if self.balance else []
        images = Counter(name for names in occurrences for name in set(names))
        return {name: ((1 + images[name]) / (1 + len(occurrences))) ** -self.balance for name in self.names}

    def captions(self, count: int) -> list[str]:
        """The first `count`; one that is to be avoided is drawn again, as often as that may help."""
        return [self._new(number) for number in range(count)]

    def around(self, own: Sequence[str]) -> list[str]:
        """As many as there are `own` ones, which do not matter."""
        return self.captions(len(own))

    def drawn(self, *key: int) -> list[str]:
        """The names of one caption, in the order in which they are drawn."""
        fewest, most = self.num_names
        number = fewest + self._word(*key, 'number') % (most - fewest + 1)

        def rank(name: str) -> float:
            return -log((self._word(*key, name) + 1) / 2**63) / self.weights[name]

        return sorted(self.names, key=rank)[:number]

    def _new(self, number: int) -> str:
        written = [self._written(number, 0)]
        while written[-1] in self._avoid and len(written) < TRIES:
            written.append(self._written(number, len(written)))
        return written[-1]

    def _written(self, *key: int) -> str:
        phrases = [self._phrase(name, *key) for name in self.drawn(*key)]
        return self.template.format(names=enumerate_names(phrases))

    def _phrase(self, name: str, *key: int) -> str:
        told = name.replace('_', ' ')
        if self.max_count is None:
            return told
        count = 1 + self._word(*key, name, 'count') % self.max_count
        if count == 1:
            return f'{"an" if told[0].lower() in "aeiou" else "a"} {told}'
        return f'{NUMBERS[count]} {self.plurals.get(name) or plural(told)}'

    def _word(self, *key: object) -> int:
        return derived_seed(self.seed, 'classes', *key)


def plural(noun: str) -> str:
    """By the rule: 'balls', 'boxes', 'shelves', 'cities'."""
    if noun.endswith(('s', 'x', 'z', 'ch', 'sh')):
        return f'{noun}es'
    if noun.endswith('y') and noun[-2:-1] not in 'aeiou':
        return f'{noun[:-1]}ies'
    return f'{noun[:-1]}ves' if noun.endswith('lf') else f'{noun}s'


def singular(noun: str) -> str:
    """The inverse of `plural`, as far as there is one."""
    for end, instead in (('ies', 'y'), ('lves', 'lf'), ('sses', 'ss'), ('xes', 'x'), ('ches', 'ch'), ('shes', 'sh')):
        if noun.endswith(end):
            return noun.removesuffix(end) + instead
    return noun.removesuffix('s')


def names_in(captions: Sequence[str], names: Sequence[str]) -> list[set[str]]:
    """For each caption those of `names` that it says, in the singular or plural, as whole words."""
    words = {name: re.escape(name.replace('_', ' ')) for name in names}
    plurals = {name: re.escape(plural(name.replace('_', ' '))) for name in names}
    searches = {name: re.compile(rf'\b(?:{words[name]}|{plurals[name]})\b', re.IGNORECASE) for name in names}
    return [{name for name, search in searches.items() if search.search(caption)} for caption in captions]


def told_names(captions: Sequence[str]) -> list[str]:
    """Names of the things that captions tell of: the last word of each, in the singular."""
    parts = [split_caption(caption) for caption in captions]
    things = [caption if part is None else part.things for caption, part in zip(captions, parts, strict=True)]
    phrases = [phrase.lower().split() for each in things for phrase in split_names(each)]
    said = {singular(words[-1]) if words[0] in SEVERAL else words[-1] for words in phrases}
    return sorted(word for word in said if not any(plural(other) == word for other in said))
