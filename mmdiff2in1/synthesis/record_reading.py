"""Reads the lines of manifests: each one is checked before anything is done with what it says."""

from collections.abc import Callable, Iterator, Sequence

from mmdiff2in1.core.text_files import json_value

from .record_index import RecordIndex
from .records import as_line, flaw_of
from .sound_lines import sound_line
from .store_files import Damage

Line = tuple[str, int | dict, bool]
"""Sample of a line; where it begins, or its record if it is not written as we write it; whether it was refused."""


def read_records(
    files: Sequence[tuple[str, bytes]], describes_disk: Callable[[dict], bool]
) -> tuple[RecordIndex, list[Damage]]:
    """The records of some manifests, sorted by sample_id, and the broken lines.

    Args:
        files: Name and whole lines of each; what comes later is newer.
        describes_disk: True if the files on the disk are those of a record; asked where a sample has several.
    """
    text = b''.join(text for _, text in files)
    places: dict[str, int | dict] = {}
    index, problems = RecordIndex(text, places, set()), list[Damage]()
    start = 0
    for name, own in files:
        for line in _lines(text, start, start + len(own)):
            if isinstance(line, str):
                problems.append(Damage(name, line))
                continue
            sample_id, place, is_rejected = line
            # Made twice (its file had gone), or labelled since: the last that describes the files on disk is right.
            if sample_id in places:
                record = index.at(place)
                if record != index[sample_id] and not describes_disk(record):
                    continue
                index.rejected.discard(sample_id)
            places[sample_id] = place
            if is_rejected:
                index.rejected.add(sample_id)
        start += len(own)
    return index.in_order(), problems


def _lines(text: bytes, start: int, end: int) -> Iterator[Line | str]:
    """Of what lies between `start` and `end`: samples, and what is wrong with the lines that describe none."""
    number = 0
    while start < end:
        number += 1
        sound = sound_line(text, start)
        if sound is None:
            following = text.index(b'\n', start) + 1
            yield _judged(text[start:following], start, number)
            start = following
        else:
            sample_id, following, is_rejected = sound
            yield sample_id, start, is_rejected
            start = following


def _judged(line: bytes, start: int, number: int) -> Line | str:
    content = line.decode(errors='replace')[:-1]
    try:
        record = json_value(content)
    except ValueError:
        return f'line {number} is no record: {content[:60]!r}'
    flaw = flaw_of(record)
    if flaw:
        return f'line {number}, {flaw}'
    return record['sample_id'], start if as_line(record) == line else record, bool(record.get('rejected'))
