"""The user's own clone of VPD or of the released Diff-2-in-1: whether it is one, and how it is imported.

Its files import more than the work that is timed needs, and some of that in versions that no longer exist. Those
modules are not asked for: `STAND_INS` takes their place while the clone is imported, and says so if it is ever called.
"""

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

STAND_INS = ('omegaconf', 'pytorch_lightning', 'taming', 'timm', 'torchvision', 'black', 'clip', 'kornia')
"""Packages that the clones import and the timed work does not use: configs, loops, data, other models, a formatter."""
CLIP = 'transformers.models.clip.modeling_clip'
OF_OLD_CLIP = ('CLIPTextConfig', 'CLIPTextModel', 'CLIPTextTransformer', '_expand_mask')
"""Names that VPD imports from transformers for its text encoder, which it does not train with; not all exist today."""
STABLE_DIFFUSION = 'stable-diffusion'


@dataclass(frozen=True)
class Peer:
    """Attributes: `files` that a clone has; `paths` of it that are importable; `hint`, by the beginning of a file."""

    whose: str
    files: tuple[str, ...]
    paths: tuple[str, ...] = ('',)
    hint: Mapping[str, str] | None = None


PEERS = {
    'vpd': Peer(
        'VPD (wl-zhao/VPD)',
        ('vpd/models.py', 'segmentation/models/vpd_seg.py', f'{STABLE_DIFFUSION}/ldm/models/diffusion/ddpm.py'),
        ('', STABLE_DIFFUSION),
        {STABLE_DIFFUSION: 'git submodule update --init in it brings the submodule'},
    ),
    'released': Peer(
        'the released Diff-2-in-1 (zsh2000/diff-2-in-1)',
        (
            'training_2nd_stage.py',
            'losses.py',
            'ldm/models/sn_module.py',
            'ldm/models/decoder.py',
            'ldm/models/diffusion/ddim.py',
            'ldm/models/diffusion/ddpm.py',
        ),
    ),
}


@dataclass(frozen=True)
class Clone:
    """A clone that is there.

    Raises:
        SystemExit: The folder is no such clone, or holds a part of one.
    """

    name: str
    root: Path

    def __post_init__(self) -> None:
        peer = PEERS[self.name]
        for file in peer.files:
            if not (self.root / file).is_file():
                hints = (hint for start, hint in (peer.hint or {}).items() if file.startswith(start))
                more = next(hints, f'give the folder of a clone of {peer.whose}')
                raise SystemExit(f'--{self.name} {self.root}: {file} was expected and not found; {more}')

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """Inside, its modules can be imported, and stand-ins are in the place of what the work does not need."""
        paths = [str(self.root.resolve() / path) for path in PEERS[self.name].paths]
        finder, clip = _Finder(), importlib.import_module(CLIP)
        absent = [name for name in OF_OLD_CLIP if not hasattr(clip, name)]
        for name in absent:
            setattr(clip, name, _absent(f'{CLIP}.{name}'))
        sys.meta_path.insert(0, finder)
        sys.path[:0] = paths
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in absent:
                delattr(clip, name)
            for path in paths:
                sys.path.remove(path)
            for name, module in [*sys.modules.items()]:
                if isinstance(module, _StandIn) or self.root.resolve() in Path(_file(module)).parents:
                    del sys.modules[name]

    def load(self, *modules: str) -> list[ModuleType]:
        """Modules of the clone, which must be importable.

        Raises:
            SystemExit: Another module that they import is not installed, or lacks a name.
        """
        whose = PEERS[self.name].whose
        try:
            with quiet():
                return [importlib.import_module(name) for name in modules]
        except ModuleNotFoundError as error:
            package = str(error.name).split('.')[0]
            cure = f'is not installed: pip install {package}' if error.name == package else 'is not there'
            raise SystemExit(f'{whose} imports {error.name}, which {cure}') from error
        except ImportError as error:
            raise SystemExit(f'{whose}: {error}; a dependency is of another version than it expects') from error

    def function(self, file: str, name: str, device: str) -> CodeType:
        """The code that defines the function `name` of a file, wherever in it that stands.

        Raises:
            SystemExit: There is none.
        """
        found = [n for n in ast.walk(self._tree(file)) if isinstance(n, ast.FunctionDef) and n.name == name]
        if not found:
            raise SystemExit(f'{self.root / file}: a function {name} was expected and not found; another version?')
        return _compiled(found[:1], self.root / file, device)

    def loop(self, file: str, over: str, device: str) -> CodeType:
        """The body of the innermost loop over what is called `over`, to be executed with the names that it reads.

        Raises:
            SystemExit: There is none.
        """
        loops = [n for n in ast.walk(self._tree(file)) if isinstance(n, ast.For) and over in ast.unparse(n.iter)]
        if not loops:
            raise SystemExit(f'{self.root / file}: a loop over {over} was expected and not found; another version?')
        return _compiled(loops[-1].body, self.root / file, device)

    def _tree(self, file: str) -> ast.Module:
        return ast.parse((self.root / file).read_text())


def _compiled(body: list[Any], file: Path, device: str) -> CodeType:
    module = ast.Module([_OnDevice(device).visit(node) for node in body], [])
    return compile(ast.fix_missing_locations(module), str(file), 'exec')


class _OnDevice(ast.NodeTransformer):
    """Puts another device where their scripts name "cuda"."""

    def __init__(self, device: str) -> None:
        self._device = device

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(self._device) if node.value == 'cuda' else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == 'cuda' and not node.args:
            node.func.attr, node.args = 'to', [ast.Constant(self._device)]
        return node


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What they print and their progress bars go nowhere; what it costs to make stays."""
    with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _file(module: Any) -> str:
    return getattr(module, '__file__', None) or ''


class _LightningModule(nn.Module):
    """What their models use of it: a module that knows its device."""

    @property
    def device(self) -> torch.device:
        """Of its first tensor."""
        return next(iter([*self.parameters(), *self.buffers()])).device


KNOWN = {
    'pytorch_lightning.LightningModule': _LightningModule,
    'pytorch_lightning.utilities.distributed.rank_zero_only': lambda function: function,
    'pytorch_lightning.utilities.rank_zero.rank_zero_only': lambda function: function,
}


class _StandIn(ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        whole = f'{self.__name__}.{name}'
        return KNOWN.get(whole) or _absent(whole)


def _absent(name: str) -> type:
    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise RuntimeError(f'{name} is needed after all: tools/benchmarks/peers/clones.py has a stand-in for it')

    return type(name.rpartition('.')[2], (), dict(__init__=refuse))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.split('.')[0] not in STAND_INS:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass
