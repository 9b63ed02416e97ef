"""Command lines: what they ask for and print; the work is done below."""
