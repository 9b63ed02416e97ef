"""A dataset index that also knows its place in the stream of samples, so that its augmentation can be seeded by it."""

KINDS = ('real', 'synthetic')


class StreamKey(int):
    """The index of a sample, usable wherever an int is, with its place in an infinite stream.

    `kind` is 'real' or 'synthetic'; `position` counts the samples of the stream over all ranks from the start of the
    training; `seed` is the seed of the order in which the stream was drawn. One walk uses a position once; a walk that
    is begun anew repeats those from its start on, as a resumed training repeats what came after its checkpoint. In an
    exact mix each kind is a stream of its own: a real sample has the same position whether or not synthetic ones are
    added, and its augmentation does not change with the mix. In the mix 'uniform' both kinds are one stream.

    Raises ValueError for another kind or a negative position.
    """

    kind: str
    position: int
    seed: int

    def __new__(cls, index: int, kind: str = 'real', position: int = 0, seed: int = 0) -> 'StreamKey':
        if kind not in KINDS:
            raise ValueError(f'unknown kind of sample {kind!r}; known: {", ".join(KINDS)}')
        if position < 0:
            raise ValueError(f'position is {position}, expected 0 or more')
        key = super().__new__(cls, index)
        key.kind, key.position, key.seed = kind, position, seed
        return key

    def __getnewargs__(self) -> tuple[int, str, int, int]:  # type: ignore[override]
        return int(self), self.kind, self.position, self.seed

    def __repr__(self) -> str:
        return f'StreamKey({int(self)}, {self.kind!r}, position={self.position}, seed={self.seed})'
