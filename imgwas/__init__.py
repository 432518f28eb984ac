"""Genome-wide association of imaging latents."""

from imgwas._version import __version__

__all__ = ["__version__"]
