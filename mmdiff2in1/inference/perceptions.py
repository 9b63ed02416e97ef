"""The results of a call, in the order of the images: a list that writes its files."""

from collections import Counter
from pathlib import Path

from .perception import Perception


class Perceptions(list[Perception]):
    """A list of :class:`Perception`; `save` writes one file for each."""

    def save(self, place: str | Path, kind: str = 'map', task: str | None = None) -> list[Path]:
        """Writes PNG files, and returns their paths.

            model('room.png').save('map.png')
            model('rooms/').save('maps/', kind='picture')

        Args:
            place: Of one result the file, if it ends in `.png`. Otherwise a folder: files have the names of the images,
                those of images that are no files are `000000.png` …
            kind: `map` or `picture`, see `Perception.save`.
            task: See `Perception.save`.

        Raises:
            ValueError: A file for several results, two images of one name, and what `Perception.save` raises.
            OSError: A file cannot be written.
        """
        place = Path(place).expanduser()
        if place.suffix.lower() == '.png':
            if len(self) != 1:
                raise ValueError(f'{place} is one file, and there are {len(self)} results; name a folder')
            return [self[0].save(place, kind, task)]
        names = [f'{i:06d}' if seen.path is None else Path(seen.path).stem for i, seen in enumerate(self)]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(
                f'{place}: two images are called {twice[0]}, and one would replace the other; save them one by one'
            )
        return [seen.save(place / f'{name}.png', kind, task) for name, seen in zip(names, self, strict=True)]
