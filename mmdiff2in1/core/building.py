"""Errors of others that come up while a config is built, explained: key, class, files, and what to do.

mmseg's data sets assert in their constructors without a word, a registry knows a name or not, a constructor is given a
key that it does not have: none of them says which place of the config is meant.
"""

import inspect
import os.path as osp
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine import registry as registries
from mmengine.registry import Registry

from .error_place import place_of
from .names import did_you_mean

OF_OTHERS = (AssertionError, AttributeError, LookupError, NotImplementedError, TypeError)
"""Errors that programs make by themselves: what they say is meant for who wrote the program."""
SHOWN = 12
"""Names of settings that are listed."""


@contextmanager
def building(cfg: Mapping, key: str = '') -> Iterator[None]:
    """Adds to errors raised inside, where something of a config is built, what :func:`explained` says.

    Errors that say by themselves what was found (files that are not there, values that are refused) stay as they are.

    Args:
        cfg: The config, or the part of it that is built.
        key: Where that part stands in the whole config.

    Raises:
        ValueError: In the place of an error without a text, or of `OF_OTHERS`.
    """
    try:
        yield
    except Exception as error:
        if str(error).strip() and not isinstance(error, OF_OTHERS):
            raise
        raise ValueError(explained(error, cfg, key)) from error


def explained(error: BaseException, cfg: Mapping, key: str = '') -> str:
    """Text of an error that came up while a config was built; with key, class, missing files and cure if it is of
    `OF_OTHERS` or says nothing.

    Args:
        error: As it was caught.
        cfg: See :func:`building`.
        key: See :func:`building`.
    """
    said = _said(error)
    cfg = dict(cfg.items())  # mmengine's Config is no Mapping
    steps = _builds(error)
    at_work = place_of(error, cfg)
    look = f'; look at {key}{"." if key else ""}{at_work}' if at_work else ''
    if (str(error).strip() and not isinstance(error, OF_OTHERS)) or (look and not steps):
        return said + _meant(said) + look
    where, part = _place(steps, cfg, key)
    cls = steps[-1].get('obj_cls') if steps else None
    stranger = _stranger(error, said, cls)
    if stranger is not None:
        cls, wrong = stranger
        where, part = next((entry for entry in _parts(cfg, key) if wrong in entry[1]), ('', {}))
    name = getattr(cls, '__name__', None) or str(part.get('type', ''))
    head = f'{where} ({name}): ' if where and name else f'{where or name}: ' if where or name else ''
    gone = _not_there(part)
    cure = (
        _meant(said)
        or _settings(said, cls)
        or ('; put the files there, or correct data_root, data_prefix or ann_file' if gone else '')
        or (f'; correct {where}' if where else look)
    )
    return head + said + ''.join(f'; found no {path}, which {name} names' for name, path in gone) + cure


