"""Blinks and head motion: known answers, a filmed track, made-up networks."""

import numpy as np
import pytest

from asymtalker_jax import types
from asymtalker_jax.evals import blinks
from asymtalker_jax.evals import faces
from asymtalker_jax.evals import landmarks

# `blinks.opening` of 12 s of a filmed speaker in thousandths, and in which
# frames the lids fall, as seen by eye; in frame 103 for one frame only.
FILMED = np.array("""
  231 251 246 265 290 312 338 321 341 334 355 355 353 339 336 341 341 351 343
  341 347 363 357 341 336 333 331 332 202 47 76 212 262 297 298 307 306 306
  315 318 319 323 322 320 316 309 308 312 304 299 301 305 311 307 297 21 14 14
  258 284 303 312 309 315 330 322 317 321 323 340 329 326 323 318 310 311 312
  319 314 311 310 320 325 323 304 307 332 334 323 321 309 292 290 314 309 316
  317 306 322 318 326 320 277 106 252 312 327 327 331 345 343 353 372 387 371
  367 371 366 372 353 358 327 262 272 339 358 383 380 381 378 374 240 62 282
  320 352 349 348 342 349 348 345 345 347 342 345 348 345 340 342 345 345 348
  345 310 313 316 315 304 305 293 294 304 253 9 13 90 229 270 271 279 286 284
  298 309 325 319 325 316 307 304 307 309 310 318 319 347 333 332 331 343 339
  336 274 47 40 108 208 264 262 267 286 297 317 324 331 337 346 348 361 355
  354 346 352 344 340 346 346 349 354 347 349 345 332 124 73 328 326 329 323
  317 122 83 268 282 297 297 300 310 315 316 317 312 310 312 311 311 310 310
  315 303 203 201 269 268 264 246 49 72 222 254 266 284 299 301 298 298 294
  257 52 14 61 243 304 304 306 316 324 313 320 333 335 344 340 348 335 338 334
  342 340 337 336 333 334 331 333 285 96 168 259
""".split(), float) / 1000  # pyformat: disable
FALLS = [28, 55, 103, 131, 164, 194, 224, 231, 257, 269, 297]
SMALL = np.zeros((120, 160, 3), np.uint8)
RNG = np.random.default_rng(0)
FACE = RNG.normal(0.0, 20.0, (landmarks.POINTS, 3))


def open_eyes(count=100, **closed):
  """[count] track of open eyes; `at_10=3` shuts them in frames 10, 11, 12."""
  track = np.ones(count)
  for key, length in closed.items():
    start = int(key.removeprefix('at_'))
    track[start : start + length] = 0.1
  return track


@pytest.mark.parametrize('track, expected', [
    (open_eyes(), []),
    (open_eyes(at_10=3, at_40=1, at_70=15), [(10, 13), (40, 41), (70, 85)]),
    (open_eyes(at_40=16), []),  # Eyes that are closed.
    (open_eyes(at_0=4, at_50=4), [(50, 54)]),  # Its fall was not seen.
    (open_eyes(at_1=4), [(1, 5)]),
    (open_eyes(at_97=3), [(97, 100)]),  # Ends with closed eyes.
    (open_eyes(at_80=20), []),  # Ends with eyes that stay closed.
    (np.zeros(10), []),
    (np.array([1.0]), []),
])
def test_what_counts_as_a_blink(track, expected):
  assert blinks.find(track) == expected


def test_a_lid_has_to_fall_and_to_rise_again():
  half, shut = 0.6, 0.2
  track = open_eyes()
  track[20:24] = half  # Not shut.
  track[40:46] = [half, shut, half, shut, half, half]  # One blink.
  track[60:65] = [shut, shut, 0.75, shut, shut]  # Two.
  assert blinks.find(track) == [(40, 46), (60, 62), (63, 65)]


def test_openness_follows_how_far_eyes_are_open_now():
  wide, narrow = np.full(300, 0.4), np.full(300, 0.2)
  track = np.concatenate([wide, narrow])
  track[[100, 500]] /= 4
  found = blinks.openness(track)
  assert blinks.find(found) == [(100, 101), (500, 501)]
  np.testing.assert_allclose(found[[50, 100, 500, 550]], [1, 0.25, 0.25, 1])
  short = np.full(12, 0.16)
  short[5] = 0.07
  assert blinks.find(blinks.openness(short)) == [(5, 6)]
  closed = np.full(300, 0.05)  # Closed lids whose points tremble.
  closed[[100, 200]] = 0.02
  assert blinks.find(blinks.openness(closed)) == []


def test_blinks_of_a_filmed_track_are_those_that_are_seen():
  found = blinks.find(blinks.openness(FILMED))
  assert [start for start, _ in found] == FALLS
  assert (103, 104) in found and found[-1] == (297, 299)
  # Half the size of the eyes changes nothing.
  assert blinks.find(blinks.openness(FILMED * 0.6)) == found


def test_opening_is_height_over_width_of_both_eyes():
  points = np.zeros((2, landmarks.POINTS, 3))
  almond = np.array([
      [0, 0], [10, 3], [20, 3], [30, 0], [20, -3], [10, -3]
  ], float)  # pyformat: disable
  for eye in blinks._EYES:
    points[:, eye, :2] = almond
  points[1, blinks._EYES[1], 1] = 0.0  # A wink.
  np.testing.assert_allclose(blinks.opening(points), [0.2, 0.1])
  np.testing.assert_allclose(blinks.opening(7.0 * points + 3.0), [0.2, 0.1])


