"""Checkpoints that survive a kill at any moment: the newest complete one is always there and always found."""

from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from mmdiff2in1.core.atomic_files import remove_parts
from mmdiff2in1.core.inside import remove_inside

from .atomic_backend import AtomicBackend
from .last_checkpoint import LAST, last_checkpoint, name_for
from .stage_folder import begun_mark

OUTDATED = 'outdated_checkpoints'
STAGE = 'stage'
"""Key of `meta`: the fingerprint of the stage that a checkpoint belongs to."""


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's `CheckpointHook`, arguments and file names unchanged, in another order.

    mmengine deletes the old checkpoint, then writes the new one in place, then rewrites `last_checkpoint` in place:
    a kill in between leaves a truncated file, none at all, or an empty `last_checkpoint`. Here every file is written
    beside its target, flushed and renamed (`AtomicBackend`); `last_checkpoint` follows once the checkpoint is safe, and
    old ones, best ones included, are deleted after that. Names still to be deleted stand in the checkpoint, so a run
    killed before deleting does it after resuming.

    `last_checkpoint` holds a name, so that a copied work dir goes on from its own checkpoint; `resume=True` finds it. A
    checkpoint says which stage it belongs to; one of another is not gone on from.

    Only files in the checkpoint folder are deleted; leftovers of killed runs are removed at the start.
    `published_keys` are mmengine's own: a published file is not written atomically.

    Raises ValueError for `backend_args` or `file_client_args`: remote stores need mmengine's hook.
    """

    def __init__(self, *args, backend_args: dict | None = None, file_client_args: dict | None = None, **kwargs) -> None:
        if backend_args not in (None, dict(backend='atomic')) or file_client_args is not None:
            raise ValueError(
                f'AtomicCheckpointHook writes to local folders only, found backend_args={backend_args}, '
                f'file_client_args={file_client_args}; drop them, or use CheckpointHook for a remote store'
            )
        super().__init__(*args, backend_args=dict(backend='atomic'), **kwargs)

    def before_run(self, runner: Runner) -> None:
        if runner._resume and runner._load_from is None:  # mmengine would take the text for a path
            found = last_checkpoint(runner.work_dir, self.out_dir)
            runner._load_from = None if found is None else str(found)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        found, own = (checkpoint.get('meta') or {}).get(STAGE), begun_mark(Path(runner.work_dir))
        # One that the user names is the user's choice.
        differs = runner._resume and found and own and found != own
        if differs and runner._load_from == str(last_checkpoint(runner.work_dir, self.out_dir)):
            raise ValueError(
                f'{runner._load_from} is a checkpoint of another run than that of {runner.work_dir} (fingerprint '
                f'{found[:8]}, expected {own[:8]}); name one of this run in {Path(runner.work_dir, LAST)}, or delete '
                'that file to start anew'
            )

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        # A run that was copied remembers where the best ones were.
        best: str | None = getattr(self, 'best_ckpt_path', None)
        if best:
            self.best_ckpt_path = self._place(best)
        for name, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[name] = path and self._place(path)
        self.file_backend = _Postponing(self.out_dir)
        if is_main_process():
            leftovers = sorted({name for folder in (self.out_dir, runner.work_dir) for name in remove_parts(folder)})
            if leftovers:
                runner.logger.info(f'Removed half-written files of a killed run: {", ".join(leftovers)}')
        if runner.iter > 0:
            self.file_backend.outdated += runner.message_hub.get_info(OUTDATED, [])
            self._delete_outdated()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                self.file_backend.remove(self._path(self.keep_ckpt_ids.popleft()))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        mark = begun_mark(Path(runner.work_dir))
        meta |= {STAGE: mark} if mark else {}
        runner.message_hub.update_info(OUTDATED, list(self.file_backend.outdated))
        runner.save_checkpoint(
            self.out_dir,
            Path(self.last_ckpt).name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            self.file_backend.put_text(name_for(self.last_ckpt, runner.work_dir), Path(runner.work_dir) / LAST)
        self._delete_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping) -> None:
        if not hasattr(self, 'file_backend'):
            return  # `runner.val()` alone: nothing is trained, so there is nothing to keep.
        # The parent removes the old best file first; the backend in use only takes a note of it.
        super()._save_best_checkpoint(runner, metrics)
        self._delete_outdated()

    def _path(self, step: int) -> str:
        return self._place(self.filename_tmpl.format(step))

    def _place(self, file: str) -> str:
        return self.file_backend.join_path(self.out_dir, Path(file).name)

    def _delete_outdated(self) -> None:
        best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
        kept = [self._path(step) for step in getattr(self, 'keep_ckpt_ids', [])]
        in_use = {Path(path).name for path in [self.last_ckpt, *best, *kept] if path}
        if is_main_process():
            for name in set(self.file_backend.outdated) - in_use:
                remove_inside(Path(self.out_dir), name)  # a checkpoint brought it along
        self.file_backend.outdated.clear()


class _Postponing(AtomicBackend):
    """Notes the names of files of `folder` that are to be deleted, instead of deleting them."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.outdated: list[str] = []

    def remove(self, filepath: str | Path) -> None:
        if Path(filepath).parent == self.folder:
            self.outdated.append(Path(filepath).name)
