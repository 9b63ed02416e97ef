"""The records of a store as they lie in its manifest: each is parsed when it is asked for.

A million records as dictionaries take gigabytes; as text they take what the manifest takes, and some 200 bytes each for
the name and the place.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from .records import as_line


class RecordIndex(Mapping[str, dict]):
    """{sample_id: record} of checked records, read-only; a dictionary that is handed out is the caller's own.

    Args:
        text: Whole lines.
        places: By sample_id where its line begins in `text`; or a record that stands in no line like that.
        rejected: The samples that a filter has refused.
    """

    def __init__(self, text: bytes, places: dict[str, int | dict], rejected: set[str]) -> None:
        self._text, self._places, self.rejected = text, places, rejected

    def __getitem__(self, sample_id: str) -> dict:
        return self.at(self._places[sample_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._places

    def at(self, place: int | dict) -> dict:
        """The record of a place."""
        record: dict = json.loads(self._line(place))
        return record

    def in_order(self) -> 'RecordIndex':
        """The same, sorted by sample_id."""
        names = sorted(self._places)
        places = self._places if names == list(self._places) else {name: self._places[name] for name in names}
        return RecordIndex(self._text, places, self.rejected)

    def lines(self) -> Iterator[bytes]:
        """The manifest of these records, line by line."""
        return map(self._line, self._places.values())

    def stands_in(self, size: int) -> bool:
        """True if a manifest of so many bytes is this one, line by line: it was read whole, and in order."""
        places = [place for place in self._places.values() if isinstance(place, int)]
        whole = size == len(self._text) and len(places) == len(self) == self._text.count(b'\n')
        return whole and places == sorted(places)

    def without(self, sample_ids: set[str]) -> 'RecordIndex':
        """All but some of the samples."""
        places = {name: place for name, place in self._places.items() if name not in sample_ids}
        return RecordIndex(self._text, places, self.rejected - sample_ids)

    def _line(self, place: int | dict) -> bytes:
        if isinstance(place, dict):
            return as_line(place)
        return self._text[place : self._text.index(b'\n', place) + 1]


class Records(Sequence[dict]):
    """Some of the records of an index, in order; equal to a list of the same records."""

    def __init__(self, index: RecordIndex, sample_ids: Sequence[str]) -> None:
        self._index, self._sample_ids = index, sample_ids

    @overload
    def __getitem__(self, at: int) -> dict: ...
    @overload
    def __getitem__(self, at: slice) -> 'Records': ...
    def __getitem__(self, at: int | slice) -> 'dict | Records':
        if isinstance(at, slice):
            return Records(self._index, self._sample_ids[at])
        return self._index[self._sample_ids[at]]

    def __len__(self) -> int:
        return len(self._sample_ids)

    def __iter__(self) -> Iterator[dict]:
        return map(self._index.__getitem__, self._sample_ids)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(dict.__eq__, self, other))

    def __repr__(self) -> str:
        return f'{len(self)} records'
