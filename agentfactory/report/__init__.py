"""What a run came to: `report.html` and `report.png` in its folder, and the content of `run.json`."""

from .result import run_result
from .write import ReportFiles, write_report

__all__ = ["ReportFiles", "run_result", "write_report"]
