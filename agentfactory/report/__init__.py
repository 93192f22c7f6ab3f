"""What a run came to: `report.html` and `report.png` in its folder, and the content of `run.json`."""

from ..run import run_result
from .report_data import ReportFiles, write_report

__all__ = ["ReportFiles", "run_result", "write_report"]
