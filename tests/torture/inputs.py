"""One of the files that a training is given is spoilt: refused before the start by its name, or without harm.

What is promised of each way stands in `spoilt_inputs.WAYS`. What is accepted is trained to the end.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mutations import SECTIONS
from spoilt_inputs import MEANT, REFUSED, SAME, WAYS, name_of
from tiny_configs import tiny_configs

from mmdiff2in1.commands.class_embeddings import closest, names_of
from mmdiff2in1.core.config_file import read_config
from mmdiff2in1.datasets.scenes import CLASSES, PALETTE
from mmdiff2in1.generators import LatentDiffusion
from mmdiff2in1.training.chain import train, train_plain

from .chain import Chain, difference
from .child import run
from .configs import LIMIT, judged, made_by
from .trial import Outcome

LIST, START, NAMES, CONFIG = 'train.txt', 'start.pth', 'classes.txt', 'mine.py'
PARTS = ('train', 'val', 'test')
RESULTS = 'results.json'


def trial(chain: Chain, folder: Path, rng: random.Random) -> Outcome:
    """One file of one use."""
    place = folder / 'given'
    shutil.copytree(given(chain), place)
    done = None
    while done is None:  # a way does not apply to every file
        use, kind, way = rng.choice(DRAWN)
        file = rng.choice(sorted(USES[use].files[kind](place)))
        done = way(file, rng)
    promise = WAYS[kind][way]
    what = f'{use}: {ascii(str(file.relative_to(folder)))[1:-1]} {name_of(way)} {done}'.strip()
    if kind == 'place':
        place = next(each for each in folder.iterdir() if each.is_dir())
    ended = run(lambda: USES[use].work(place, folder / 'run'), folder / 'log', LIMIT)
    wanted = [file.name, str(file), str(file.parent)] if kind != 'place' else [place.name, ascii(place.name)[1:-1]]
    if kind == 'config' and promise == MEANT:  # of what is still a config the entry says more than the file
        wanted += SECTIONS
    came, broken = judged(ended, folder / 'run', wanted)
    came, broken = verdict(promise, came, broken, lambda: difference(straight(chain, use), found_in(folder / 'run')))
    if came == 'refused':
        broken += f': {ended.text[:300]}'
    return Outcome(what, came, broken)


def verdict(promise: str, came: str, broken: str, differs: Callable[[], str]) -> tuple[str, str]:
    """What came of it in the words of the table, and what is not as promised.

    Args:
        promise: See `spoilt_inputs`.
        came: As `judged` says.
        broken: As `judged` says.
        differs: In what the result differs from that of whole files; asked of what was accepted.
    """
    if came == 'refused early' and promise == SAME:
        return 'refused', 'refused, and should be accepted'
    if came != 'accepted':
        return came, broken
    if promise == REFUSED:
        return 'accepted', 'accepted, and should be refused'
    if promise == MEANT:
        return 'accepted, as it may be meant', ''
    difference = differs()
    return ('accepted, wrong result', difference) if difference else ('accepted, same result', '')


class Use:
    """What a file is given for: ``work(given, work_dir)``, and the files of each kind that it reads."""

    def __init__(self, work: Callable[[Path, Path], None], **files: Callable[[Path], list[Path]]):
        self.work = work
        self.files = {kind.replace('_', ' '): found for kind, found in files.items()}


def _chain(place: Path, work_dir: Path) -> None:
    train(_whole(place), work_dir)


def _listed(place: Path, work_dir: Path) -> None:
    cfg = _whole(place)
    cfg.train_dataloader.dataset.dataset.ann_file = f'../{LIST}'
    train(cfg, work_dir)


def _plain(place: Path, work_dir: Path) -> None:
    train_plain(_segformer(place), work_dir)


def _config(place: Path, work_dir: Path) -> None:
    cfg = read_config(place / CONFIG)
    for part in PARTS:  # the file was written for another place
        cfg.merge_from_dict({f'{part}_dataloader.dataset.data_root': str(place / 'scenes')})
    train_plain(cfg, work_dir)


def _class_names(place: Path, work_dir: Path) -> None:
    class Arguments:
        dataset, classes = None, [str(place / NAMES)]

    text = LatentDiffusion.from_pretrained(place / 'weights').text
    names = names_of(Arguments)
    embeddings = text.class_embeddings(names, ['a {}'])
    closest(embeddings)
    work_dir.mkdir()
    (work_dir / RESULTS).write_text(json.dumps(dict(test=dict(zip(names, embeddings.tolist(), strict=True)))))


def _whole(place: Path) -> Config:
    """The chain, with all eight images."""
    cfg = tiny_configs(place)['classes']()
    cfg.train_dataloader.dataset.dataset.num_labelled = 8
    return cfg


def _segformer(place: Path) -> Config:
    """As mmseg's users have it: a list, and weights to start from."""
    cfg = tiny_configs(place)['plain']()
    own = cfg.train_dataloader.dataset
    for key in ('num_labelled', 'subset_seed'):
        own.pop(key, None)
    own.update(type='BaseSegDataset', ann_file=f'../{LIST}', img_suffix='.png', seg_map_suffix='.png')
    own.metainfo = dict(classes=CLASSES, palette=[list(colour) for colour in PALETTE])
    cfg.load_from = str(place / START)
    return cfg


