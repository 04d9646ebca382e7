"""The moving parts of a face as points in head coordinates.

Each function returns polygons [N, 3] for one puppet and one state; the renderer
projects and paints them.
"""

import numpy as np

from data.puppets import head

EYE_T = np.linspace(-1, 1, 17)
MOUTH_T = np.linspace(-1, 1, 21)
MAX_OPENING = 0.40  # head units between the lips at opening 1
JAW = 0.28  # how much of it the chin follows


def eye(identity, skull: head.Shell, side: int, blink: float):
  """(opening, crease, center) of one eye.

  Args:
    identity: the puppet.
    skull: its skin surface.
    side: +1 for the eye at the viewer's right, -1 left.
    blink: 0 open to 1 closed.

  Returns:
    opening: [34, 3] outline of the visible eyeball, upper lid first.
    crease: [17, 3] fold above the lid.
    center: (x, y) of the eye on the face.
  """
  x0, y0 = side * identity.eye_spacing, identity.eye_y
  arch = (1 - EYE_T**2) ** 0.65
  tilt = identity.eye_tilt * identity.eye_width * EYE_T * side
  low = -0.72 * identity.eye_height * arch * (1 - 0.25 * blink)
  high = identity.eye_height * (1.0 - 1.62 * blink) * arch
  high = np.maximum(high, low + 0.004)
  x = x0 + identity.eye_width * EYE_T
  fold = 1.36 * identity.eye_height * (1 - 0.25 * blink) * arch + 0.012
  upper, lower, crease = skull.front(
      np.stack([x, x, x]), y0 + tilt + np.stack([high, low, fold]),
      np.array([[0.02], [0.01], [0.02]]))
  return np.concatenate([upper, lower[::-1]]), crease, (x0, y0)


def brow(identity, skull: head.Shell, side: int, lift: float) -> np.ndarray:
  """[N, 3] outline of one brow, raised by `lift` head units."""
  t = np.linspace(-1, 1, 13)
  inner = -side * t  # +1 at the nose
  x = side * identity.eye_spacing + 0.21 * t
  y = identity.eye_y + identity.brow_y + lift - 0.07 * t**2
  y = y + identity.brow_arch * (1 - (t - 0.25 * side) ** 2)
  y = y - identity.brow_tilt * 0.21 * inner
  half = identity.brow_thickness * (0.55 + 0.45 * inner) * (
      1 - np.abs(t) ** 6) + 0.008
  high, low = skull.front(np.stack([x, x]), np.stack([y + half, y - half]),
                          0.03)
  return np.concatenate([high, low[::-1]])


def nose(identity, skull: head.Shell):
  """(shadow, tip, nostrils, ridge) of the nose.

  Returns:
    shadow: [N, 3] shaded flank and underside, from brow to wing.
    wings: [N, 3] outline of the lower nose.
    nostrils: [2, 3] centers.
    ridge: [N, 3] line of light.
  """
  top = identity.eye_y + 0.06
  base = identity.eye_y - identity.nose_length
  half, lift = identity.nose_width, identity.nose_lift
  t = np.linspace(0, 1, 9)
  profile = lift * t**1.4
  y = top + (base + 0.03 - top) * t
  ridge = skull.front(-0.0 * t, y, profile + 0.03)
  flank = skull.front(0.03 + (half * 0.85 - 0.03) * t**1.8, y, 0.25 * profile)
  shadow = np.concatenate([ridge + np.array([0.012, 0, 0]), flank[::-1]])
  a = np.linspace(0, 2 * np.pi, 24, endpoint=False)
  x = half * np.cos(a)
  wings = skull.front(x, base + 0.012 + np.where(
      np.sin(a) > 0, 0.085, 0.055) * np.sin(a) + 0.02 * np.cos(a) ** 2,
                      lift * (1 - 0.75 * np.cos(a) ** 2))
  x = np.array([-0.46, 0.46]) * half
  nostrils = skull.front(x, np.full(2, base - 0.014), 0.7 * lift)
  return shadow, wings, nostrils, ridge[3:]


def mouth_shape(identity, opening: float, width: float):
  """(half width, upper lift, lower drop) of the inner lip line, head units."""
  if width < 0.5:
    factor = 0.58 + 0.84 * width
  else:
    factor = 1.0 + 0.40 * (width - 0.5)
  gap = MAX_OPENING * opening
  return identity.mouth_half_width * factor, 0.24 * gap, 0.76 * gap


