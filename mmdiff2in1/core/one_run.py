"""Which run a process belongs to: the others of it share its name, nobody else does."""

import os
import socket


def this_run() -> str:
    """Of torchrun and its like: where the processes meet, the run's id and their number; else who started the process.

    What several machines share holds no name of a machine, unless the processes meet on this one alone.
    """
    world_size = int(os.environ.get('WORLD_SIZE', 1))
    if world_size == 1:
        return f'started by {os.getppid()} on {socket.gethostname()}'
    meeting = os.environ.get('MASTER_ADDR', 'localhost')
    if meeting == 'localhost' or meeting.startswith('127.') or meeting == '::1':
        meeting = f'{socket.gethostname()} ({meeting})'
    port, name = (os.environ.get(key, '') for key in ('MASTER_PORT', 'TORCHELASTIC_RUN_ID'))
    return f'{meeting}:{port} {name} of {world_size}'
