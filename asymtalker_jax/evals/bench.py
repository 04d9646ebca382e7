"""How fast a bundle's networks run here, and what of the device that is.

Every part is compiled once and run until BUDGET_S are over; medians are
reported. A share of the peak is the operations of the matrix products and
convolutions (`program_cost.matrix_flops`) over the median, relative to the
device's figure for bfloat16, or on a device that is not in PEAKS to a large
float32 matrix product measured in the same run.
"""

from collections.abc import Callable, Sequence
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import types
from asymtalker_jax.evals import program_cost
from asymtalker_jax.generate import long_video
from asymtalker_jax.generate import process
from asymtalker_jax.generate import speech
from asymtalker_jax.models import variants

PARTS = ('dit', 'vae_encode', 'vae_decode', 'audio', 'chunk')
BUDGET_S = 3.0  # per part, after the first run
RUNS = (3, 50)  # at least and at most
# Kind of device -> dense bfloat16 operations/s, bytes/s of its memory; from the
# makers' data sheets.
PEAKS = {
    'NVIDIA A100-SXM4-40GB': (312e12, 1.555e12),
    'NVIDIA A100-SXM4-80GB': (312e12, 2.039e12),
    'NVIDIA H100 80GB HBM3': (989e12, 3.35e12),
    'NVIDIA H200': (989e12, 4.8e12),
    'NVIDIA L4': (121e12, 0.3e12),
    'TPU v4': (275e12, 1.228e12),
    'TPU v5 lite': (197e12, 0.819e12),
    'TPU v5': (459e12, 2.765e12),
    'TPU v6 lite': (918e12, 1.64e12),
}
_MATMUL = 2048  # rows of the measured matrix product


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
  """What a device could do.

  Attributes:
    flops: operations per second.
    bytes: of memory per second; None where not known.
    source: where the figures are from.
  """

  flops: float
  bytes: float | None
  source: str


def time_runs(*runs: Callable[[], Any]) -> list[list[float]]:
  """Seconds of each run of each function, in turns, after one that is left
  out."""
  for run in runs:
    run()
  spent: list[list[float]] = [[] for _ in runs]
  began = time.perf_counter()
  least, most = RUNS
  while len(spent[0]) < most:
    for run, times in zip(runs, spent):
      start = time.perf_counter()
      run()
      times.append(time.perf_counter() - start)
    budget = BUDGET_S * len(runs)
    if len(spent[0]) >= least and time.perf_counter() - began > budget:
      break
  return spent


def peak_of(device: jax.Device) -> Peak:
  """From PEAKS, or measured."""
  if device.device_kind in PEAKS:
    flops, memory = PEAKS[device.device_kind]
    return Peak(flops=flops, bytes=memory, source='data sheet, bfloat16')
  matrix = jax.random.normal(jax.random.key(0), (_MATMUL, _MATMUL))
  product = jax.jit(jnp.matmul)
  (times,) = time_runs(lambda: product(matrix, matrix).block_until_ready())
  return Peak(
      flops=2.0 * _MATMUL**3 / min(times), bytes=None,
      source=f'measured, float32 product of {_MATMUL}x{_MATMUL}',
  )


def at_size(networks: variants.Networks, side: int | None) -> variants.Networks:
  """The same networks for frames of side x side pixels.

  Raises:
    ValueError: not a multiple of what a token covers.
  """
  if side is None:
    return networks
  plan, patch = networks.chunk, networks.dit.config.patch
  cell = plan.spatial_stride * max(patch[1:])
  if side < cell or side % cell:
    raise ValueError(f'size {side}: expected a multiple of {cell}')
  chunk = dict(networks.values['chunk'], height=side, width=side)
  return variants.build(dict(networks.values, chunk=chunk))


def measure(
    bundle: bundle_lib.Bundle, parts: Sequence[str], side: int | None = None
) -> dict[str, Any]:
  """Times the parts of a bundle, batch 1.

  Args:
    bundle: with 'vae', 'dit' and 'audio'.
    parts: of PARTS.
    side: pixels per side instead of the bundle's own.

  Returns:
    Plain values: device, peak, sizes and per part median_s, min_s, runs,
    compile_s, flops, xla_flops, xla_bytes, flops_per_s and share_of_peak; for
    'chunk' also frames_per_s and resident_mb.

  Raises:
    ValueError: unknown parts or a size that does not fit.
  """
  unknown = set(parts) - set(PARTS)
  if unknown or not parts:
    raise ValueError(f'parts {sorted(unknown)}: expected some of {PARTS}')
  networks = at_size(bundle.networks, side)
  params = jax.device_put(bundle.params)
  device = jax.devices()[0]
  peak = peak_of(device)
  found = {}
  for part in parts:
    if part == 'chunk':
      row = _measure_chunk(networks, params, bundle.config['sampler'])
    else:
      row = _measure_network(*_program(part, networks, params))
    found[part] = row | _rates(row, peak)
  plan = networks.chunk
  return {
      'bundle': bundle.name,
      'device': device.device_kind,
      'peak': dataclasses.asdict(peak),
      'frames': plan.frames,
      'height': plan.height,
      'width': plan.width,
      'latents': list(plan.latent_shape),
      'versions': process.versions(),
      'parts': found,
  }


