"""Rack of association tests: align, project, scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgwas.association.design import Design, build_design
from imgwas.association.scan import associate
from imgwas.association.selection import Selection, select

if TYPE_CHECKING:
    from imgwas.association.selfcheck import check_scan
from imgwas.stopping import Interrupted

__all__ = [
    "Design",
    "Interrupted",
    "Selection",
    "associate",
    "build_design",
    "check_scan",
    "select",
]


def __getattr__(name: str) -> Any:
    if name == "check_scan":
        from imgwas.association.selfcheck import check_scan

        return check_scan
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
