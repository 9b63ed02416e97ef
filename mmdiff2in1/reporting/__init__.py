"""The report of a run, on one page: `report.html` of a work dir."""

from .report import write_report

__all__ = ['write_report']
