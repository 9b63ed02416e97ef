"""How wide the borders are that a pipeline draws for heads such as PIDNet's."""

from typing import Any

from mmseg.datasets.transforms import GenerateEdge


def edge_width(step: Any) -> int | None:
    """Of a transform, or of a pipeline with steps inside of steps; None: no `GenerateEdge` in it."""
    if isinstance(step, GenerateEdge):
        return step.edge_width
    inner = getattr(step, 'transforms', None) or []
    found = (edge_width(each) for each in (inner if isinstance(inner, list | tuple) else [inner]))
    return next((width for width in found if width is not None), None)
