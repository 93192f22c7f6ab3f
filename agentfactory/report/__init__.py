"""Report of a run: `report.html` and `report.png` in its folder."""

from .report_data import ReportFiles, write_report

__all__ = ["ReportFiles", "write_report"]
