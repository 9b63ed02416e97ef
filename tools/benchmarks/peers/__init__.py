"""Others' code beside ours: the same work, in one process, by turns. Theirs is imported from the user's own clone."""
