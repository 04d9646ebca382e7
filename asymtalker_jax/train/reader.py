"""Training of the puppet reader: tracks by regression, identity by contrast.

The loss of one batch of P identities, two frames each:
  L = Huber(tracks) + weight * NT-Xent(embeddings)                         (1)
  NT-Xent = -log softmax over the batch of <e_i, e_j> / temperature        (2)
where j is the other frame of the same identity. Half of the frames get the
surroundings of another identity, so that the embedding reads the face and not
the background; a mild blur, JPEG and noise prepare for generated frames.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import time

from absl import logging
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from asymtalker_jax import types
from asymtalker_jax.models.metric import puppet_reader


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
  """Frames drawn from clips.

  Attributes:
    frames: [P, M, H, W, 3] uint8, M frames of each of P clips.
    tracks: [P, M, n] float32 ground truth in the units of the dataset.
    identities: [P] integers.
  """

  frames: np.ndarray
  tracks: np.ndarray
  identities: np.ndarray


def draw_samples(
    clips: Sequence[types.Clip],
    names: Sequence[str],
    frames_per_clip: int,
    seed: int,
) -> Samples:
  """Draws frames spread over each clip.

  Args:
    clips: the training split.
    names: tracks to read, in the order of the network's outputs.
    frames_per_clip: M.
    seed: of the draw.

  Raises:
    ValueError: a track that the clips do not have.
  """
  rng = np.random.default_rng(seed)
  frames, tracks, identities = [], [], []
  for index in range(len(clips)):
    clip = clips[index]
    missing = [name for name in names if name not in clip.tracks]
    if missing:
      raise ValueError(
          f'tracks {missing} missing from the clips: they have '
          f'{sorted(clip.tracks)}'
      )
    # One frame from each of M equal stretches: poses differ within a clip.
    edges = np.linspace(0, len(clip.frames), frames_per_clip + 1)
    at = rng.uniform(edges[:-1], edges[1:]).astype(int)
    frames.append(clip.frames[at])
    tracks.append(np.stack([clip.tracks[name][at] for name in names], -1))
    identities.append(clip.identity)
  return Samples(
      frames=np.stack(frames),
      tracks=np.stack(tracks).astype(np.float32),
      identities=np.asarray(identities),
  )


@functools.cache
def face_window(height: int, width: int) -> np.ndarray:
  """[H, W, 1] float32: 1 on a central ellipse where a head is, 0 in the
  corners, soft between."""
  y, x = np.mgrid[0:height, 0:width].astype(np.float32)
  radius = np.hypot(
      (x / (width - 1) - 0.5) / 0.30, (y / (height - 1) - 0.47) / 0.38
  )
  return np.clip((1.1 - radius) / 0.2, 0.0, 1.0)[..., None]


def swap_surroundings(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Frames [..., H, W, 3] uint8 inside the face window, `others` outside."""
  window = face_window(*frames.shape[-3:-1])
  return np.rint(frames * window + others * (1.0 - window)).astype(np.uint8)