def turned(yaw, pitch, roll=0.0):
  """FACE, turned by angles in degrees; larger and elsewhere in every frame."""
  x, y, z = np.radians([pitch, yaw, roll])
  around_x = np.array([
      [1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]
  ])  # pyformat: disable
  around_y = np.array([
      [np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]
  ])  # pyformat: disable
  around_z = np.array([
      [np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]
  ])  # pyformat: disable
  turn = around_y @ around_x @ around_z
  return RNG.uniform(0.5, 2.0) * FACE @ turn.T + RNG.uniform(0, 99, 3)


def test_head_angles_are_those_by_which_the_head_turned():
  yaw, pitch = [0, 10, -25, 40, 0], [0, -5, 20, 10, 30]
  points = np.stack([
      turned(*angles) for angles in zip(yaw, pitch, [0, 8, 0, 3, 9])
  ])
  mouth = np.setdiff1d(np.arange(landmarks.POINTS), blinks.RIGID)
  points[:, mouth] += RNG.normal(0, 9, points[:, mouth].shape)  # It speaks.
  found = blinks.head_angles(points)
  np.testing.assert_allclose(found['yaw'], yaw, atol=1e-9)
  np.testing.assert_allclose(found['pitch'], pitch, atol=1e-9)


def test_a_face_turned_inside_out_is_not_a_head_that_looks_back():
  flat = FACE * [1.0, 1.0, 0.1]
  found = blinks.head_angles(np.stack([flat, flat * [1, 1, -1]]))
  assert abs(found['yaw'][1]) < 20 and abs(found['pitch'][1]) < 20


def detect(frame):
  """A face where a frame is not black, as `faces.yunet` reports it."""
  if not frame.any():
    return np.zeros((0, 15))
  points = [60, 40, 100, 40, 80, 60, 65, 80, 95, 80]
  return np.array([[50.0, 20.0, 60.0, 80.0, *points, 0.9]])


def look(frame, box, eyes):
  """Points of a face that red opens and green turns; blue hides it."""
  np.testing.assert_allclose(box, [50, 20, 60, 80])
  np.testing.assert_allclose(eyes, [[60, 40], [100, 40]])
  red, green, blue = frame[0, 0].astype(float)
  if blue:
    return None
  x = np.radians(green)
  turn = np.array([
      [np.cos(x), 0, np.sin(x)], [0, 1, 0], [-np.sin(x), 0, np.cos(x)]
  ])  # pyformat: disable
  points = FACE @ turn.T
  for eye in blinks._EYES:
    points[eye[[1, 2]]] = points[eye[[0, 3]]] + [0.0, red / 100, 0.0]
    points[eye[[5, 4]]] = points[eye[[0, 3]]] - [0.0, red / 100, 0.0]
  return points


def film(count, shut=(), swing=0, hidden=()):
  """[count, 120, 160, 3] with blinks in the frames of `shut`."""
  frames = np.tile(SMALL, (count, 1, 1, 1))
  frames[..., 0] = 250
  frames[list(shut), ..., 0] = 5
  frames[..., 1] = (swing * (np.arange(count) % 2))[:, None, None]
  frames[list(hidden), ..., 2] = 1
  return frames


def measured(videos):
  metric = blinks.Blinks(look, detect)
  rows = []
  for name, frames in videos.items():
    clip = types.Clip(
        frames=frames, waveform=np.zeros(640 * len(frames), np.float32),
        identity=0,
    )  # pyformat: disable
    rows.append(metric.update(name, frames, clip, frames[0]))
  return metric, rows


def test_the_rate_is_over_all_videos_and_motion_relative_to_the_truth():
  truth, _ = measured({
      'a': film(750, shut=[100, 300, 500], swing=20), 'b': film(250, swing=20),
  })  # pyformat: disable
  fake, rows = measured({'a': film(750, shut=[9], swing=10)})
  assert rows[0]['blinks'] == 1.0 and rows[0]['blinks_per_min'] == 2.0
  real = truth.figures(truth)
  assert real['blinks'] == 3.0 and truth.samples == 2
  np.testing.assert_allclose(real['blinks_per_min'], 4.5)  # In 40 s.
  np.testing.assert_allclose(
      [real['yaw_std'], real['pitch_std'], real['head_motion']], [10, 0, 1],
      atol=1e-9,
  )
  found = fake.figures(truth)
  np.testing.assert_allclose(found['head_motion'], 0.5)
  np.testing.assert_allclose(found['yaw_std'], 5.0)
  np.testing.assert_allclose(truth.figures(fake)['head_motion'], 2.0)
  assert set(found) == {
      'blinks', 'blinks_per_min', 'yaw_std', 'pitch_std', 'head_motion'
  }
  still, _ = measured({'a': film(50)})
  assert np.isnan(fake.figures(still)['head_motion'])


def test_frames_without_points_are_bridged_and_many_are_refused():
  most = faces.MAX_GAP_FRAMES
  _, rows = measured({'a': film(200, shut=[150], hidden=range(50, 50 + most))})
  assert rows[0]['blinks'] == 1.0
  # Closed for 27 frames, of which 20 are not seen.
  long = film(200, shut=range(100, 127), hidden=range(104, 124))
  assert measured({'a': long})[1][0]['blinks'] == 0.0
  for hidden in (range(50, 51 + most), range(200), range(most + 1)):
    with pytest.raises(ValueError, match='no points of a face for .* of 200'):
      measured({'a': film(200, hidden=hidden)})
  with pytest.raises(ValueError, match='no face in 120 frames'):
    measured({'a': np.tile(SMALL, (120, 1, 1, 1))})
