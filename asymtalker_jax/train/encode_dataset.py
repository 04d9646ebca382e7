"""Computes latents, reference latents and audio features of a dataset once.

The folder also receives the VAE that made the latents, so that the trainings
after this one need no other argument.
"""

import dataclasses
import functools
import os
from typing import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from asymtalker_jax import bundle as bundle_lib
from asymtalker_jax import temporal_reference_encoding
from asymtalker_jax import types
from asymtalker_jax.inputs import encoded
from asymtalker_jax.inputs import source
from asymtalker_jax.models import variants

VAE_FOLDER = 'vae'
SAMPLES_PER_FRAME = 640
_ROUNDING = 0.01  # More than bfloat16 changes a tensor, 2^-8.


def encode_dataset(
    config: ml_collections.ConfigDict,
    data: str,
    vae: str,
    out: str,
    worker: int = 0,
    workers: int = 1,
) -> dict[str, int]:
  """Encodes every split of a dataset; goes on where it stopped.

  Args:
    config: of `configs/encode.py`.
    data: folder of `asymtalker data build`.
    vae: bundle with a VAE.
    out: folder of the encoded dataset.
    worker: this process writes the shards s with s % workers == worker.
    workers: processes that write into `out`.

  Returns:
    Examples per split.

  Raises:
    ValueError: clips shorter than K windows and one reference frame.
  """
  bundle = bundle_lib.load(vae, parts=('vae', 'audio'))
  networks, params = bundle.networks, bundle.params
  encoders = _encoders(networks, params, config.reference_encoding)
  counts = {}
  for split, count in config.clips.items():
    clips = source.open_clips(data, split)
    clips = clips[: count or len(clips)]
    mirror = config.mirror and split == 'train'
    total = counts[split] = len(clips) * (1 + mirror)
    examples = functools.partial(
        _examples, clips, total, networks, config, encoders
    )
    encoded.write_encoded(
        out, split, examples, total, worker=worker, workers=workers,
        meta=dict(
            # Latents of two VAEs or data sets must not end up in one folder.
            vae=bundle.config['sha256'].get('vae', vae),
            audio=bundle.config['sha256'].get('audio', ''),
            clips=source.fingerprint(clips),
            variant=bundle.config['variant'],
            windows=config.windows,
            references=config.references,
            reference_encoding=config.reference_encoding,
            mirror=mirror,
        ),
        examples_per_shard=config.examples_per_shard,
    )
  if worker == 0:  # Last: a folder of other latents has refused by now.
    bundle_lib.save(
        os.path.join(out, VAE_FOLDER), variant=bundle.config['variant'],
        model=networks.values, params=params, origin=bundle.origin,
    )
  return counts


def reference_encoding_of(data: str) -> str:
  """How an encoded dataset made its reference latents; a model that is trained
  on it must be given them in the same way.

  Raises:
    FileNotFoundError: no encoded training split.
  """
  return encoded.open_encoded(data, 'train').meta['reference_encoding']


def check_vae(data: str, params: types.Params) -> None:
  """Raises ValueError unless a VAE is that of an encoded dataset.

  Args:
    data: folder of the dataset.
    params: of the VAE, rounded to half precision perhaps.
  """
  folder = os.path.join(data, VAE_FOLDER)
  stored = bundle_lib.load(folder, parts=('vae',)).params['vae']
  ours, theirs = (dict(bundle_lib.flatten(tree)) for tree in (params, stored))
  other = [
      name for name in sorted(ours.keys() | theirs.keys())
      if name not in ours or name not in theirs
      or ours[name].shape != theirs[name].shape
      or np.linalg.norm(ours[name] - theirs[name])
      > _ROUNDING * np.linalg.norm(theirs[name])
  ]
  if other:
    raise ValueError(
        f'{data}: encoded with another VAE than the teacher has'
        f' ({len(other)} tensors differ, the first is {other[0]}); expected'
        ' the folder that the teacher was trained on'
    )


def _examples(
    clips, total, networks, config, encoders, start
) -> Iterator[dict]:
  """Encoded examples of the shard that begins with number `start`."""
  indices = range(start, min(start + config.examples_per_shard, total))
  for i in tqdm.tqdm(indices, unit='clip', leave=False, mininterval=5):
    yield encode_clip(clip_at(clips, i), networks, config, *encoders)


def clip_at(clips: source.Clips, index: int) -> types.Clip:
  """Clip `index`; after the last one all come once more, mirrored.

  A mirrored head turns the other way to the same words, so that a network
  cannot learn by heart which way the speaker of a sentence turned.
  """
  clip = clips[index % len(clips)]
  if index < len(clips):
    return clip
  return dataclasses.replace(clip, frames=clip.frames[:, :, ::-1], tracks={})


def encode_clip(
    clip: types.Clip, networks: variants.Networks, config, see, hear
) -> dict[str, np.ndarray]:
  """One encoded example, see `inputs.encoded`.

  Args:
    clip: at least K * new_frames + continuity_frames + 1 frames.
    networks: of the variant.
    config: windows K, references R.
    see: (windows, portraits) -> (latents, reference latents).
    hear: prepared waveform -> features [N, L, A].
  """
  plan = networks.chunk
  used = config.windows * plan.new_frames + plan.continuity_frames
  if len(clip.frames) <= used:
    raise ValueError(
        f'clip has {len(clip.frames)} frames; {config.windows} windows and a'
        f' reference outside them need more than {used}'
    )
  starts = np.arange(config.windows) * plan.new_frames
  windows = np.stack([clip.frames[s : s + plan.frames] for s in starts])
  portraits = clip.frames[outside(used, len(clip.frames), config.references)]
  latents, references = see(windows, portraits)
  audio = hear(networks.prepare_waveform(clip.waveform))
  return {
      'latents': np.asarray(latents, np.float16),
      'reference_latents': np.asarray(references, np.float16),
      'audio': np.asarray(audio[:used], np.float16),
      'identity': np.asarray(clip.identity, np.int64),
  }


def outside(used: int, frames: int, references: int) -> np.ndarray:
  """Frames [R] for reference latents, evenly spread behind the windows.

  The frame right behind them is not among them where there are more: the last
  window would end in the pose of its reference, and a network that learns this
  turns every head back to the portrait.

  Args:
    used: frames that the windows cover.
    frames: of the clip, more than `used`.
    references: R.
  """
  spread = np.linspace(used, frames - 1, references + 1)[1:]
  return spread.round().astype(int)


def _encoders(networks: variants.Networks, params, mode: str):
  """Jitted (windows [K,F,H,W,3], portraits [R,H,W,3]) uint8 -> latents, and
  waveform [S] -> features."""
  # Parameters are arguments: what a function closes over becomes a constant of
  # every program, one for each length of a waveform.
  @jax.jit
  def see(vae, windows, portraits):
    vae_encode = functools.partial(networks.encode_video, vae)
    reference = temporal_reference_encoding.encode_reference(
        _to_unit(portraits), vae_encode, networks.chunk.frames, mode
    )
    return vae_encode(_to_unit(windows)), reference

  @jax.jit
  def hear(audio, waveform):
    frames = round(waveform.shape[0] / SAMPLES_PER_FRAME)
    return networks.encode_audio(audio, waveform, frames)

  held = jax.device_put(params)
  return (
      functools.partial(see, held['vae']), functools.partial(hear, held['audio'])
  )


def _to_unit(frames: jax.Array) -> jax.Array:
  """uint8 -> float32 in [-1, 1]."""
  return frames.astype(jnp.float32) / 127.5 - 1.0