def mouth(identity, skull: head.Shell, opening: float, width: float,
          smile: float):
  """Lips and what is seen between them.

  Args:
    identity: the puppet.
    skull: its skin surface.
    opening: 0 closed .. 1 as open as speech gets.
    width: 0 rounded, 0.5 neutral, 1 spread.
    smile: lift of the corners, head units.

  Returns:
    Dict of [N, 3] polygons: upper and lower (lips), inner (the gap), line
    (where the lips meet), teeth_up, teeth_low.
  """
  half, lift, drop = mouth_shape(identity, opening, width)
  t, y0 = MOUTH_T, identity.mouth_y
  pucker = max(0.0, 0.5 - width)
  thick = identity.lip_thickness * (1 + 0.5 * pucker - 0.12 * opening)
  power = 0.62 + 0.2 * (width - 0.5)
  arch = (1 - t**2) ** power
  curve = smile * (t**2 - 0.35)
  x, out = half * t, half * (1.0 + 0.10 * (thick / 0.08)) * t
  raised = 0.03 + 0.14 * pucker
  bow = 1 - 0.30 * np.exp(-((t / 0.16) ** 2))
  reach = 0.92 * half * t
  up, low = y0 + lift * arch + curve, y0 - drop * arch + curve
  # One row per curve, so that the surface is looked up once.
  lines = skull.front(
      np.stack([out, x, x, out, reach, reach, 0.8 * reach, 0.8 * reach]),
      np.stack([up + 0.82 * thick * (1 - t**2) ** 0.75 * bow, up, low,
                low - 1.12 * thick * (1 - t**2) ** 0.6, y0 + 0.11 + curve,
                y0 - 0.012 - 0.03 * opening + 0.02 * t**2,
                y0 - drop + 0.018 - 0.05 * t**2, y0 - drop - 0.12 + 0 * t]),
      np.array([raised] * 4 + [-0.02] * 2 + [-0.04] * 2)[:, None])

  def between(first: int, second: int) -> np.ndarray:
    return np.concatenate([lines[first], lines[second][::-1]])

  shape = {'upper': between(0, 1), 'lower': between(2, 3),
           'inner': between(1, 2), 'line': lines[1],
           'teeth_up': between(4, 5), 'teeth_low': between(6, 7)}
  return shape


def tongue(identity, skull: head.Shell, opening: float, width: float,
           raised: float) -> np.ndarray:
  """[N, 3] outline of the tongue; `raised` 0 flat .. 1 behind the teeth."""
  half, _, drop = mouth_shape(identity, opening, width)
  a = np.linspace(0, 2 * np.pi, 20, endpoint=False)
  y = identity.mouth_y - drop * (1 - 0.55 * raised) + 0.03 * (raised - 0.4)
  return skull.front(0.62 * half * np.cos(a), y + (0.05 + 0.28 * drop)
                     * np.sin(a) * (1 - 0.3 * raised), -0.06)


def ear(identity, skull: head.Shell, side: int) -> np.ndarray:
  """[N, 3] outline of one ear, a tilted leaf at the side of the head."""
  a = np.linspace(0, 2 * np.pi, 22, endpoint=False)
  size = identity.ear_size
  w = float(skull.slices(np.array([-0.02]))[0][0])
  out = (0.5 + 0.5 * np.cos(a)) * (0.85 + 0.25 * np.sin(a))
  return np.stack([side * (w - 0.03 + 0.14 * size * out),
                   -0.04 + 0.20 * size * np.sin(a),
                   -0.02 - 0.13 * out], -1)


def glasses(identity, skull: head.Shell, side: int):
  """(lens outline [N, 3], arm [2, 3]) of one side of the glasses."""
  a = np.linspace(0, 2 * np.pi, 32, endpoint=False)
  power = {'round': 1.0, 'square': 0.45, 'wide': 0.6}[identity.glasses]
  rx, ry = {'round': (0.215, 0.205), 'square': (0.235, 0.185),
            'wide': (0.25, 0.165)}[identity.glasses]
  c, s = np.cos(a), np.sin(a)
  x = side * (identity.eye_spacing + 0.005) + rx * np.sign(c) * np.abs(c)**power
  y = identity.eye_y - 0.025 + ry * np.sign(s) * np.abs(s)**power
  front = float(skull.front(np.zeros(1), np.array([identity.eye_y]))[0, 2])
  lens = np.stack([x, y, front + 0.12 - 0.35 * np.maximum(
      np.abs(x) - 0.1, 0) ** 1.5], -1)
  hinge = lens[0 if side > 0 else 16]
  w = float(skull.slices(np.array([0.02]))[0][0])
  arm = np.stack([hinge, np.array([side * (w + 0.02), identity.eye_y + 0.03,
                                   0.0])])
  return lens, arm


def beard(identity, skull: head.Shell, pose, drop: float):
  """List of [N, 3] polygons of facial hair around the mouth."""
  kind, y0 = identity.beard, identity.mouth_y
  shapes = []
  if kind == 'full':
    rim = float(skull.rim(np.array([-0.3]), pose)[0])
    lon = np.linspace(rim - np.pi, rim, 41)
    degrees = np.abs(np.degrees(lon))
    line = np.interp(degrees, (0, 22, 32, 45, 62, 76, 100),
                     (y0 + 0.165, y0 + 0.15, y0 - 0.02, y0 + 0.02, -0.26,
                      -0.02, 0.05))
    edge = skull.point(lon, line, 0.015)
    y = np.sin(np.linspace(np.arcsin(-0.1), -np.pi / 2, 18))
    right = skull.silhouette(y, pose, 1) * np.array([1.03, 1.06, 1.03])
    left = skull.silhouette(y, pose, -1) * np.array([1.03, 1.06, 1.03])
    outline = np.concatenate([edge, right[y < line[-1]],
                              left[::-1][(y < line[0])[::-1]]])
    shapes.append(head.jaw_drop(outline, y0, drop))
  if kind in ('moustache', 'goatee'):
    t = np.linspace(-1, 1, 15)
    x = 0.86 * identity.mouth_half_width * t
    high = y0 + 0.165 - 0.05 * t**2
    low = y0 + 0.075 - 0.09 * t**2
    shapes.append(np.concatenate([skull.front(x, high, 0.04),
                                  skull.front(x, low, 0.04)[::-1]]))
  if kind == 'goatee':
    a = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    chin = skull.front(0.23 * np.cos(a), -0.85 + np.where(
        np.sin(a) > 0, 0.12, 0.22) * np.sin(a), 0.03)
    shapes.append(head.jaw_drop(chin, y0, drop))
  return shapes
