"""Settings of data sets that are one of a few, and the folders of the tasks that are wanted."""

from collections.abc import Mapping, Sequence


def check_setting(name: str, value: str, known: Sequence[str]) -> None:
    """Raises ValueError for a value that is none of `known`."""
    if value not in known:
        raise ValueError(f'{name}={value!r}: expected one of {", ".join(known)}')


def folders_of_tasks(tasks: Sequence[str], folders: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Entries of `data_prefix` for tasks by name.

    Args:
        tasks: Which.
        folders: Task → its key in `data_prefix` and its folder.

    Raises:
        ValueError: No list, no task, one twice, or one that the set has no labels of.
    """
    named = [tasks] if isinstance(tasks, str) else list(tasks)
    if isinstance(tasks, str) or not named or set(named) - set(folders) or len(set(named)) < len(named):
        raise ValueError(
            f'tasks={tasks!r}: expected a list of some of {", ".join(folders)}, each once; correct the names, or leave '
            'tasks out for all of them'
        )
    return dict(folders[task] for task in tasks)
