"""The networks, one family to a file: plain torch modules, no files, no settings."""
