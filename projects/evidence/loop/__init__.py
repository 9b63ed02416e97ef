"""Arms of the self-improving loop, trained side by side."""
