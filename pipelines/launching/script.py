"""The batch script of a training, for Slurm and for whoever looks after the cluster."""

from __future__ import annotations

import shlex
from typing import Final

from models.learning.packing import RUN
from pipelines.launching.cluster import Cluster

SCRIPT: Final = "job.sh"
LOG: Final = "log.txt"
_NOTICE_S: Final = 120  # before a slice of time is over: for one step and a checkpoint

_TEMPLATE: Final = """\
#!/bin/bash
# A training of a radloop node. It learns from the arrays beside this file, which manifest.json
# lists: no name, no pseudonym and no DICOM header is among them. The node deletes this folder when
# the training is over. A job that is requeued goes on from run/last.pt.
{headers}
set -u
umask 077
export OMP_NUM_THREADS={cpus} PYTHONUNBUFFERED=1
{environment}
{meeting}
# Shortly before the slice of time is over, all processes write a checkpoint and end.
asked=
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID"' USR1

srun --ntasks-per-node=1 --kill-on-bad-exit=1 \\
    {python} {learn} {run} &
step=$!
code=0
while kill -0 "$step" 2>/dev/null; do  # a signal ends `wait`, not the step
    wait "$step"
    code=$?
done
if [[ -e {run}/done.json || -e {run}/failed.json ]]; then
    exit 0  # the node reads what they say
fi
if [[ -n $asked ]]; then
    scontrol requeue "$SLURM_JOB_ID"  # goes on in another slice
fi
exit "$code"
"""

_MEETING: Final = """\
# Where the processes of all machines meet.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" --oneliner | sed -n 's/.* NodeAddr=\\([^ ]*\\) .*/\\1/p')
port=$((20000 + SLURM_JOB_ID % 20000))
"""
_RANK: Final = "-m models.learning.rank"
_RANKS: Final = """\
-m torch.distributed.run \\
    --nnodes={nodes} --nproc-per-node={ranks} \\
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$address:$port" \\
    -m models.learning.rank"""


def batch_script(cluster: Cluster, *, name: str, folder: str, minutes: float | None) -> str:
    """Return the script of a training's job.

    Parameters
    ----------
    name : str
        Of the job; everybody at the cluster can see it.
    folder : str
        The training's own, on the cluster.
    minutes : float or None
        How long the training may learn; a slice of time is not made longer than that needs.
    """
    options = {
        "job-name": name,
        "chdir": folder,
        "output": LOG,
        "open-mode": "append",
        "nodes": str(cluster.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(cluster.cpus * cluster.ranks_a_node),
        "gpus-per-node": str(cluster.gpus) if cluster.gpus else "",
        "mem": cluster.memory,
        "time": _slice(cluster.time, minutes),
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "signal": f"B:USR1@{_NOTICE_S}",
    }
    lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in cluster.options)]
    python = shlex.quote(cluster.python)
    environment = ""
    if cluster.container:
        words = [cluster.runtime, "exec", "--nv", "--contain", "--no-home", "--bind"]
        image = shlex.quote(cluster.container)
        python = f'{" ".join(words)} "$PWD:/job" --pwd /job {image} python'
        environment = "unset PYTHONPATH PYTHONHOME  # what is in the container counts\n"
    ranks = _RANKS.format(nodes=cluster.nodes, ranks=cluster.ranks_a_node)
    is_alone = cluster.nodes * cluster.ranks_a_node == 1
    return _TEMPLATE.format(
        headers="\n".join(lines),
        cpus=cluster.cpus,
        environment=environment,
        meeting="" if is_alone else _MEETING,
        python=python,
        learn=_RANK if is_alone else ranks,
        run=RUN,
    )


def _slice(most: str, minutes: float | None) -> str:
    """Return the time to ask for: short jobs begin sooner."""
    if minutes is None or not most:
        return most
    days, _, clock = most.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    hours, rest = parts[0], parts[1] if len(parts) > 1 else 0
    if len(parts) == 2 and not days:  # minutes:seconds
        hours, rest = 0, parts[0]
    limit = (int(days or 0) * 24 + hours) * 60 + rest
    wanted = round(minutes * 1.5) + 30
    return most if wanted >= limit else f"{wanted // 60}:{wanted % 60:02}:00"
