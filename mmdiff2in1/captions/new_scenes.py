"""Where the captions of new scenes come from: `stages.synthesis.scenes=dict(type=…)`."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

from mmdiff2in1.core.dataset_images import list_images

from .classes import WrittenCaptions, names_in, told_names
from .listed import ListedCaptions
from .recombined import RecombinedCaptions
from .sources import ClassCaptions

MOST_MAPS = 1000
"""Label maps that are counted, evenly spread over the set."""


class SceneCaptions(Protocol):
    """Captions of scenes to create; a smaller number of them is the beginning of a larger one."""

    def captions(self, count: int) -> list[str]:
        """The first `count`, for images from noise."""

    def around(self, own: Sequence[str]) -> list[str]:
        """One for each image that is noised and created anew, whose captions are `own`."""


def scene_captions(settings: Mapping[str, Any], captions: Sequence[str], dataset: Any, seed: int) -> SceneCaptions:
    """The source that `settings` name by their `type`; what else they hold goes to it.

    - `recombined`: the things of one caption in the place of another, see `RecombinedCaptions`.
    - `classes`: written from class names, see `WrittenCaptions`. `names`: them; None: the data set's `classes`, without
      such what the captions tell. `counted_in`: 'labels', where images have label maps of classes, or 'captions'.
    - `file`: `path` of a list, see `ListedCaptions`.

    Args:
        settings: See there.
        captions: Of the labelled images, '' where one has none; they are not made again.
        dataset: The labelled images, built.
        seed: Of the draws.

    Raises:
        ValueError: Unknown or impossible settings, or captions that do not serve.
        FileNotFoundError: No such list.
    """
    options = {name: value for name, value in settings.items() if name != 'type'}
    own = [caption for caption in captions if caption]
    makers: dict[str, Callable[..., SceneCaptions]] = {
        'recombined': partial(RecombinedCaptions, own, seed),
        'classes': partial(_classes, own, dataset, seed),
        'file': ListedCaptions,
    }
    kind = settings.get('type')
    if kind not in makers:
        raise ValueError(f'scenes is {dict(settings)}, expected a type; known: {", ".join(makers)}')
    parameters = dict(recombined=(), classes=CLASS_OPTIONS, file=('path',))[kind]
    unknown = sorted(set(options) - set(parameters))
    if unknown or (kind == 'file' and 'path' not in options):
        found = f'unknown {", ".join(unknown)}' if unknown else 'no path'
        raise ValueError(f'scenes of type {kind!r}: {found}; known: {", ".join(parameters) or "nothing"}')
    return makers[kind](**options)


def needs_captions(settings: Mapping[str, Any] | None) -> bool:
    """True if the labelled images must have captions: without `scenes`, and for what is made of them."""
    return settings is None or settings.get('type') == 'recombined' or settings.get('counted_in') == 'captions'


def _classes(
    captions: Sequence[str],
    dataset: Any,
    seed: int,
    names: Sequence[str] | None = None,
    counted_in: str | None = None,
    **options: Any,
) -> WrittenCaptions:
    names = names or list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ()) or told_names(captions)
    if counted_in not in (None, 'labels', 'captions'):
        raise ValueError(f"counted_in is {counted_in!r}, expected 'labels' or 'captions'")
    if counted_in != 'captions':
        try:
            maps = ClassCaptions(dataset)
        except ValueError:
            if counted_in:
                raise
        else:
            return WrittenCaptions(names, partial(_names_in_maps, maps, dataset), seed, set(captions), **options)
    return WrittenCaptions(names, lambda: names_in(captions, names), seed, set(captions), **options)


CLASS_OPTIONS = (
    *('names', 'counted_in'),
    *list(inspect.signature(WrittenCaptions).parameters)[4:],
)


def _names_in_maps(maps: ClassCaptions, dataset: Any) -> list[Collection[str]]:
    """The classes of each label map, of at most `MOST_MAPS`."""
    paths = list_images(dataset)[1]
    some = paths[:: -(-len(paths) // MOST_MAPS)]
    maps.check(some)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(maps.names, some))
