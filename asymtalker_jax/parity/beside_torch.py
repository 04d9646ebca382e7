"""Speed beside the reference packages: diffusers and transformers, on the CPU.

Each network exists twice with the same random weights, handed over through the
conversion tables, gets the same inputs and runs in turns with its counterpart
in one process, both on all cores. float32 on both sides.

diffusers has no audio: the DiT is compared as the text-to-video network of the
same sizes. The audio encoder is compared at its own 50 Hz.
"""

from collections.abc import Callable, Sequence
import dataclasses
import importlib
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asymtalker_jax.convert import rules
from asymtalker_jax.convert import wan_dit as dit_layouts
from asymtalker_jax.convert import wan_vae as vae_layouts
from asymtalker_jax.convert import wav2vec2 as speech_layouts
from asymtalker_jax.evals import bench
from asymtalker_jax.models import dit
from asymtalker_jax.models import variants
from asymtalker_jax.models import wan_vae
from asymtalker_jax.models import wav2vec2

PARTS = ('dit', 'vae_encode', 'vae_decode', 'audio')
TEXT_TOKENS = 512
SECONDS = 8  # of audio
_SPREAD = 0.02  # of the random weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """One network, twice.

  Attributes:
    ours: runs it here; returns an array.
    theirs: runs the reference; returns an array of the same layout.
  """

  ours: Callable[[], np.ndarray]
  theirs: Callable[[], np.ndarray]


def compare(
    networks: variants.Networks, parts: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Times the parts beside their references.

  Args:
    networks: of a bundle; gives the sizes.
    parts: those of PARTS are compared, others are left out.

  Returns:
    Part -> {'median_s', 'torch_median_s', 'ratio' (ours / theirs),
    'relative_error', 'runs'}, or {'reason'} where the reference package cannot
    build a network of these sizes.

  Raises:
    ValueError: this process does not compute on the CPU.
    ModuleNotFoundError: a reference package is not installed.
  """
  if jax.default_backend() != 'cpu':
    raise ValueError(
        f'--against=torch on {jax.default_backend()}: expected the CPU, as'
        ' with JAX_PLATFORMS=cpu'
    )
  torch = _torch()
  makers = {
      'dit': _dit, 'vae_encode': _vae, 'vae_decode': _vae, 'audio': _audio
  }
  found = {}
  for part in parts:
    if part not in makers:
      continue
    try:
      pair = makers[part](networks, part)
    except _NoReferenceError as reason:
      found[part] = {'reason': str(reason)}
      continue
    with torch.inference_mode():
      ours, theirs = pair.ours(), pair.theirs()
      times, their_times = bench.time_runs(pair.ours, pair.theirs)
    median, their_median = np.median(times), np.median(their_times)
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    found[part] = {
        'median_s': float(median),
        'torch_median_s': float(their_median),
        'ratio': float(median / their_median),
        'relative_error': float(error),
        'runs': len(times),
    }
  return found


class _NoReferenceError(Exception):
  """The reference package has no network like this one."""


def _package(name: str):
  """One of the reference packages.

  Raises:
    ModuleNotFoundError: says how to install it.
  """
  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"--against=torch: {error}; expected pip install -e '.[parity]'"
    ) from error


def _torch():
  torch = _package('torch')
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  return torch


