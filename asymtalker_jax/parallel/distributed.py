"""One run over several processes: who takes part, and waiting for all of them.

A process learns of the others from, in this order,

  flags     coordinator, number of processes, number of this process; or
            JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID
  Open MPI  variables of mpirun; version 5 does not say where the first process
            is, so that it needs the coordinator as well
  SLURM     variables of srun
  TPU       metadata of the virtual machine, or variables of GKE

and is alone if there are none. SLURM and Open MPI start one process per GPU,
which sees that GPU only; otherwise a process has all devices of its machine.
"""

from collections.abc import Mapping
import glob
import hashlib
import importlib.util
import os
import socket
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

_NAMES = ('coordinator', 'num_processes', 'process_id')
_VARIABLES = (
    'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'
)
# When JAX's own time runs out it aborts the process, with a stack trace; ours
# comes first by this many seconds.
_GRACE_S = 600
# At the end the others wait while process 0 writes a bundle of many gigabytes.
_SHUTDOWN_S = 3600


def find_cluster(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any] | None:
  """Returns arguments of `jax.distributed.initialize`; None for one process.

  Args:
    coordinator: HOST:PORT of process 0, where the others look for it.
    num_processes: in the whole run.
    process_id: of this one, from 0.
    environ: variables of the process.

  Raises:
    ValueError: some of the three are missing, or out of range.
  """
  given = (coordinator, num_processes, process_id)
  values = [
      environ.get(variable) if value is None else value
      for value, variable in zip(given, _VARIABLES)
  ]
  ranks = ['OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK']
  if 'OMPI_MCA_orte_hnp_uri' not in environ and all(
      name in environ for name in ranks
  ):
    if int(environ[ranks[0]]) == 1:
      return None
    values[1:] = [
        environ[name] if value is None else value
        for value, name in zip(values[1:], ranks)
    ]
  if any(value is not None for value in values):
    return _explicit(values, environ)
  # JAX reads the rest. A batch script of SLURM is no part of a step of it.
  count = environ.get('OMPI_COMM_WORLD_SIZE')
  if count is None and 'SLURM_STEP_NODELIST' in environ:
    count = environ.get('SLURM_NTASKS')
  if count is not None:
    return {} if int(count) > 1 else None
  return {} if _has_tpus(environ) else None


def _explicit(
    values: list[Any], environ: Mapping[str, str]
) -> dict[str, Any]:
  """Arguments from a coordinator, a count and a number, all three needed."""
  said = ', '.join(
      f'--{name}={value}' if value is not None else f'no --{name}'
      for name, value in zip(_NAMES, values)
  )
  expected = (
      'expected --coordinator=HOST:PORT of process 0, --num_processes=N and'
      f' --process_id=0..N-1, or {", ".join(_VARIABLES)}'
  )
  if None in values:
    raise ValueError(f'{said}: {expected}')
  try:
    count, number = int(values[1]), int(values[2])
    port = int(values[0].rpartition(':')[2])
  except ValueError as error:
    raise ValueError(f'{said}: {expected}') from error
  if not 0 <= number < count or ':' not in values[0] or not 0 < port < 65536:
    raise ValueError(f'{said}: {expected}')
  arguments = dict(
      coordinator_address=values[0], num_processes=count, process_id=number,
      cluster_detection_method='deactivate',
  )
  if 'OMPI_COMM_WORLD_LOCAL_RANK' in environ:
    arguments['local_device_ids'] = int(environ['OMPI_COMM_WORLD_LOCAL_RANK'])
  return arguments


def _has_tpus(environ: Mapping[str, str]) -> bool:
  """Whether this is a virtual machine with TPUs that JAX is going to use."""
  if 'tpu' not in (environ.get('JAX_PLATFORMS') or 'tpu'):
    return False
  named = {'TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES'} & set(environ)
  if 'TPU_SKIP_MDS_QUERY' in environ and not named:
    return False  # Nobody to ask who else there is.
  chips = glob.glob('/dev/accel[0-9]*') + glob.glob('/dev/vfio/[0-9]*')
  return bool(chips) and importlib.util.find_spec('libtpu') is not None


def start(arguments: Mapping[str, Any], timeout_s: float) -> None:
  """Joins the run; returns when all processes are there.

  Args:
    arguments: of `find_cluster`.
    timeout_s: how long to wait for the others.

  Raises:
    TimeoutError: a process is absent.
    ValueError, RuntimeError: of `jax.distributed.initialize`.
  """
  failed = []

  def connect():
    try:
      jax.distributed.initialize(
          **arguments, initialization_timeout=round(timeout_s + _GRACE_S),
          shutdown_timeout_seconds=_SHUTDOWN_S,
      )
    except BaseException as error:  # Raised again where it can be handled.
      failed.append(error)

  # The wait inside of JAX can be neither interrupted nor caught.
  thread = threading.Thread(target=connect, daemon=True)
  thread.start()
  thread.join(timeout_s)
  if thread.is_alive():
    raise TimeoutError(_absent(arguments, timeout_s))
  if failed:
    raise failed[0]


def _absent(arguments: Mapping[str, Any], timeout_s: float) -> str:
  """Says as much as one process knows about which one is absent."""
  address = arguments.get('coordinator_address')
  count = arguments.get('num_processes')
  who = f'process {arguments["process_id"]} of {count}' if count else 'process'
  missing = 'at least one other process'
  if address and arguments['process_id']:
    missing += f', not process 0, which answers at {address},'
    try:
      host, _, port = address.rpartition(':')
      socket.create_connection((host.strip('[]'), int(port)), 5).close()
    except OSError as error:
      missing = f'process 0 at {address} ({error})'
  return (
      f'{who} waited {timeout_s:g} s for the others: {missing} is absent; start'
      ' all of them with the same settings within that time, or wait longer'
      ' (--join_timeout_s)'
  )


def check_same(what: str, text: str) -> None:
  """Compares a text between the processes of a run.

  Args:
    what: it says, for the message.
    text: expected to be the same everywhere.

  Raises:
    ValueError: on all processes, if it differs on one.
  """
  if jax.process_count() == 1:
    return
  digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
  every = multihost_utils.process_allgather(digest)
  other = [i for i, one in enumerate(every) if np.any(one != every[0])]
  if other:
    raise ValueError(
        f'processes {other} of {len(every)} have other {what} than process 0:'
        ' expected the same everywhere'
    )
