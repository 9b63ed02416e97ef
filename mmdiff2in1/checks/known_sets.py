"""Known facts about public data sets: how many images their parts have, and where the files come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mmdiff2in1.datasets.splits import asked_by_name

_WORDS = dict(training='train', train='train', validation='val', val='val', testing='test', test='test')


@dataclass(frozen=True)
class KnownSet:
    """`counts`: images of `train`, `val`, `test`. `lists`: images in a published split file, by the name of the file.
    `obtain`: how the files get below `{root}`, the data_root."""

    obtain: str = ''
    counts: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, int] = field(default_factory=dict)


_SCENES = 'Make them: mmdiff2in1 scenes --out {root}'
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
_BAE = (
    'Unpack the NYUv2 normals of Bae et al. (github baegwangbin/surface_normal_uncertainty) so that {root} holds '
    'train/img, train/norm, test/img and test/norm, or correct data_root; another pack has another layout='
)
_IDISC = (
    "Unpack GeoNet's NYUv2 normals (github xjqi/GeoNet; lists in github SysCV/idisc, splits/nyu_normal) so that {root} "
    'holds train/img, train/norm, test/img and test/norm, or correct data_root'
)
_DSINE = (
    "Unpack DSINE's evaluation pack (github baegwangbin/DSINE) so that {root} is its folder nyuv2 or scannet, or "
    'correct data_root'
)
_NYU_MMSEG = (
    'Make it from the official file: python tools/dataset_converters/nyuv2.py nyu_depth_v2_labeled.mat splits.mat '
    '--out {root}; or unpack the nyu data of mmsegmentation there; or correct data_root'
)
_NYU_VPD = (
    'Unpack the synchronised NYUv2 frames and the official test images as github wl-zhao/VPD, depth/README.md says, so '
    'that {root} holds sync and official_splits/test, or correct data_root'
)
_FRAMENET = (
    "Unpack FrameNet's ScanNet frames (github hjwdzh/FrameNet) so that {root} holds scannet-frames, make the lists "
    'with tools/dataset_converters/framenet_splits.py, or correct data_root'
)
_NYUD_MT = (
    'Unpack NYUDv2.tar.gz of ATRC (github brdav/atrc; github prismformore/Multi-Task-Transformer has a copy) so that '
    '{root} holds images, segmentation, depth, normals, edge and gt_sets, or correct data_root'
)
_PASCAL_MT = (
    'Unpack PASCALContext.tar.gz of ATRC (github brdav/atrc; github prismformore/Multi-Task-Transformer has a copy) so '
    'that {root} holds JPEGImages, ImageSets/Context, semseg, human_parts, sal_distill, normals_distill and '
    'pascal-context, or correct data_root'
)
# By the name of the dataset class, its subclasses count as well, or by name/layout. Only numbers that the sets' makers
# give. What is disputed (Bae's ScanNet test) or differs between packs (depth, train) is left out.
KNOWN_SETS = {
    'ScenesDataset': KnownSet(_SCENES),
    'ADE20KDataset': KnownSet(_ADE20K, dict(train=20210, val=2000)),
    'CamVidDataset': KnownSet(_CAMVID, dict(train=367, val=101, test=233)),
    'PascalContextDataset': KnownSet(_CONTEXT, dict(train=4998, val=5105)),
    'PascalContextDataset59': KnownSet(_CONTEXT, dict(train=4998, val=5105)),
    'CityscapesDataset': KnownSet(_CITYSCAPES, dict(train=2975, val=500, test=1525)),
    'NYUv2NormalDataset/bae': KnownSet(_BAE, dict(train=795, test=654), {'nyu_train.txt': 795, 'nyu_test.txt': 654}),
    'NYUv2NormalDataset/idisc': KnownSet(_IDISC, dict(test=654), {'nyu_train.txt': 30912, 'nyu_test.txt': 654}),
    'NYUv2NormalDataset/dsine': KnownSet(_DSINE, dict(train=795, test=654)),
    'NYUv2DepthDataset/mmseg': KnownSet(_NYU_MMSEG, dict(test=654)),
    'NYUv2DepthDataset/vpd': KnownSet(
        _NYU_VPD,
        dict(test=654),
        {'train_list.txt': 24231, 'test_list.txt': 654, 'nyu_train.txt': 24231, 'nyu_test.txt': 654},
    ),
    'NYUDMTDataset': KnownSet(_NYUD_MT, dict(train=795, val=654), {'train.txt': 795, 'val.txt': 654}),
    'PASCALContextMTDataset': KnownSet(_PASCAL_MT, dict(train=4998, val=5105), {'train.txt': 4998, 'val.txt': 5105}),
    'ScanNetNormalDataset/framenet': KnownSet(_FRAMENET),
    'ScanNetNormalDataset/dsine': KnownSet(_DSINE, dict(test=300)),
}


def known_set(dataset) -> KnownSet:
    """Known facts about a dataset; nothing, for one that is not in the table."""
    layout = getattr(dataset, 'layout', '')
    names = [name for kind in type(dataset).__mro__ for name in (f'{kind.__name__}/{layout}', kind.__name__)]
    return next((KNOWN_SETS[name] for name in names if name in KNOWN_SETS), KnownSet())


def expected_count(dataset, part: str, on_disk: int) -> tuple[int, str] | None:
    """How many images a part is to have and why; None if nobody knows.

    Args:
        dataset: Built, with `data_prefix` and `ann_file`.
        part: `train`, `val` or `test`: the loader, where neither data set, split file nor folder has such a name.
        on_disk: Images in its folder, of which a percentage is taken where the official number is not known.
    """
    known = known_set(dataset)
    counts = known.counts
    folder = str(dataset.data_prefix.get('img_path', ''))
    part = getattr(dataset, 'part', None) or _part_in(folder) or part
    split = Path(getattr(dataset, 'ann_file', '') or '')
    if not split.name:
        return (counts[part], 'the official number') if part in counts else None
    if split.name in known.lists:
        return known.lists[split.name], 'the published list of that name'
    asked = asked_by_name(split.name, counts.get(part, on_disk))
    if asked is not None:
        return asked, 'as the name of the split file says'
    part = _WORDS.get(split.stem)
    return (counts[part], 'the official number') if part in counts else None


def _part_in(path: str) -> str | None:
    """The part that the last telling folder of a path names."""
    words = [_WORDS[word] for word in re.split(r'[\\/_]', path) if word in _WORDS]
    return words[-1] if words else None
