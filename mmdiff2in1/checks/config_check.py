"""All contradictions between a config and its data sets, which are listed but not read."""

from collections.abc import Iterable, Mapping, Sequence

from mmdiff2in1.core.image_loading import AS_READ, refuse_as_sources, refuse_for_created
from mmdiff2in1.core.names import type_name
from mmdiff2in1.core.problem import Problem

from .given_labels import label_problems
from .loading import fields_made, other_readings
from .parts import LOADERS, DataPart
from .settings import class_head, model_tasks, setting_problems


def config_problems(cfg: Mapping, parts: Sequence[DataPart]) -> list[Problem]:
    """Numbers of classes, labels that nobody gives, tasks that nothing is loaded for, sets that cannot be joined.

    Args:
        cfg: The config.
        parts: Its data sets, see `data_parts`.
    """
    return [
        *setting_problems(cfg, parts),
        *label_problems(parts),
        *_untaught(cfg, parts),
        *_read_otherwise(cfg, parts),
        *_beside_created(cfg, parts),
        *(problem for loader in LOADERS for problem in _joined(cfg, parts, loader)),
    ]


def _untaught(cfg: Mapping, parts: Sequence[DataPart]) -> Iterable[Problem]:
    """Tasks of the model whose labels no training pipeline loads: a sample without the field teaches nothing of it."""
    tasks = model_tasks(cfg)
    made = [fields_made(part.cfg.get('pipeline')) for part in parts if part.loader == 'train']
    if tasks is None or not made or any(keys is None for keys in made):
        return
    keys = {key for each in made for key in each or ()}
    # In the loop another teacher may know it.
    severity = 'warning' if 'segmentor' in cfg['model'] else 'error'
    for name, task in tasks.items():
        if task.path_key not in keys:
            step = (
                f"Add dict(type='LoadDenseAnnotation', task=…) of {name} to the pipeline and {task.path_key} to "
                f'data_prefix, or take {name} out of the model'
            )
            found = f'the task {name}, whose labels no step of train_dataloader loads'
            yield Problem(severity, 'untaught-task', 'model.task', found, 'tasks that are loaded', step)


def _read_otherwise(cfg: Mapping, parts: Sequence[DataPart]) -> Iterable[Problem]:
    """Loaders that decode images as nobody else here does: creation starts from other pixels than training sees."""
    creates = bool((cfg.get('stages') or {}).get('synthesis'))
    for part in parts:
        for key, value in other_readings(part.cfg.get('pipeline')):
            where = f'{part.loader}_dataloader: LoadImageFromFile.{key}'
            expected = f'{AS_READ[key]!r}, as checks, creation and pictures read images'
            step = f'Leave {key} out of the pipeline, or convert the files'
            yield Problem('error' if creates else 'warning', 'image-loader', where, repr(value), expected, step)


def _beside_created(cfg: Mapping, parts: Sequence[DataPart]) -> Iterable[Problem]:
    """Training images that created ones cannot stand beside, where the config has some."""
    creates = bool((cfg.get('stages') or {}).get('synthesis'))
    wrapper = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    if not creates and wrapper.get('store') is None:
        return
    for part in parts:
        if part.loader == 'train' and part.dataset is not None:
            try:
                (refuse_as_sources if creates else refuse_for_created)(part.dataset)
            except (ValueError, OSError) as error:
                where, step = 'train_dataloader', 'See docs/add_to_your_config.md, "When it says no"'
                yield Problem('error', 'created-images', where, str(error), 'images like the created ones', step)


def _joined(cfg: Mapping, parts: Sequence[DataPart], loader: str) -> Iterable[Problem]:
    """mmengine's ConcatDataset takes what the first set says of itself for all, and stops at what others say."""
    wrapper = (cfg.get(f'{loader}_dataloader') or {}).get('dataset') or {}
    while wrapper.get('dataset') is not None:
        wrapper = wrapper['dataset']
    sets = [part for part in parts if loader in (part.loader, *part.shared_by)]
    if type_name(wrapper) != 'ConcatDataset' or len(sets) < 2 or any(part.dataset is None for part in sets):
        return
    first, others = sets[0], sets[1:]
    meta, ignored = first.dataset.metainfo, wrapper.get('ignore_keys') or ()
    ignored = {ignored} if isinstance(ignored, str) else {*ignored}
    told = {key for part in sets for key in part.dataset.metainfo} - ignored
    differing = sorted(key for key in told if any(part.dataset.metainfo.get(key) != meta.get(key) for part in others))
    where = f'{loader}_dataloader.dataset'
    if differing:
        step = f'Set ignore_keys={sorted({*differing, "classes", "palette", "reduce_zero_label"})} in {where}'
        found = f'sets whose metainfo differs in {", ".join(differing)}'
        yield Problem('error', 'joined-sets', where, found, 'the same, or keys that are ignored', step)
    K, own = class_head(cfg).get('num_classes'), len(meta.get('classes') or ())
    evaluators = cfg.get(f'{loader}_evaluator') or []
    evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
    if K and own != K and any(type_name(each) == 'IoUMetric' for each in evaluators):
        step = 'Put the set whose classes these are first: the metric takes their names and number from there'
        found = f'{own} classes in the first of {len(sets)} sets, {type_name(first.cfg)}'
        yield Problem('error', 'joined-sets', where, found, f'the {K} classes of the model', step)