def _stranger(error: BaseException, said: str, cls: Callable | None) -> tuple[Callable, str] | None:
    """A class that no registry builds (torch's DataLoader), or a method of one, and the setting that it does not take.

    None for an error of another kind, or where that class is `cls`, which a registry was building, or a base of it.
    """
    wrong = re.match(r"(?:\w+: )?(\w+)\.(\w+)\(\) got an unexpected keyword argument '(\w+)'", said)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    while error.__cause__ is not None:
        error = error.__cause__
        frames += [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if wrong is None or not frames or wrong[1] in {kind.__name__ for kind in getattr(cls, '__mro__', ())}:
        return None
    named = [frame.f_globals[wrong[1]] for frame in frames if inspect.isclass(frame.f_globals.get(wrong[1]))]
    if not named:
        return None
    return named[-1] if wrong[2] == '__init__' else getattr(named[-1], wrong[2]), wrong[3]


def _said(error: BaseException) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if ' is not in the ' in text:  # a registry's, which goes on with what any user of it may look at
        text = text.partition('. ')[0]
    kind = type(error).__name__
    if text:
        return f'{kind}: {text}' if isinstance(error, OF_OTHERS) and ' ' not in text else text
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return f'{kind} without a text'
    place = '/'.join(Path(frames[-1].filename).parts[-3:])
    return f'{kind} without a text, {place}:{frames[-1].lineno}: {frames[-1].line}'


def _builds(error: BaseException) -> list[dict[str, Any]]:
    """Local variables of each call of a registry on the way, the outermost first."""
    frames: list[FrameType] = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [frame.f_locals for frame in frames if frame.f_code.co_name == 'build_from_cfg']


def _place(steps: Sequence[Mapping], cfg: Mapping, key: str) -> tuple[str, Mapping]:
    """Key and content of the part of a config that the last step builds, as far as it is found in there."""
    part: Mapping = cfg
    for step in steps:
        built = step.get('cfg')
        if not isinstance(built, Mapping):
            break
        alike = [entry for entry in _parts(part, key) if entry[1].get('type') == built.get('type')]
        if alike:
            key, part = max(alike, key=lambda entry: _shared(entry[1], built))
        elif step is steps[-1]:
            part = built
    return key, part


def _parts(value: Any, key: str) -> Iterator[tuple[str, Mapping]]:
    """All dictionaries of a config with their keys."""
    if isinstance(value, Mapping):
        yield key, value
        for name, inner in value.items():
            yield from _parts(inner, f'{key}.{name}' if key else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _parts(inner, f'{key}[{index}]')


def _shared(one: Mapping, other: Mapping) -> int:
    return sum(name in other and bool(other[name] == value) for name, value in one.items())


def _not_there(part: Mapping) -> list[tuple[str, str]]:
    """Files and folders that a data set's config names and that are not there: (key, path)."""
    root, prefix = part.get('data_root') or '', part.get('data_prefix')
    named = {f'data_prefix.{key}': place for key, place in prefix.items()} if isinstance(prefix, Mapping) else {}
    named |= {'ann_file': part.get('ann_file')}
    places = [(key, osp.join(root, place)) for key, place in named.items() if isinstance(place, str) and place]
    return [(key, place) for key, place in places if '://' not in place and not osp.exists(place)]


def _meant(said: str) -> str:
    """Advice on an error of others; the names in a registry that are like one that is not in it."""
    if 'batch_sampler option is mutually exclusive' in said:
        return "; write drop_last into the batch sampler: batch_sampler=dict(type='MixedBatchSampler', drop_last=True)"
    missing = re.search(r"'?([\w.]+) is not in the [\w: ]*registry", said)
    if missing is None:
        return ''
    roots = [one for one in vars(registries).values() if isinstance(one, Registry)]
    known = {name: scope for one in roots for name, scope in _names(one).items()}
    if missing[1] in known:
        return f'; {known[missing[1]]} has it: set default_scope={known[missing[1]]!r}'
    return did_you_mean(missing[1], known, 3) or '; is the module that registers it named in custom_imports?'


def _names(one: Registry) -> dict[str, str]:
    """Of a registry and those of other packages below it, with the scope of each."""
    below = {name: scope for child in one.children.values() for name, scope in _names(child).items()}
    return below | dict.fromkeys(one.module_dict, one.scope)


def _settings(said: str, cls: Callable | None) -> str:
    """Of a class that was given a setting it does not have: those that it has."""
    wrong = re.search(r"unexpected keyword argument '(\w+)'", said)
    if wrong is None or cls is None:
        return ''
    kinds = inspect.getmro(cls) if inspect.isclass(cls) else (cls,)
    known: dict[str, None] = {}
    for kind in kinds:
        parameters = inspect.signature(kind.__init__ if inspect.isclass(kind) else kind).parameters
        known |= {name: None for name, each in parameters.items() if not each.kind.name.startswith('VAR_')}
        if not any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            break
    known.pop('self', None)
    more = ', …' if len(known) > SHOWN else ''
    return did_you_mean(wrong[1], known) or f'; it takes {", ".join(list(known)[:SHOWN])}{more}'
