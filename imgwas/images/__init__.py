"""Finding, checking, preparing and reading volumes."""
