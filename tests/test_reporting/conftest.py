"""One short chain on tiny weights, and its page, shared by the tests of this folder."""

from html.parser import HTMLParser

import pytest
from tiny_chain import chain_config, prepare

from mmdiff2in1.reporting import write_report
from mmdiff2in1.training.chain import train


class Page(HTMLParser):
    """What a page holds: `images` their attributes, `numbers` of <data> elements, `ids`, `links`, `text`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source, self.images, self.numbers, self.ids, self.links, self.texts = text, [], [], [], [], []
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self._hidden = tag == 'style'
        if tag == 'img':
            self.images.append(attributes)
        if tag == 'data':
            self.numbers.append(float(attributes['value']))
        if 'id' in attributes:
            self.ids.append(attributes['id'])
        self.links += [value for key, value in attrs if key in ('src', 'href', 'xlink:href', 'action', 'srcset')]

    def handle_data(self, data):
        if not self._hidden:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What is read, in one line."""
        return ' '.join(' '.join(self.texts).split())


@pytest.fixture(scope='session')
def chain(tmp_path_factory, tiny_diffusion_config):
    """Config, work dir and results of a finished chain that creates at two T."""
    folder = prepare(tmp_path_factory.mktemp('report'), tiny_diffusion_config)
    cfg = chain_config(folder)
    cfg.merge_from_dict(
        {
            'stages.warmup.train_cfg': dict(max_iters=4, val_interval=2),
            'train_cfg': dict(max_iters=4, val_interval=2),
            'stages.synthesis.T': [300, 900],
            'model.label_rule': dict(type='TeacherLabel', min_confidence=0.05),
        }
    )
    work_dir = folder / 'run'
    return cfg, work_dir, train(cfg.copy(), work_dir)


@pytest.fixture(scope='session')
def page(chain):
    """The page of the chain, as it is written without further arguments."""
    cfg, work_dir, _ = chain
    return Page(write_report(cfg, work_dir, images=3).read_text())
