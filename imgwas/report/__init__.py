"""One HTML file about a scan, to send to a collaborator."""

from imgwas.report.page import write_report

__all__ = ["write_report"]
