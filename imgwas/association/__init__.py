"""Rack of association tests: align, project, scan."""
