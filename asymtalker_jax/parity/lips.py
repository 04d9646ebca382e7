"""The outputs of golden files of SyncNet: towers, MFCC, distances, Sync-C."""

from typing import Any

import numpy as np
from scipy import signal

from asymtalker_jax.convert import syncnet as layouts
from asymtalker_jax.evals import sync_confidence
from asymtalker_jax.models.metric import syncnet as networks
from asymtalker_jax.parity import golden as golden_lib

_MEDIAN = 9  # taps of the filter over framewise confidences


def _frames(small: np.ndarray) -> np.ndarray:
  """[T, 224, 224, 3] uint8 BGR: blocks of the recorded frames, textured."""
  large = small.repeat(8, axis=1).repeat(8, axis=2).astype(np.int64)
  height, width = np.ogrid[: large.shape[1], : large.shape[2]]
  texture = (7 * height + 13 * width) % 17 - 8
  return np.clip(large + texture[..., None], 0, 255).astype(np.uint8)


def _recorded_features(lips, speech, vshift: int) -> dict[str, Any]:
  """Distances of recorded embeddings."""
  found = sync_confidence.distances(lips, speech, vshift)
  sync = sync_confidence.summarise(found)
  framewise = np.median(sync.curve) - found[:, np.argmin(sync.curve)]
  return dict(
      dists=found,
      mdist=sync.curve,
      lse_c=[sync.confidence],
      lse_d=[sync.distance],
      offset=[sync.offset],
      framewise_conf=framewise,
      framewise_conf_medfilt9=signal.medfilt(framewise, _MEDIAN),
  )


def syncnet(golden: golden_lib.Golden) -> dict[str, Any]:
  """Outputs of `SyncNetModel.S` and of `SyncNetInstance.evaluate`."""
  params = layouts.convert(golden.weights())
  network = sync_confidence.SyncNet(params)
  frames, vshift = _frames(golden['in.frames_small']), golden.meta['vshift']
  samples = golden['in.audio_i16']
  columns = sync_confidence.mfcc(samples).T.astype(np.float32)
  pairs = np.stack([frames[:5], frames[3:8]]).astype(np.float32)
  speech = np.stack([columns[:, :20], columns[:, 12:32]])
  run = lambda x, method: np.asarray(networks.apply(params, x, method))
  layer = run(pairs[:1], 'lip_layer_1')
  lips = network.lips(frames[..., ::-1])
  heard = network.windows(columns, len(lips))
  found = sync_confidence.distances(lips, heard, vshift)
  sync = sync_confidence.summarise(found)
  return _recorded_features(
      golden['in.im_feat'], golden['in.cc_feat'], vshift
  ) | dict(
      mfcc=columns,
      lip_layer1=layer[:, None].transpose(0, 4, 1, 2, 3),
      forward_lip=run(pairs, 'lips'),
      forward_lipfeat=run(pairs, 'lip_features'),
      forward_aud=run(speech, 'speech'),
      eval_im_feat=lips,
      eval_cc_feat=heard,
      eval_dists=found,
      eval_offset_conf_mindist=[sync.offset, sync.confidence, sync.distance],
  )
