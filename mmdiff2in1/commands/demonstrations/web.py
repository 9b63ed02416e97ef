"""A page in the browser: an image → its map with a legend; a caption, or an image → a created image with its map.

It listens on 127.0.0.1 alone, loads nothing from elsewhere and reports to nobody. Needs the package of the extra `web`.
"""

import argparse
import functools
import html
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mmdiff2in1.datasets.scenes.render import render_scene
from mmdiff2in1.inference import Diff2in1Inferencer
from mmdiff2in1.inference.perception import Perception, SeenMap

HOST = '127.0.0.1'
EXAMPLES = (1, 4, 7, 12)
"""Numbers of rendered scenes, of a seed that no built-in weights have seen."""
EXAMPLES_SEED = 7
SOURCES = ['upload', 'clipboard']
BUTTONS = ['fullscreen', 'download']
"""Of pictures; not the one that would send them to a place for sharing."""
CAPTION = 'a green table and two balls in a room with striped white walls and a wooden floor'
CSS = """
.picture img {width: 100%; height: 100%; object-fit: contain; image-rendering: pixelated}
.swatch {display: inline-block; width: 0.9em; height: 0.9em; margin-right: 0.4em; vertical-align: -1px}
.legend span.entry {display: inline-block; margin: 0 1.2em 0.3em 0; white-space: nowrap}
"""


def check_package() -> None:
    """Raises ImportError if gradio is missing."""
    if importlib.util.find_spec('gradio') is None:
        raise ImportError(
            '--web needs the package gradio, which is not installed: pip install "mmdiff2in1[web]"; in an environment '
            'of its own, for it wants an older pillow'
        )


def show(args: argparse.Namespace) -> None:
    """Serves until Ctrl-C."""
    check_package()
    model = load(args.web, args.diffusion)
    page = build(model, examples(args.web))
    print(f'{args.web} on http://{HOST}:{args.port} (Ctrl-C ends it)', flush=True)
    serve(page, args.port, wait=True)


def load(place: str, diffusion: str | None) -> Diff2in1Inferencer:
    """The model of a folder or a built-in one; one of those without a generator creates with the built-in one."""
    model = Diff2in1Inferencer.from_pretrained(place, diffusion=diffusion)
    if diffusion is None and place.startswith('builtin:') and not _creates(model):
        return Diff2in1Inferencer.from_pretrained(place, diffusion='builtin:scenes')
    return model


def examples(place: str) -> list[np.ndarray]:
    """Images to try, uint8 RGB (64, 64, 3): rendered scenes for a model of scenes, none for others."""
    if not place.startswith('builtin:'):
        return []
    return [render_scene(EXAMPLES_SEED, number).image for number in EXAMPLES]


def serve(page: Any, port: int, wait: bool) -> Any:
    """Starts the server; returns it, or with `wait` not before Ctrl-C.

    Raises:
        OSError: The port is taken.
    """
    import gradio

    # Fonts of the system: those of the other themes come from elsewhere.
    theme = gradio.themes.Base(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace'])
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=False,
        quiet=True,
        ssr_mode=False,
        theme=theme,
        css=CSS,
        footer_links=['api'],
        prevent_thread_lock=not wait,
    )
    return page


