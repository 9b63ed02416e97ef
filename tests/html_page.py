"""An HTML page, taken apart for tests."""

from html.parser import HTMLParser


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
