"""`report.html`: what came of a run, gathered from its work dir, on one page that needs nothing else.

θ_C is the creator, θ_E the exploiter.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from mmengine.config import Config

from mmdiff2in1.core.atomic_files import write_atomically
from mmdiff2in1.core.dataset_images import list_images
from mmdiff2in1.core.randomness import derived_randomness
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.synthesis import SampleStore
from mmdiff2in1.synthesis.sources import build_real_dataset

from .charts import Chart, charts
from .created import Created, created_samples
from .feature_distance import ENOUGH, FeatureDistance, feature_distance
from .kept_share import kept_share_in_words
from .recipe import commands, recipe_in_words, versions
from .scores import Table, shown, tables, verdict
from .source_labels import SourceLabels
from .work_dir import WorkDir, read_work_dir
from .worst import Worst, worst_images

NAME = 'report.html'
T = TypeVar('T')


@dataclass
class Sections:
    """The parts of a page; `missing`: by name the sentence that stands in the place of a part."""

    worst: Worst | None = None
    created: Created | None = None
    distance: FeatureDistance | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: str, part: Callable[[], T]) -> T | None:
        """Result of `part`; None where it cannot be had, and why is noted: a page has to come of every run."""
        try:
            return part()
        except Exception as error:  # data, models and tasks of anybody's
            self.missing[name] = f'{type(error).__name__}: {error}'
            return None


def write_report(
    cfg: Config,
    work_dir: Path,
    checkpoint: Path | None = None,
    *,
    images: int = 6,
    control: Path | None = None,
    features: Path | None = None,
) -> Path:
    """Reads a work dir, finished or not, lets its model look at test and created images, and writes the page.

    What is not there is said in its place; only a missing work dir is an error.

    Args:
        cfg: The config of the run, a chain or a plain one.
        work_dir: Its folder.
        checkpoint: Of the model that looks; None: the last one of the run.
        images: Created samples, and worst test images, that are shown.
        control: Work dir of a training of as many steps on real images alone, whose scores stand beside.
        features: Network in whose features FID and KID are measured, see `feature_distance`; None: they are not.

    Returns:
        The page, `report.html` in the work dir.

    Raises:
        FileNotFoundError: No such work dir, no such `checkpoint`, or a `control` that is none.
        ValueError: `images` below 1.
    """
    if images < 1:
        raise ValueError(f'images={images}, expected 1 or more')
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    cfg = _with_stages(cfg, Path(work_dir))
    run = read_work_dir(cfg, work_dir)
    other = None if control is None else _control(cfg, Path(control))
    looking, whose = _checkpoint(run, checkpoint)
    with derived_randomness(NAME):  # a model may draw noise: two pages of one run are equal
        sections = _look(cfg, run, looking, whose, images, features)
    page = _page(cfg, run, other, sections, whose, looking)
    file = Path(work_dir) / NAME
    write_atomically(file, page.encode())
    return file


def _look(
    cfg: Config, run: WorkDir, checkpoint: Path | None, whose: str, images: int, features: Path | None
) -> Sections:
    """Sections with what a checkpoint sees in test and created images."""
    sections = Sections()
    store = None if run.store is None else SampleStore(run.store)
    if store is not None and features is not None:
        sections.distance = sections.attempt('distance', lambda: _distance(cfg, store, features))
    if checkpoint is None:
        sections.missing['model'] = 'there is no checkpoint yet.'
        return sections
    model = sections.attempt('model', lambda: Diff2in1Inferencer(cfg, checkpoint))
    if model is None:
        return sections
    seen = sections.worst = sections.attempt('worst', lambda: worst_images(model.cfg, model, images, whose))
    if store is not None:
        real = {} if seen is None else {task: (f'real {seen.of}', found) for task, found in seen.agreement.items()}
        sources = sections.attempt('sources', lambda: SourceLabels(model.cfg, store))
        sections.created = sections.attempt(
            'created', lambda: created_samples(store, sources, model, images, whose, real)
        )
    return sections


def _with_stages(cfg: Config, path: Path) -> Config:
    """In the folder of a chain the config is that of a chain, though a stage's own names no `stages`."""
    if 'stages' in cfg or not (path / 'self_improving').is_dir():
        return cfg
    cfg = cfg.copy()
    cfg.stages = {}
    return cfg


def _control(cfg: Config, path: Path) -> WorkDir:
    """A chain, or a plain training, whatever the run itself is.

    Raises:
        FileNotFoundError: No such folder, or one in which nothing was trained.
    """
    cfg = _with_stages(cfg, path).copy()
    if not (path / 'self_improving').is_dir():
        cfg.pop('stages', None)
    control = read_work_dir(cfg, path)
    if not (control.test or control.main.metrics or control.main.curves):
        raise FileNotFoundError(f'{path} holds nothing of a training; expected the work dir of a control')
    return control


def _checkpoint(run: WorkDir, asked: Path | None) -> tuple[Path | None, str]:
    """The one that looks at images, and what its model is called."""
    name = 'θ_C' if run.chain else 'the model'
    if asked is not None:
        return Path(asked), name
    if run.main.checkpoint is not None:
        return run.main.checkpoint, name
    return run.stages[0].checkpoint, 'the warm-up' if run.chain else name


def _distance(cfg: Config, store: SampleStore, features: Path) -> FeatureDistance:
    _, real = list_images(build_real_dataset(cfg))
    created = [store.image(record) for record in store.records() if record.get('image')]
    return feature_distance([Path(path) for path in real], created, features)


def _page(
    cfg: Config, run: WorkDir, control: WorkDir | None, sections: Sections, whose: str, checkpoint: Path | None
) -> str:
    step = 'epoch' if (cfg.get('train_cfg') or {}).get('max_epochs') else 'iteration'
    drawn: list[Chart] = (
        sections.attempt('curves', lambda: charts(run.main.curves, control.main.curves if control else {}, step)) or []
    )
    scores: list[Table] = tables(run, control)
    content: dict[str, Any] = dict(
        title=Path(cfg.filename).stem if cfg.filename else run.path.name,
        run=run,
        verdict=verdict(run, control),
        tables=scores,
        charts=drawn,
        kept_share=sections.attempt('kept share', lambda: kept_share_in_words(cfg, run.main.curves)) or [],
        sections=sections,
        missing=sections.missing,
        whose=whose,
        checkpoint=checkpoint,
        enough=ENOUGH,
        recipe=sections.attempt('recipe', lambda: recipe_in_words(cfg)) or [],
        versions=versions(),
        commands=commands(cfg, run),
        written=datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z'),
    )
    environment = Environment(
        loader=PackageLoader('mmdiff2in1.reporting', ''),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(shown=shown, code=_code)
    return environment.get_template('page.html').render(content)


def _code(text: str) -> Markup:
    """`What stands so` as code; all else is escaped."""
    return Markup(re.sub(r'`([^`]+)`', r'<code>\1</code>', str(escape(text))))