def build(model: Diff2in1Inferencer, images: list[np.ndarray]) -> Any:
    """The page, not yet served; its API has `/perceive` and, for models that create, `/create`.

    Args:
        model: What it shows.
        images: Examples, uint8 RGB (H, W, 3).
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # read when gradio is imported
    import gradio

    @_told
    def perceive(image: np.ndarray | None) -> list[Any]:
        if image is None:
            raise ValueError('there is no image yet: upload one, or take an example')
        return _shown(model([image])[0])

    @_told
    def create(caption: str, image: np.ndarray | None = None, T: float = 0, seed: float = 0) -> list[Any]:
        if image is None:
            (made,) = model.generate(prompts=caption, seeds=int(seed))
        else:
            (made,) = model.generate(images=[image], captions=caption, T=int(T), seeds=int(seed))
        return [made.image, *_shown(made)]

    with gradio.Blocks(title='mmdiff2in1', analytics_enabled=False) as page:
        gradio.Markdown('# Perceive and create\nPoint at the name of a class to see where it is.')
        with gradio.Tab('Perceive'), gradio.Row(equal_height=False):
            with gradio.Column():
                image = gradio.Image(
                    label='image', type='numpy', format='png', sources=SOURCES, height=360, elem_classes='picture'
                )
                see = gradio.Button('Perceive', variant='primary')
                if images:
                    gradio.Examples([[one] for one in images], [image], label='rendered scenes')
            with gradio.Column():
                maps = _maps(model)
            see.click(perceive, [image], maps, api_name='perceive')
        if _creates(model):
            with gradio.Tab('Create'), gradio.Row(equal_height=False):
                with gradio.Column():
                    caption = gradio.Textbox(CAPTION, label='caption', lines=2)
                    source = gradio.Image(
                        label='image to vary (optional)',
                        type='numpy',
                        sources=SOURCES,
                        height=220,
                        elem_classes='picture',
                    )
                    T_max = model.diffusion.T_max
                    T = gradio.Slider(
                        1,
                        T_max,
                        round(0.6 * T_max),
                        step=1,
                        label='T: how much of the image is re-invented',
                        info=f'without an image everything is: T = {T_max}, whatever is set here',
                    )
                    seed = gradio.Number(0, label='seed', precision=0)
                    make = gradio.Button('Create', variant='primary')
                    if images:
                        gradio.Examples([[one] for one in images], [source], label='rendered scenes')
                with gradio.Column():
                    made = gradio.Image(
                        label='created image',
                        type='numpy',
                        format='png',
                        height=360,
                        interactive=False,
                        buttons=BUTTONS,
                        elem_classes='picture',
                    )
                    seen = _maps(model)
                given = [caption, source, T, seed]
                make.click(create, given, [made, *seen], api_name='create')
    return page


def _maps(model: Diff2in1Inferencer) -> list[Any]:
    """For each task a map, and its legend."""
    import gradio

    parts: list[Any] = []
    task: Any  # of classes, or not
    for name, task in model.tasks.items():
        label = name.replace('_', ' ')
        if getattr(task, 'classes', None):
            colours = {task.classes[i]: _hex(task.palette[i]) for i in range(task.num_classes)}
            kind = gradio.AnnotatedImage(
                label=label,
                color_map=colours,
                format='png',
                buttons=BUTTONS[:1],
                height=400,
                elem_classes='picture',
            )
        else:
            kind = gradio.Image(
                label=label, type='numpy', height=400, interactive=False, buttons=BUTTONS, elem_classes='picture'
            )
        parts += [kind, gradio.HTML(label='legend')]
    return parts


def _shown(seen: Perception) -> list[Any]:
    parts: list[Any] = []
    for one in seen.maps.values():
        parts += [_annotated(seen.image, one) if one.classes else one.colours, _legend(one)]
    return parts


def _annotated(image: np.ndarray, seen: SeenMap) -> tuple[np.ndarray, list[tuple[np.ndarray, str]]]:
    """The image with a mask of each class that occurs, the largest first."""
    masks = [
        ((seen.map == number).astype(np.float32), name)
        for number, name in sorted(enumerate(seen.classes), key=lambda pair: -seen.shares.get(pair[1], 0))
        if name in seen.shares
    ]
    return image, masks


def _legend(seen: SeenMap) -> str:
    entries = [
        f'<span class="entry"><span class="swatch" style="background: {_hex(colour)}"></span>{html.escape(text)}</span>'
        for text, colour in seen.task.legend(seen.map)
    ]
    return f'<div class="legend">{"".join(entries)}</div>'


def _creates(model: Diff2in1Inferencer) -> bool:
    try:
        return model.diffusion is not None
    except ValueError:  # it has no diffusion model, and none was named
        return False


def _hex(colour: Any) -> str:
    return '#' + ''.join(f'{int(value):02x}' for value in colour)


def _told(work: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """What the user can mend is shown on the page, in the words of this package."""

    @functools.wraps(work)
    def done(*given: Any) -> list[Any]:
        import gradio

        try:
            return work(*given)
        except ValueError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return done
