"""The report: one self-contained HTML page about a finished run."""

from __future__ import annotations

from avdata.report.page import write_report

__all__ = ["write_report"]
