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
        ValueError: No task, or one that the set has no labels of.
    """
    unknown = [task for task in tasks if task not in folders]
    if unknown or not tasks:
        raise ValueError(f'tasks={tuple(tasks)}: expected at least one of {", ".join(folders)}, and no other')
    return dict(folders[task] for task in tasks)
