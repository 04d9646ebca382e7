"""Compiles training steps for TPU slices that are not there, and reports.

The TPU compiler is a library (libtpu) that runs on any Linux machine and, told
a topology, knows its chips. What it says about memory is what a run will see;
the step time is a bound that no run will reach (a roofline).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib.util
import os
import re
import time
from typing import Any

import jax
from jax.experimental import topologies

from asymtalker_jax.train import hlo_cost
from asymtalker_jax.train import needed_flops
from asymtalker_jax.train import program as program_lib

GB = 1e9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One TPU chip; peak figures of cloud.google.com/tpu/docs.

  Attributes:
    hbm_gb: memory, 1e9 bytes.
    flops: peak of bfloat16 products per second.
    hbm_gb_per_s: bandwidth of the memory.
    ici_gb_per_s: bandwidth of all links to other chips, one direction.
  """

  hbm_gb: float
  flops: float
  hbm_gb_per_s: float
  ici_gb_per_s: float


CHIPS = {
    'v5e': Chip(
        hbm_gb=16, flops=197e12, hbm_gb_per_s=819, ici_gb_per_s=200
    ),
    'v5p': Chip(
        hbm_gb=95, flops=459e12, hbm_gb_per_s=2765, ici_gb_per_s=600
    ),
    'v6e': Chip(
        hbm_gb=32, flops=918e12, hbm_gb_per_s=1640, ici_gb_per_s=400
    ),
}


def devices(topology: str, slices: int = 1) -> Sequence[Any]:
  """Returns the devices of a slice such as 'v5e:16x16'.

  Args:
    topology: a key of CHIPS, a colon, sizes with x between them.
    slices: such slices, joined by the data-centre network.

  Raises:
    ValueError: unknown chip or a shape that it does not come in.
    ModuleNotFoundError: the TPU compiler is not installed.
  """
  kind = topology.partition(':')[0]
  if kind not in CHIPS or not re.fullmatch(r'\w+:\d+(x\d+)+', topology):
    raise ValueError(
        f'topology {topology!r}: expected CHIP:SIZES such as v5e:16x16, with'
        f' one of {list(CHIPS)}'
    )
  if importlib.util.find_spec('libtpu') is None:
    raise ModuleNotFoundError(
        'the TPU compiler (libtpu) is not installed: pip install'
        " -e '.[tpu]'"
    )
  # Not a TPU machine: do not wait for its metadata server.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  # Otherwise libtpu complains about each of them on standard error.
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', f'{kind}-1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  # It guards chips, of which there are none, with a lock file.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', 'true')
  options = dict(num_slices=slices) if slices > 1 else {}
  try:
    described = topologies.get_topology_desc(
        topology, platform='tpu', **options
    )
  except Exception as error:  # libtpu's errors have no type of their own.
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
        f'topology {topology!r} does not exist: {reason}'
    ) from error
  return described.devices


def check(
    program: program_lib.Program, mesh: jax.sharding.Mesh, chip: Chip
) -> dict[str, Any]:
  """Compiles one step and returns the report on it, plain values.

  Keys: program, examples, fits, largest_buffers, compile_s, compile_cpu_s (of
  all cores together); and unless it is too large to compile: hbm_gb,
  flops_per_chip, needed_flops, collectives, roofline_s, step_s, mfu.
  """
  began = time.monotonic(), time.process_time()
  result = dict(program=program.name, examples=program.examples)
  with jax.set_mesh(mesh):
    lowered = program.function.lower(*program.args)
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      return result | dict(
          fits=False, **_took(began),
          largest_buffers=largest_of_error(str(error)),
          error=' '.join(str(error).split('Largest program')[0].split()),
      )
  result |= _took(began)
  memory = memory_gb(compiled.memory_analysis())
  module = hlo_cost.Module(compiled.as_text(), program.trips, mesh.size)
  needed = needed_flops.needed_flops(
      program.plain(), program.args, program.trips
  )
  return result | dict(
      fits=memory['total'] <= chip.hbm_gb,
      hbm_gb=memory,
      largest_buffers=[
          [what, round(size / GB, 3)] for what, size in module.largest()
      ],
      **timing(module.cost(), needed, chip, mesh.size),
  )


