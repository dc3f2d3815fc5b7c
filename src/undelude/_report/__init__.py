"""A run as one self-contained HTML page, from the files that the run left behind."""

from undelude._report.page import write_report

__all__ = ["write_report"]
