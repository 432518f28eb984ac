"""Rack of association tests: align, project, scan."""

from imgwas.association.design import Design, build_design
from imgwas.association.engines import local_cluster
from imgwas.association.scan import Interrupted, associate
from imgwas.association.selection import Selection, select

__all__ = [
    "Design",
    "Interrupted",
    "Selection",
    "associate",
    "build_design",
    "local_cluster",
    "select",
]
