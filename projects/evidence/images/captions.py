"""Captions of Scenes, taken apart into things and a room, and put together anew."""

from collections.abc import Sequence

import numpy as np

IN, EMPTY = ' in a room with ', 'an empty room with '


def split_caption(caption: str) -> tuple[str, str]:
    """A caption of a scene → its things ('' if it is empty) and its room, without the words between.

    Raises ValueError for a sentence of another form.
    """
    if caption.startswith(EMPTY):
        return '', caption.removeprefix(EMPTY)
    things, found, room = caption.partition(IN)
    if not found:
        raise ValueError(
            f'{caption!r} is no caption of a scene; expected "… in a room with …" or "an empty room with …"'
        )
    return things, room


def join_caption(things: str, room: str) -> str:
    """The inverse of `split_caption`."""
    return f'{things}{IN}{room}' if things else f'{EMPTY}{room}'


def recombined(things_of: str, room_of: str) -> str:
    """The things of one caption of Scenes in the room of another: a scene that may never have been seen.

    >>> recombined('a bed in a room with red walls and a wooden floor', 'an empty room with blue walls and a red floor')
    'a bed in a room with blue walls and a red floor'
    """
    return join_caption(split_caption(things_of)[0], split_caption(room_of)[1])


def unseen_captions(captions: Sequence[str], seen: Sequence[str]) -> list[int]:
    """Positions of the captions that are not among those `seen` in training; of equal ones the first."""
    first = {caption: i for i, caption in reversed(list(enumerate(captions)))}
    return sorted(i for caption, i in first.items() if caption not in set(seen))


def recombined_captions(
    captions: Sequence[str], seen: Sequence[str], count: int, rng: np.random.Generator
) -> list[str]:
    """The things of one caption in the room of another: `count` different sentences, none given and none seen."""
    known, found = {*captions, *seen}, dict[str, None]()
    # Bounded: of a handful of captions there may be no new pairs.
    for _ in range(100 * count):
        things, room = (captions[int(rng.integers(len(captions)))] for _ in range(2))
        caption = recombined(things, room)
        if not caption.startswith(EMPTY) and caption not in known and len(found) < count:
            found[caption] = None
    return list(found)
