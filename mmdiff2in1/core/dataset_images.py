"""The images of a built data set, whatever wraps it, and their names. Knows no data set, only what mmengine's offer."""

import os
from pathlib import Path


def list_images(dataset) -> tuple[str | None, list[str]]:
    """The data root and the image paths of a built data set, each image once, in the order of the data set.

    Of concatenated and repeated data sets the inner ones are read, each image once however often it is repeated; with
    several data roots it is the folder that holds them all.

    Raises ValueError for an empty data set.
    """
    leaves = dataset_leaves(dataset)
    paths = list(dict.fromkeys(leaf.get_data_info(index)['img_path'] for leaf in leaves for index in range(len(leaf))))
    if not paths:
        raise ValueError(f'{type(dataset).__name__} of the config holds no images; check data_root and data_prefix')
    roots = {leaf.data_root for leaf in leaves}
    if len(roots) == 1:
        return roots.pop() or None, paths
    return os.path.commonpath([os.path.abspath(root or '.') for root in roots]), paths


def source_name(img_path: str, data_root: str | None) -> str:
    """The name of a source image in recipes and records: relative to the data root, with forward slashes.

    An image outside the data root keeps its full path.
    """
    if not data_root:
        return Path(img_path).as_posix()
    relative = Path(os.path.relpath(img_path, data_root))
    return Path(os.path.abspath(img_path)).as_posix() if relative.parts[0] == os.pardir else relative.as_posix()


def dataset_leaves(dataset) -> list:
    """The data sets inside concatenation and repetition."""
    if hasattr(dataset, 'datasets'):
        return [leaf for inner in dataset.datasets for leaf in dataset_leaves(inner)]
    if hasattr(dataset, 'dataset'):
        return dataset_leaves(dataset.dataset)
    return [dataset]
