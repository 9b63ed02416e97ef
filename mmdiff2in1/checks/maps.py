"""What the depth or normal maps of a set show together: in which frame, in which unit, whether there is anything."""

from collections.abc import Mapping, Sequence

from .depth import DepthFacts, depth_notes, depth_problems
from .normals import NormalFacts, frame_problems, normal_notes
from .pair import PairFacts
from .problem import Problem


def judge_maps(
    facts: Sequence[PairFacts], infos: Sequence[Mapping], prefix: Mapping
) -> tuple[list[str], list[Problem]]:
    """Notes for the report, and problems.

    Args:
        facts: Of the pairs that were read.
        infos: Their data infos.
        prefix: `data_prefix` of the set.
    """
    notes, problems = [], []
    for key in dict.fromkeys(key for fact in facts for key in fact.known):
        where = str(prefix.get(key) or key)
        if not any(fact.known.get(key) for fact in facts):
            found = f'no value in any of the {len(facts)} maps read'
            step = 'Nothing can be learnt or scored: look at the files, and at what stands for unknown in them'
            problems.append(Problem('error', 'all-ignored', where, found, 'maps that hold something', step))
            continue
        maps = [fact.dense[key] for fact in facts if key in fact.dense]
        normals = [fact for fact in maps if isinstance(fact, NormalFacts)]
        depths = [fact for fact in maps if isinstance(fact, DepthFacts)]
        if normals:
            axes = infos[0].get('label_axes')
            notes += normal_notes(normals, axes)
            problems += frame_problems(normals, axes, where)
        if depths:
            notes += depth_notes(depths)
            problems += depth_problems(depths, where)
    return notes, problems
