"""The lowest floor: files whole or not at all, reading images and label maps, randomness, names."""
