"""What is known about public data sets: how many images their parts have, and where the files come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmdiff2in1.datasets.splits import asked_by_name

_WORDS = dict(training='train', train='train', validation='val', val='val', testing='test', test='test')


@dataclass(frozen=True)
class KnownSet:
    """`counts`: images of `train`, `val`, `test`. `obtain`: how the files get below `{root}`, the data_root."""

    obtain: str = ''
    counts: Mapping[str, int] = field(default_factory=dict)


_SCENES = 'Make them: python tools/dataset_converters/make_scenes.py --out {root}'
_ADE20K = (
    'Unpack ADEChallengeData2016.zip of the MIT scene parsing benchmark so that {root} holds images/ and annotations/ '
    'directly, or correct data_root'
)
_CAMVID = (
    "Put the CamVid copy of SegNet's authors below {root} as images/{{train,val}} and annotations/{{train,val}}, or "
    'correct data_root'
)
_CONTEXT = 'Prepare PASCAL-Context as in the data preparation page of mmsegmentation, or correct data_root'
_CITYSCAPES = 'Prepare Cityscapes as in the data preparation page of mmsegmentation, or correct data_root'
# By the name of the dataset class; its subclasses count as well. Only numbers that the sets' makers give.
KNOWN_SETS = {
    'ScenesDataset': KnownSet(_SCENES),
    'ADE20KDataset': KnownSet(_ADE20K, dict(train=20210, val=2000)),
    'CamVidDataset': KnownSet(_CAMVID, dict(train=367, val=101, test=233)),
    'PascalContextDataset': KnownSet(_CONTEXT, dict(train=4998, val=5105)),
    'PascalContextDataset59': KnownSet(_CONTEXT, dict(train=4998, val=5105)),
    'CityscapesDataset': KnownSet(_CITYSCAPES, dict(train=2975, val=500, test=1525)),
}


def known_set(dataset) -> KnownSet:
    """What is known about a dataset; nothing, for one that is not in the table."""
    names = [kind.__name__ for kind in type(dataset).__mro__]
    return next((KNOWN_SETS[name] for name in names if name in KNOWN_SETS), KnownSet())


def expected_count(dataset, part: str, on_disk: int) -> tuple[int, str] | None:
    """How many images a part is to have and why; None if nobody knows.

    Args:
        dataset: Built, with `data_prefix` and `ann_file`.
        part: `train`, `val` or `test`: the loader, where neither split file nor folder has such a name.
        on_disk: Images in its folder, of which a percentage is taken where the official number is not known.
    """
    counts = known_set(dataset).counts
    folder = str(dataset.data_prefix.get('img_path', ''))
    part = _part_in(folder) or part
    split = Path(getattr(dataset, 'ann_file', '') or '')
    if not split.name:
        return (counts[part], 'the official number') if part in counts else None
    asked = asked_by_name(split.name, counts.get(part, on_disk))
    if asked is not None:
        return asked, 'as the name of the split file says'
    part = _WORDS.get(split.stem)
    return (counts[part], 'the official number') if part in counts else None


def _part_in(path: str) -> str | None:
    """The part that the last telling folder of a path names."""
    words = [_WORDS[word] for word in re.split(r'[\\/_]', path) if word in _WORDS]
    return words[-1] if words else None
