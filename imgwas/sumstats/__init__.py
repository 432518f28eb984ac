"""The result store of a scan, and its exports."""
