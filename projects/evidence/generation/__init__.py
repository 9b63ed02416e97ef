"""What a generator of rendered scenes is worth."""