def degrade(frame: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """A frame [H, W, 3] uint8 as a generator might have made it."""
  if rng.random() < 0.5:
    sigma = rng.uniform(0.3, 1.3)
    frame = cv2.GaussianBlur(frame, (0, 0), sigma)
  if rng.random() < 0.15:
    height, width = frame.shape[:2]
    half = cv2.resize(
        frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA
    )
    frame = cv2.resize(half, (width, height), interpolation=cv2.INTER_CUBIC)
  if rng.random() < 0.25:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 90))]
    frame = cv2.imdecode(cv2.imencode('.jpg', frame, quality)[1], 1)
  out = frame.astype(np.float32)
  out = out * rng.uniform(0.96, 1.04, 3) + rng.uniform(-6, 6)
  if rng.random() < 0.25:
    out = out + rng.normal(0, rng.uniform(1, 5), out.shape)
  return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def make_batch(
    samples: Samples, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Two degraded frames of each of `pairs` different identities.

  Returns:
    frames [2 pairs, H, W, 3] uint8, tracks [2 pairs, n]; rows i and i + pairs
    are the same identity.
  """
  first = np.unique(samples.identities, return_index=True)[1]
  rows = rng.choice(first, pairs, replace=False)
  rows = np.concatenate([rows, rows])
  per_clip = samples.frames.shape[1]
  one = rng.integers(0, per_clip, pairs)
  other = (one + rng.integers(1, per_clip, pairs)) % per_clip
  columns = np.concatenate([one, other])
  frames = samples.frames[rows, columns]
  swapped = rng.random(2 * pairs) < 0.5
  surroundings = frames[rng.permutation(2 * pairs)]
  frames = np.where(
      swapped[:, None, None, None],
      swap_surroundings(frames, surroundings),
      frames,
  )
  return (
      np.stack([degrade(frame, rng) for frame in frames]),
      samples.tracks[rows, columns],
  )


def contrast(embedding: jax.Array, temperature: float) -> jax.Array:
  """Equation (2), mean over embeddings [2P, E] paired as in `make_batch`."""
  count = embedding.shape[0]
  logits = embedding @ embedding.T / temperature
  logits = jnp.where(jnp.eye(count, dtype=bool), -1e9, logits)
  partner = (jnp.arange(count) + count // 2) % count
  return optax.softmax_cross_entropy_with_integer_labels(logits, partner).mean()


def loss_fn(
    params: types.Params,
    frames: jax.Array,
    targets: jax.Array,
    model: dict,
    weight: float,
    temperature: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Equation (1).

  Args:
    params: of the reader.
    frames: [2P, H, W, 3] uint8.
    targets: [2P, n] normalised tracks.
    model: the reader config.
    weight: of the identity term.
    temperature: of the identity term.
  """
  read = puppet_reader.apply(
      model, params, frames.astype(jnp.float32) / 127.5 - 1.0
  )
  tracks = optax.huber_loss(read['tracks'], targets).mean()
  identity = contrast(read['embedding'], temperature)
  return tracks + weight * identity, {'tracks': tracks, 'identity': identity}


def make_step(model: dict, train: dict) -> tuple[Callable, Callable]:
  """(init, step): optimiser state of params; one jitted update."""
  rate = optax.warmup_cosine_decay_schedule(
      0.0, train['learning_rate'], train['steps'] // 20, train['steps']
  )
  optimizer = optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.adamw(rate, weight_decay=train['weight_decay']),
  )
  loss = functools.partial(
      loss_fn,
      model=model,
      weight=train['identity_weight'],
      temperature=train['temperature'],
  )

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, frames, targets):
    (_, parts), grads = jax.value_and_grad(loss, has_aux=True)(
        params, frames, targets
    )
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, parts

  return jax.jit(optimizer.init), step


def fit(
    model: dict, train: dict, samples: Samples
) -> tuple[dict, types.Params, list[dict]]:
  """Trains a reader.

  Args:
    model: keys tracks, embedding, widths, features, size.
    train: keys steps, pairs, learning_rate, weight_decay, identity_weight,
      temperature, seed.
    samples: the training frames.

  Returns:
    The model config with the normalisation of the tracks (keys track_mean,
    track_std) added, the parameters, and the losses every 50 steps.

  Raises:
    ValueError: fewer identities than a batch holds, or a loss that is not
      finite.
  """
  known = len(np.unique(samples.identities))
  if known < train['pairs']:
    raise ValueError(
        f'pairs {train["pairs"]}: expected at most {known}, the number of '
        'identities in the training split'
    )
  mean = samples.tracks.mean((0, 1))
  std = samples.tracks.std((0, 1)) + 1e-6
  model = dict(model, track_mean=mean.tolist(), track_std=std.tolist())
  params = puppet_reader.init(model, jax.random.key(train['seed']))
  init, step = make_step(model, train)
  state = init(params)
  rng = np.random.default_rng(train['seed'])
  history, start = [], time.monotonic()
  for count in range(1, train['steps'] + 1):
    frames, tracks = make_batch(samples, train['pairs'], rng)
    params, state, parts = step(params, state, frames, (tracks - mean) / std)
    if count % 50 == 0 or count == train['steps']:
      losses = {name: float(value) for name, value in parts.items()}
      if not np.isfinite(sum(losses.values())):
        raise ValueError(f'loss {losses} at step {count}: expected finite')
      elapsed = time.monotonic() - start
      history.append(dict(step=count, seconds=elapsed, **losses))
      logging.info('reader step %d %s %.0f s', count, losses, elapsed)
  return model, params, history