def memory_gb(stats: Any) -> dict[str, float]:
  """Memory of one chip by purpose, in GB, from XLA's statistics."""
  parts = dict(
      arguments=stats.argument_size_in_bytes,
      # What is donated is counted with the arguments.
      results=stats.output_size_in_bytes - stats.alias_size_in_bytes,
      temporaries=stats.temp_size_in_bytes,
      program=stats.generated_code_size_in_bytes,
  )
  parts['total'] = sum(parts.values())
  return {name: round(size / GB, 3) for name, size in parts.items()}


def timing(
    cost: hlo_cost.Cost, needed: float, chip: Chip, chips: int
) -> dict[str, Any]:
  """The roofline: the slowest of three resources, if all overlap.

  Args:
    cost: of one chip.
    needed: operations of the whole step without any computed twice.
    chip: peak figures.
    chips: in the mesh.
  """
  sent = sum(cost.sent.values())
  bounds = dict(
      compute=cost.flops / chip.flops,
      hbm=cost.hbm_bytes / (GB * chip.hbm_gb_per_s),
      ici=sent / (GB * chip.ici_gb_per_s),
  )
  step = max(bounds.values())
  return dict(
      flops_per_chip=cost.flops,
      needed_flops=needed,
      hbm_traffic_gb=round(cost.hbm_bytes / GB, 3),
      collectives={
          kind: dict(
              count=round(cost.count[kind], 1),
              sent_gb=round(cost.sent[kind] / GB, 4),
          )
          for kind in hlo_cost.COLLECTIVES
          if cost.count[kind]
      },
      roofline_s={k: round(v, 4) for k, v in bounds.items()},
      step_s=round(step, 4),
      mfu=round(needed / (chips * chip.flops * step), 3) if step else 0.0,
  )


def largest_of_error(message: str) -> list[list[Any]]:
  """The largest buffers that the compiler names when memory is exhausted.

  Returns:
    [what it is, GB], largest first; 2^30 bytes are 1.074 GB.
  """
  found = []
  for block in re.split(r'\n\s*\d+\. Size: ', message)[1:]:
    size = re.match(r'([\d.]+)([KMG])', block)
    if not size:
      continue
    factor = {'K': 2**10, 'M': 2**20, 'G': 2**30}[size[2]]
    shape = re.search(r'Shape: (\S+)', block)
    origin = re.search(r'Operator: op_name="([^"]*)"', block)
    what = ' '.join(m[1] for m in (shape, origin) if m)
    found.append([what, round(float(size[1]) * factor / GB, 3)])
  return found


def text_of(report: Mapping[str, Any], chip: Chip) -> str:
  """One program's report for people."""
  lines = [
      f"{report['program']}: batch {report['examples']},"
      f" compiled in {report['compile_s']:.0f} s"
      f" ({report['compile_cpu_s']:.0f} s of processor)"
  ]
  if 'hbm_gb' in report:
    parts = ', '.join(f'{k} {v:.2f}' for k, v in report['hbm_gb'].items())
    lines += [f'  HBM per chip of {chip.hbm_gb:g} GB: {parts}']
    bounds = ', '.join(
        f'{k} {v:.3f}' for k, v in report['roofline_s'].items()
    )
    lines += [
        f"  FLOPs: {report['flops_per_chip']:.3g} per chip and step,"
        f" {report['needed_flops']:.3g} needed in all",
        f"  at best {report['step_s']:.3f} s per step (seconds: {bounds}),"
        f" MFU {report['mfu']:.0%}",
    ]
    lines += [
        f"  {kind}: {c['count']:g} x, {c['sent_gb']:.3f} GB sent per chip"
        for kind, c in report['collectives'].items()
    ]
  if not report['fits']:
    lines += [f"  DOES NOT FIT {chip.hbm_gb:g} GB. {report.get('error', '')}"]
  lines += ['  largest arrays:' if report['fits'] else '  largest buffers:']
  lines += [
      f'    {size:.2f} GB  {what}'
      for what, size in report['largest_buffers'][:5]
  ]
  return '\n'.join(lines)


def _took(began: tuple[float, float]) -> dict[str, float]:
  return dict(
      compile_s=round(time.monotonic() - began[0], 1),
      compile_cpu_s=round(time.process_time() - began[1], 1),
  )
