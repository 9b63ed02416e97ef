"""What `make docs` does beside mkdocs: README.md is the first page, and links that leave docs/ become plain text."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page before it is rendered; called by mkdocs."""
    name = page.file.src_uri
    if name == 'index.md':
        markdown = (ROOT / 'README.md').read_text(encoding='utf-8').replace('](docs/', '](')
        return re.sub(r'\[([^]]+)\]\((?:CONTRIBUTING|CHANGELOG)\.md\)', r'`\1`', markdown)
    depth = name.count('/')
    up = '../' * depth
    markdown = re.sub(rf'\]\({re.escape(up)}\.\./README\.md', f']({up}index.md', markdown)
    return re.sub(rf'\[([^]]+)\]\({re.escape(up)}\.\./[^)]*\)', r'\1', markdown)
