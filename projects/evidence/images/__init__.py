"""The images of an experiment: read, drawn, captioned, created."""
