"""Images with label maps of any tasks: paired by folder and name, or by the columns of a list file."""

import os.path as osp
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from mmengine import fileio
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from mmdiff2in1.core.folders import is_hidden
from mmdiff2in1.core.list_files import ListLine, list_lines
from mmdiff2in1.tasks import SurfaceNormal

from .folder_listing import FolderListing
from .label_formats import FORMATS_KEY
from .list_forms import Reading, readings

MASK = 'valid_mask_path'


@DATASETS.register_module()
class DenseMapDataset(BaseSegDataset):
    """Pairs of an image and its label maps, one for each `*_map_path` of `data_prefix`.

    Which pairs: all images below `img_path`, or those that `ann_file` lists, in either of two forms, a line each:

    - a name: the path below `img_path` without `img_suffix`, as tools/dataset_converters/make_splits.py writes it;
    - paths with a suffix, in as many columns as published lists have (further ones are not read), or that of the image.

    `list_forms.py` tells what else a line may be. Empty lines and comments (`# …`) are passed over.

    The map of an image is what the column of that key names, else the file of the same name below the map's folder,
    with the other prefix and suffix: `a/rgb_7.jpg` and `a/sync_depth_7.png`.

    A sample holds `img_path`, each map's path under its key, `seg_fields`, and as far as they are known
    `valid_mask_path`, `label_axes`, `valid_box` and `category_id`; with class maps (`seg_map_path`) what mmseg's loader
    reads besides.

    Args:
        data_prefix: Folders below `data_root`: `img_path`, and the `path_key` of each task that the set has labels of:
            `seg_map_path`, `depth_map_path`, `normal_map_path`, …
        name_prefixes: What the file names of images, and of maps, begin with.
        columns: What the columns of a list are, keys of `data_prefix`; None: not read.
        map_suffixes: By key of `data_prefix` what the names of maps end with, where that is not `seg_map_suffix`.
        label_formats: By key the format of files that are not maps as their task stores them, see `label_formats.py`.
        maps_may_lack: An image without the file of a map says nothing of that task; else that is an error. If no image
            has one it always is.
        mask_suffix: In the place of `seg_map_suffix`, gives the file beside a map that is 0 where the map is not known;
            None: the map itself says so.
        list_root: Folder below `data_root` that the listed paths begin at, with a leading slash or without; if they are
            not there, they are looked for below `img_path`, and as they stand.
        label_axes: Which signed axis of the files each axis of our normals is (x left, y up, z towards the viewer),
            e.g. ('-x', '-y', '-z'); None: they are ours.
        valid_box: Top, bottom, left and right as fractions of height and width; outside, there is never ground truth,
            and a synthetic image gets no pseudo label.
        **kwargs: See `BaseSegDataset`.

    Raises:
        FileNotFoundError: No such folder, no images, or files that are not there (how many, and the first with its line
            of the list).
        ValueError: A line with too few columns, impossible `label_axes` or `valid_box`.
    """

    METAINFO: dict = dict(classes=(), palette=[])
    check_files = True
    """True: files that are not there are an error at once; a report of all that is wrong switches it off."""

    def __init__(
        self,
        data_prefix: dict[str, str],
        img_suffix: str = '.png',
        seg_map_suffix: str = '.png',
        name_prefixes: tuple[str, str] = ('', ''),
        columns: Sequence[str | None] = ('img_path',),
        map_suffixes: Mapping[str, str] | None = None,
        label_formats: Mapping[str, str] | None = None,
        maps_may_lack: bool = False,
        mask_suffix: str | None = None,
        list_root: str = '',
        label_axes: Sequence[str] | None = None,
        valid_box: Sequence[float] | None = None,
        **kwargs,
    ) -> None:
        self.name_prefixes, self.columns = tuple(name_prefixes), tuple(columns)
        self.map_suffixes, self.label_formats = dict(map_suffixes or {}), dict(label_formats or {})
        self.maps_may_lack, self.lacking = maps_may_lack, dict[str, int]()
        self.lines: dict[str, list[ListLine]] = {}  # by image
        self.mask_suffix = mask_suffix
        self.list_root = osp.join(kwargs.get('data_root') or '', list_root)
        if label_axes is not None:
            SurfaceNormal().reorient(np.zeros((1, 1, 3)), label_axes)
        self.label_axes = None if label_axes is None else tuple(label_axes)
        self.valid_box = None if valid_box is None else tuple(valid_box)
        if self.valid_box and not (0 <= valid_box[0] < valid_box[1] <= 1 and 0 <= valid_box[2] < valid_box[3] <= 1):
            raise ValueError(f'valid_box={self.valid_box}: expected 0 ≤ top < bottom ≤ 1 and 0 ≤ left < right ≤ 1')
        super().__init__(data_prefix=data_prefix, img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    @property
    def map_keys(self) -> list[str]:
        """Keys of the label maps that a sample has."""
        return [key for key, folder in self.data_prefix.items() if key.endswith('_map_path') and folder is not None]

    def map_suffix(self, key: str) -> str:
        """Ending of the names of the maps under a key of `data_prefix`."""
        return self.map_suffixes.get(key, self.seg_map_suffix)

    def map_name(self, image_name: str, key: str = '') -> str:
        """Relative name of an image's map, from the image's own."""
        folder, file = osp.split(image_name)
        stem = file.removesuffix(self.img_suffix).removeprefix(self.name_prefixes[0])
        return osp.join(folder, self.name_prefixes[1] + stem + self.map_suffix(key))

    def category_of(self, img_path: str) -> int | None:
        """Class of the whole picture; None: this set has none."""
        return None

    def load_data_list(self) -> list[dict]:
        """The pairs: those of a list in its order, those of a folder in order of their names."""
        there = FolderListing(self.backend_args)
        pairs = self._listed(there) if self.ann_file else list(self._found())
        if not pairs:
            where = self.ann_file or self.data_prefix['img_path']
            kind = self.name_prefixes[0] + '*' + self.img_suffix
            raise FileNotFoundError(f'{where}: found no images, expected {kind}; check data_root, part and layout')
        pairs = [self._completed(pair, there) for pair in pairs]
        if self.maps_may_lack:
            pairs = self._without_lacking(pairs, there)
        if self.check_files:
            self._check_files(pairs, there)
        return [pair | self._facts(pair['img_path']) for pair in pairs]

    def _found(self) -> Iterable[dict[str, str]]:
        folder = self.data_prefix['img_path']
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise FileNotFoundError(
                f'{folder}: found no such folder, expected images; check data_root, part and layout'
            )
        names = fileio.list_dir_or_file(
            folder, list_dir=False, suffix=self.img_suffix, recursive=True, backend_args=self.backend_args
        )
        for name in sorted(names):
            if osp.basename(name).startswith(self.name_prefixes[0]) and not is_hidden(name):
                yield self._pair(name)

    def _listed(self, there: FolderListing) -> list[dict[str, str]]:
        self.lines = {}
        pairs = []
        for line in list_lines(self.ann_file, self.backend_args):
            pair = self._of_line(line, there) if line.text else None
            if pair is not None:
                self.lines.setdefault(pair['img_path'], []).append(line)
                pairs.append(pair)
        return pairs

    def _of_line(self, line: ListLine, there: FolderListing) -> dict[str, str] | None:
        """The pair that a line means, by which files are there; None: it is a comment."""
        ways = list(readings(line.text))
        for way in ways:
            image = next((path for path in self._images(way) if path in there), None)
            if image is not None:
                return self._pair_of(line, way, image, there)
        if line.is_comment:
            return None
        return self._pair_of(line, ways[0], next(iter(self._images(ways[0])), ''), there)

    def _images(self, way: Reading) -> list[str]:
        """Where the image of a line may be."""
        if not way.has_suffix:
            return [
                osp.join(root, way.fields[0] + self.img_suffix)
                for root in (self.data_prefix['img_path'], self.list_root)
            ]
        column = self.columns.index('img_path')
        return self._places(way.fields[column], 'img_path') if column < len(way.fields) else []

    def _places(self, path: str, key: str) -> list[str]:
        """Where a listed path of a key may be; the first one is the usual."""
        places = [osp.join(root, path.lstrip('/')) for root in (self.list_root, self.data_prefix[key])]
        return [*places, path] if path.startswith('/') else places

    def _pair_of(self, line: ListLine, way: Reading, image: str, there: FolderListing) -> dict[str, str]:
        columns = len(way.fields)
        if way.has_suffix and columns < len(self.columns) and not (columns == 1 and image in there):
            expected = ', '.join(name or '(not read)' for name in self.columns)
            raise ValueError(
                f'{line}: found {columns} columns, expected {len(self.columns)} ({expected})'
                f', in {line.text!r}; check layout or columns'
            )
        pair = self._pair(osp.relpath(image, self.data_prefix['img_path']))
        for key, field in zip(self.columns, way.fields, strict=False) if way.has_suffix else ():
            if key in self.map_keys:
                places = self._places(field, key)
                pair[key] = next((path for path in places if path in there), places[0])
        return pair | {'img_path': image}

    def _pair(self, name: str) -> dict[str, str]:
        """Paths of an image, by its name below `img_path`, and of its maps."""
        maps = {key: osp.join(self.data_prefix[key], self.map_name(name, key)) for key in self.map_keys}
        return {'img_path': osp.join(self.data_prefix['img_path'], name), **maps}

    def _completed(self, pair: dict, there: FolderListing) -> dict:
        """With the files that belong to a pair beside its maps."""
        if self.mask_suffix is None:
            return pair
        return pair | {MASK: pair[self.map_keys[0]].removesuffix(self.seg_map_suffix) + self.mask_suffix}

    def _without_lacking(self, pairs: Sequence[dict], there: FolderListing) -> list[dict]:
        """With None in the place of label files that are not there; counts them in `lacking`."""
        pairs = [pair | {key: pair[key] if pair[key] in there else None for key in self.map_keys} for pair in pairs]
        for key in self.map_keys:
            self.lacking[key] = sum(pair[key] is None for pair in pairs)
            if self.lacking[key] == len(pairs):
                raise FileNotFoundError(
                    f'{self.data_prefix[key]}: found no {key} of any of the {len(pairs)} images, expected files that '
                    f'end in {self.map_suffix(key)}; unpack the set again, or leave that task out'
                )
        told = ', '.join(f'{number} have no {key}' for key, number in self.lacking.items() if number)
        if told:
            print_log(f'{type(self).__name__}: of {len(pairs)} images {told}; they say nothing of it', 'current')
        return pairs

    def _check_files(self, pairs: Sequence[dict], there: FolderListing) -> None:
        for key in pairs[0]:
            missing = [pair for pair in pairs if pair[key] is not None and pair[key] not in there]
            if missing:
                cure = ', or set mask_suffix=None if the maps themselves say what is unknown' if key == MASK else ''
                line = next(iter(self.lines.get(missing[0]['img_path'], ())), None)
                listed = '' if line is None else f' (here {line.text!r} of {line})'
                raise FileNotFoundError(
                    f'{missing[0][key]}: found no such file, expected the {key} of a sample; {len(missing)} of '
                    f'{len(pairs)} are not there{listed}. Unpack the set again, or correct layout, suffixes or the '
                    f'list file{cure}'
                )

    def _facts(self, img_path: str) -> dict:
        # What mmseg's loader of class maps asks for.
        classes = dict(reduce_zero_label=self.reduce_zero_label, label_map=self.label_map)
        facts = dict(
            **(classes if 'seg_map_path' in self.map_keys else {}),
            label_axes=self.label_axes,
            valid_box=self.valid_box,
            category_id=self.category_of(img_path),
            seg_fields=[],
        )
        formats = {key: name for key, name in self.label_formats.items() if key in self.map_keys}
        if formats:
            facts[FORMATS_KEY] = formats
        return {key: value for key, value in facts.items() if value is not None}
