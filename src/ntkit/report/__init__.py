"""The report: one HTML page that needs nothing beside itself."""

from ntkit.report.page import render_report

__all__ = ["render_report"]
