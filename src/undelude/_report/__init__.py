"""The report of a run: one self-contained HTML page, made from the files of the run directory."""

from undelude._report.page import write_report

__all__ = ["write_report"]
