"""Writing a run's report. Matplotlib and jinja2 are imported only when one is written."""

from pathlib import Path
from typing import Final, NamedTuple

from ..configs.errors import BadInput
from ..configs.files import write_atomically
from .findings import gather

HTML: Final = "report.html"
PNG: Final = "report.png"


class ReportFiles(NamedTuple):
    """Where a report was written."""

    html: Path
    png: Path


def write_report(run_dir: Path) -> ReportFiles:
    """Write `report.html` and `report.png` into a run's folder, whatever state the run is in.

    The journal and the trajectories are streamed: memory does not grow with the run. Raises BadInput
    for a folder that is not a run's, or that cannot be written.
    """
    from .charts import panels
    from .page import headline, render_page, subtitle
    from .png import draw_sheet
    from .theme import themed

    findings = gather(run_dir)
    with themed():
        charts = panels(findings.history, findings.settings)
        sheet = draw_sheet(charts, headline(findings), subtitle(findings))
        page = render_page(findings, charts)
    files = ReportFiles(run_dir / HTML, run_dir / PNG)
    try:
        write_atomically(files.png, sheet)
        write_atomically(files.html, page.encode())
    except OSError as error:
        raise BadInput(f"{run_dir}: the report cannot be written ({error.strerror})") from error
    return files