def _files(pattern: str) -> Callable[[Path], list[Path]]:
    return lambda place: list(place.glob(pattern))


def _of_parts(kind: str, parts: tuple[str, ...] = PARTS) -> Callable[[Path], list[Path]]:
    return lambda place: [file for part in parts for file in place.glob(f'scenes/{part}/{kind}/*.png')]


USES = {
    'chain': Use(
        _chain,
        image=_of_parts('images'),
        label=_of_parts('semantic'),
        captions=_files('scenes/train/captions.jsonl'),
        weights=_files('weights/*/*.safetensors'),
        json=_files('weights/**/*.json'),
        place=lambda place: [place],
    ),
    'listed': Use(_listed, list=_files(LIST), image=_of_parts('images', ('train',))),
    'plain': Use(_plain, list_of_mmseg=_files(LIST), checkpoint=_files(START), label=_of_parts('semantic')),
    'config': Use(_config, config=_files(CONFIG)),
    'class names': Use(_class_names, class_names=_files(NAMES)),
}


DRAWN = [(use, kind, way) for use, reads in USES.items() for kind in reads.files for way in WAYS[kind]]


def given(chain: Chain) -> Path:
    """All that the uses read, made when it is first asked for, in a process of its own."""
    place = chain.folder / 'given'
    if not place.is_dir():
        part = place.with_suffix(f'.{os.getpid()}')
        ended = run(lambda: _make(chain, part), part.with_suffix('.log'), LIMIT)
        if ended.how != 'done':
            raise RuntimeError(f'what is given {ended.how}: {ended.error} {ended.text}')
        try:
            part.rename(place)
        except OSError:  # another trial has made it
            shutil.rmtree(part)
    return place


def _make(chain: Chain, place: Path) -> None:
    for name in ('scenes', 'weights'):
        shutil.copytree(chain.folder / name, place / name)
    (place / LIST).write_text(''.join(f'{file.stem}\n' for file in sorted(place.glob('scenes/train/images/*.png'))))
    (place / NAMES).write_text('wall\nfloor\nred table\nball\n')
    (place / CONFIG).write_text(tiny_configs(place)['plain']().pretty_text)
    (place / 'plain.py').unlink()
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(_segformer(place).model)
    torch.save(dict(meta=dict(iter=1, epoch=0), state_dict=model.state_dict()), place / START)


def straight(chain: Chain, use: str) -> dict[str, str]:
    """What a use gives with the files as they are; made when it is first asked for."""
    file = chain.folder / f'expected-input-{use.replace(" ", "-")}.json'
    if not file.is_file():
        work_dir = chain.folder / f'{use}-{os.getpid()}'
        ended = run(lambda: USES[use].work(given(chain), work_dir), work_dir.with_suffix('.log'), LIMIT)
        if ended.how != 'done':
            raise RuntimeError(f'{use} with whole files {ended.how}: {ended.error} {ended.text}')
        part = file.with_suffix(f'.{os.getpid()}')
        part.write_text(json.dumps(found_in(work_dir)))
        part.rename(file)
    return json.loads(file.read_text())


def found_in(work_dir: Path) -> dict[str, str]:
    """The result; a run without any has lost it."""
    return made_by(work_dir) or {'nothing': 'was made'}
