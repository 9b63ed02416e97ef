"""The moments of an optimizer, taken from one stage to the next."""

from pathlib import Path

from mmengine.runner import Runner

from mmdiff2in1.generators.checkpoint_file import read_checkpoint_file


def carry_optimizer_state(runner: Runner, checkpoint: str | Path) -> None:
    """Continues the moments of another run of the same parameters; learning rates stay the stage's own.

    Raises:
        ValueError: The other run trained other parameters.
    """
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optimizer = runner.optim_wrapper.optimizer
    carried = read_checkpoint_file(checkpoint)['optimizer']
    own = optimizer.state_dict()
    groups = [[len(group['params']) for group in state['param_groups']] for state in (carried, own)]
    if sum(groups[0]) != sum(groups[1]):
        raise ValueError(
            f'{checkpoint} trained {sum(groups[0])} tensors, this stage trains {sum(groups[1])}: set '
            'carry_optimizer=False, or use ExploiterOptimWrapperConstructor so that both stages see the same parameters'
        )
    # Moments are carried by position, which the grouping decides.
    if groups[0] != groups[1]:
        raise ValueError(
            f'{checkpoint} trained {len(groups[0])} groups of {groups[0][:5]} … tensors, this stage trains '
            f'{len(groups[1])} of {groups[1][:5]} …: set carry_optimizer=False, or give both stages the same '
            'paramwise_cfg and weight decay'
        )
    optimizer.load_state_dict({**own, 'state': carried['state']})
