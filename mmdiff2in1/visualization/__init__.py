"""Pictures: contact sheets, panels of what was created and perceived, curves of a run."""

from .contact_sheet import Layout, contact_sheet, sheet_layout, side_by_side
from .curves import curve_picture, read_scalars
from .panels import Created, Perceived, creation_panel, prediction_panel

__all__ = [
    'Created',
    'Layout',
    'Perceived',
    'contact_sheet',
    'creation_panel',
    'curve_picture',
    'prediction_panel',
    'read_scalars',
    'sheet_layout',
    'side_by_side',
]