def conditioning(networks: variants.Networks) -> types.Conditioning:
  """Random conditioning of one clip."""
  plan, config = networks.chunk, networks.audio.config
  shape = (1, *plan.latent_shape)
  window = 2 * speech.RADIUS + 1
  audio = (1, plan.frames, window, config.layers, config.channels)
  return types.Conditioning(
      reference=_noise(1, shape),
      audio=_noise(2, audio),
      continuity=_noise(3, shape),
      mask=jnp.zeros(shape[:2]),
  )


def _noise(seed: int, shape: tuple[int, ...]) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape)


def _program(part: str, networks: variants.Networks, params):
  """(function, arguments) of a single network."""
  plan = networks.chunk
  latents = _noise(0, (1, *plan.latent_shape))
  if part == 'dit':
    timestep = jnp.full((1,), 500.0)
    given = (params['dit'], latents, timestep, conditioning(networks))
    return networks.velocity, given
  if part == 'vae_encode':
    video = jnp.tanh(_noise(0, (1, plan.frames, plan.height, plan.width, 3)))
    return networks.encode_video, (params['vae'], video)
  if part == 'vae_decode':
    return networks.decode_video, (params['vae'], latents)
  frames = speech.BUFFER_S * plan.fps
  waveform = _noise(0, (frames * speech.SAMPLES_PER_FRAME,))
  encode = lambda weights, sound: networks.encode_audio(weights, sound, frames)
  return encode, (params['audio'], waveform)


def _measure_network(function, args) -> dict[str, float]:
  began = time.perf_counter()
  traced = jax.jit(function).trace(*args)
  compiled = traced.lower().compile()
  compile_s = time.perf_counter() - began
  (times,) = time_runs(lambda: jax.block_until_ready(compiled(*args)))
  return _row(times, compile_s) | _costs(traced.jaxpr, compiled)


def _measure_chunk(networks, params, sampler) -> dict[str, float]:
  """A chunk with streaming audio, from samples to frames on the host, carried
  as the bundle says."""
  video = long_video.LongVideo(
      networks, params, long_video.student_sampler(sampler, None),
      carry=sampler['continuity_carry'],
      color_correction=sampler['color_correction'],
  )
  plan = networks.chunk
  identity, state = video.start(np.zeros((1, plan.height, plan.width, 3)), 0)
  # Longer than any run; what is not given is silence.
  spoken = video.stream([], frames=10**6)
  began = time.perf_counter()
  traced = video.trace(identity, spoken, state)
  compiled = traced.lower().compile()
  compile_s = time.perf_counter() - began
  chunks = video.run(identity, spoken, state)
  (times,) = time_runs(lambda: next(chunks))
  row = _row(times, compile_s) | _costs(traced.jaxpr, compiled)
  audio = jax.jit(_program('audio', networks, params)[0]).trace(
      *_program('audio', networks, params)[1]
  )
  heard = _costs(audio.jaxpr, audio.lower().compile())
  row |= {key: row[key] + value for key, value in heard.items()}
  row['frames_per_s'] = plan.new_frames / row['median_s']
  row['resident_mb'] = process.resident_mb()
  return row


def _row(times: Sequence[float], compile_s: float) -> dict[str, float]:
  return {
      'median_s': float(np.median(times)),
      'min_s': float(min(times)),
      'runs': len(times),
      'compile_s': compile_s,
  }


def _rates(row: dict[str, float], peak: Peak) -> dict[str, float]:
  per_s = row['flops'] / row['median_s']
  return {'flops_per_s': per_s, 'share_of_peak': per_s / peak.flops}


def _costs(closed, compiled) -> dict[str, float]:
  cost = program_cost.xla_cost(closed, compiled)
  return {
      'flops': program_cost.matrix_flops(closed),
      'xla_flops': cost['flops'],
      'xla_bytes': cost['bytes'],
  }
