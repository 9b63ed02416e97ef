"""Captions every image of a set once, and goes on where it was killed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mmdiff2in1.core.dataset_images import list_images, source_name
from mmdiff2in1.core.folders import IMAGE_SUFFIXES
from mmdiff2in1.core.photos import photos_below

from .caption_file import CaptionFile
from .lookup import captions_of, image_key
from .sources import CaptionSource


@dataclass(frozen=True)
class ImageSet:
    """`paths` of images, and the folder that their `names` in a caption file are relative to (None: no such folder)."""

    paths: list[str]
    root: str | None

    @classmethod
    def of_dataset(cls, dataset) -> 'ImageSet':
        """The images of a built data set, each once, in its order."""
        root, paths = list_images(dataset)
        return cls(paths, root)

    @classmethod
    def of_folder(cls, folder: str | Path) -> 'ImageSet':
        """All images below `folder`, sorted, without masks beside them, see `photos_below`.

        Raises FileNotFoundError if it is none, or holds none.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such folder of images')
        paths = [(folder / name).as_posix() for name in photos_below(folder)]
        if not paths:
            raise FileNotFoundError(f'{folder}: no images ({", ".join(IMAGE_SUFFIXES)}) in it')
        return cls(paths, folder.as_posix())

    @property
    def names(self) -> list[str]:
        """The name of each image in a caption file, such that `captions_of` finds it by its path."""
        posix = [Path(path).as_posix() for path in self.paths]
        named = [source_name(path, self.root) for path in self.paths]
        # Outside of `root` `source_name` may be absolute where the path is not.
        pairs = zip(posix, named, strict=True)
        return [image_key(name if f'/{path}'.endswith(f'/{name}') else path) for path, name in pairs]

    def first(self, count: int | None) -> 'ImageSet':
        """The first `count` images (None: all)."""
        return ImageSet(self.paths[:count], self.root)


def keys_of(images: ImageSet, captions: Mapping[str, str]) -> list[str | None]:
    """For every image the key of `captions` that stands for it, or None; see `captions_of`.

    Unlike there, a caption that was written for one image never stands for another one deeper down, whose own caption
    is still to come.
    """
    names = images.names
    own = set(names) & set(captions)
    others = {key: key for key in captions if key not in own}
    rest = [Path(path).as_posix() for path, name in zip(images.paths, names, strict=True) if name not in own]
    found = dict(zip(rest, captions_of(rest, others, fallback=''), strict=True)) if others else {}
    return [
        name if name in own else found.get(Path(path).as_posix()) or None
        for path, name in zip(images.paths, names, strict=True)
    ]


def caption_images(
    images: ImageSet,
    source: CaptionSource,
    path: str | Path,
    *,
    fallback: str | None = None,
    batch_size: int = 8,
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> bool:
    """Write a caption for every image that the file at `path` has none for; the others it keeps.

    A batch is on the disk before the next begins, so a kill loses at most one. `fallback` replaces empty captions.
    Process `rank` of `world_size` does its share and waits for nobody; the last one folds the shards together.

    Returns whether all images now have a caption. Raises what `source.check` raises, before the first is written.
    """
    file = CaptionFile(path, rank if world_size > 1 else None)
    file.repair()
    keys = keys_of(images, file.read())
    # Of all images, not of those without a caption: processes that start one after the other see different ones.
    todo = [index for index in range(rank, len(keys), world_size) if keys[index] is None]
    source.check([images.paths[index] for index in todo])
    names = images.names
    with tqdm(total=len(todo), desc='captions', unit='image', disable=not (progress and todo)) as bar:
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            captions = source([images.paths[index] for index in batch])
            lines = [' '.join(caption.split()) or fallback or '' for caption in captions]
            file.append({names[index]: line for index, line in zip(batch, lines, strict=True)})
            bar.update(len(batch))
    complete = None not in keys_of(images, file.read())
    if complete:
        file.merge(names)
    return complete


@dataclass(frozen=True)
class CaptionSummary:
    """Summary of the captions of a set: {image: caption} in order, images without words, captions used often."""

    captions: dict[str, str]
    empty: list[str]
    repeated: list[tuple[str, int]]

    @classmethod
    def of(cls, images: ImageSet, captions: Mapping[str, str]) -> 'CaptionSummary':
        """`repeated` lists what stands for more than two images and a twentieth of them, most often first."""
        keys = keys_of(images, captions)
        told = {name: captions[key].strip() for name, key in zip(images.names, keys, strict=True) if key is not None}
        counts = Counter(caption for caption in told.values() if caption)
        repeated = [(caption, count) for caption, count in counts.most_common() if count > max(2, len(told) / 20)]
        return cls(told, [name for name, caption in told.items() if not caption], repeated)

    def examples(self, count: int = 4) -> Sequence[tuple[str, str]]:
        """A few captions, spread evenly over the set."""
        entries = list(self.captions.items())
        chosen = sorted({round(i * (len(entries) - 1) / max(1, count - 1)) for i in range(count)})
        return [entries[index] for index in chosen if entries]