def _random(shapes, seed: int = 0):
  """Weights that let every layer matter: norms near 1, the rest small."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = jax.tree_util.keystr(path)
    centre = float(name.endswith(("['scale']", "['gamma']", "['magnitude']")))
    noise = rng.standard_normal(leaf.shape, np.float32)
    return np.float32(centre) + np.float32(_SPREAD) * noise

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _load(model, params, table: rules.Table):
  """The reference network with our weights.

  Raises:
    ValueError: a weight of the network is not among ours, or the other way.
  """
  torch = _torch()
  tensors = rules.export(params, table)
  found = model.load_state_dict(
      {k: torch.from_numpy(v) for k, v in tensors.items()}, strict=False
  )
  missing = [
      key for key in found.missing_keys
      if not any(re.fullmatch(pattern, key) for pattern in table.ignore)
  ]
  if missing or found.unexpected_keys:
    raise ValueError(
        f'{type(model).__name__}: missing {missing}, unexpected'
        f' {found.unexpected_keys}; the reference package has changed'
    )
  return model.eval()


def _ours(module, params, *args, **kwargs) -> Callable[[], np.ndarray]:
  """The compiled network over fixed arguments."""
  run = jax.jit(lambda p, *a: module.apply({'params': p}, *a, **kwargs))
  params, args = jax.device_put((params, args))
  return lambda: np.asarray(run(params, *args))


def _dit(networks: variants.Networks, part: str) -> Pair:
  """The text-to-video DiT of the same sizes."""
  diffusers = _package('diffusers')

  del part
  config = dataclasses.replace(
      networks.dit.config, cross_attention='text', dtype='float32'
  )
  params = _random(dit_layouts.targets(config))
  model = _load(
      diffusers.WanTransformer3DModel(
          patch_size=config.patch, num_attention_heads=config.heads,
          attention_head_dim=config.width // config.heads,
          in_channels=config.latent_channels,
          out_channels=config.latent_channels, text_dim=config.text_dim,
          freq_dim=config.frequency_dim, ffn_dim=config.ffn,
          num_layers=config.depth, cross_attn_norm=True, eps=config.eps,
      ),
      params, dit_layouts.diffusers_table(config),
  )  # pyformat: disable
  rng = np.random.default_rng(1)
  x = rng.standard_normal((1, *networks.chunk.latent_shape), np.float32)
  text = rng.standard_normal((1, TEXT_TOKENS, config.text_dim), np.float32)
  timestep = np.full((1,), 500.0, np.float32)
  ours = _ours(
      dit.DiT(config), params, x, timestep, None, None, text
  )
  torch = _torch()
  channels_first = np.ascontiguousarray(x.transpose(0, 4, 1, 2, 3))
  inputs = [torch.from_numpy(v) for v in (channels_first, timestep, text)]

  def theirs():
    v = model(*inputs, return_dict=False)[0]
    return v.numpy().transpose(0, 2, 3, 4, 1)

  return Pair(ours=ours, theirs=theirs)


def _vae(networks: variants.Networks, part: str) -> Pair:
  """Encoder or decoder of Wan's VAE."""
  diffusers = _package('diffusers')

  config = networks.vae.config
  if not isinstance(networks.vae, wan_vae.WanVae):
    raise _NoReferenceError('compared are VAEs of Wan only')
  if config.patch_size != 1 or any(s != 2 for s, _ in config.strides):
    raise _NoReferenceError(
        f'AutoencoderKLWan halves the picture after every stage; this VAE has'
        f' patch_size {config.patch_size} and strides {config.strides}'
    )
  config = dataclasses.replace(config, dtype='float32')
  channels = config.latent_channels
  plain = ([0.0] * channels, [1.0] * channels)  # mean and deviation
  params = _random(vae_layouts.targets(config))
  params |= {
      'latent_mean': np.zeros(channels, np.float32),
      'latent_std': np.ones(channels, np.float32),
  }
  model = _load(
      diffusers.AutoencoderKLWan(
          base_dim=config.base_channels, z_dim=channels,
          dim_mult=list(config.multipliers),
          num_res_blocks=config.res_blocks,
          temperal_downsample=[t == 2 for _, t in config.strides],
      ),
      params, vae_layouts.diffusers_table(config, *plain),
  )  # pyformat: disable
  rng = np.random.default_rng(1)
  plan = networks.chunk
  if part == 'vae_encode':
    size = (1, plan.frames, plan.height, plan.width, 3)
    x, method = np.tanh(rng.standard_normal(size, np.float32)), 'encode'
  else:
    size = (1, *plan.latent_shape)
    x, method = rng.standard_normal(size, np.float32), 'decode'
  torch = _torch()
  channels_first = np.ascontiguousarray(x.transpose(0, 4, 1, 2, 3))
  given = torch.from_numpy(channels_first)

  def theirs():
    found = getattr(model, method)(given, return_dict=False)[0]
    found = found.mode() if part == 'vae_encode' else found
    return found.numpy().transpose(0, 2, 3, 4, 1)

  ours = _ours(wan_vae.WanVae(config), params, x, method=method)
  return Pair(ours=ours, theirs=theirs)


def _audio(networks: variants.Networks, part: str) -> Pair:
  """wav2vec2 with all hidden states."""
  transformers = _package('transformers')

  del part
  if not isinstance(networks.audio, wav2vec2.Wav2Vec2Encoder):
    raise _NoReferenceError('compared are wav2vec2 encoders only')
  config = dataclasses.replace(networks.audio.config, dtype='float32')
  params = _random(speech_layouts.targets(config))
  published = {
      theirs: getattr(config, ours)
      for ours, theirs in speech_layouts.SIZES.items()
  }
  model = transformers.Wav2Vec2Model(
      transformers.Wav2Vec2Config(
          num_feat_extract_layers=len(config.conv_kernels), **published
      )
  )
  table = speech_layouts.table_of(model.state_dict())
  model = _load(model, params, table)
  rng = np.random.default_rng(1)
  samples = SECONDS * wav2vec2.SAMPLE_RATE_HZ
  sound = rng.standard_normal((1, samples), np.float32)
  torch = _torch()
  given = torch.from_numpy(sound)

  def theirs():
    states = model(given, output_hidden_states=True).hidden_states
    return torch.stack(states[1:], 2).numpy()

  run = jax.jit(lambda p, x: jnp.stack(
      wav2vec2.Wav2Vec2(config).apply({'params': p}, x)[1:], 2
  ))
  params, sound = jax.device_put((params, sound))
  return Pair(ours=lambda: np.asarray(run(params, sound)), theirs=theirs)
