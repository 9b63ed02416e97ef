"""Checkpoints of others into ours, and ours into theirs; every tensor accounted for.

A new one is a file here, with a table of names and a class (:mod:`.bae` is the plainest), and a door like its own in
tools/model_converters/.
"""
