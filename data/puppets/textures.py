"""What is painted once per puppet: skin, hair, clothes and background images.

Skin and hair textures are indexed by (height, longitude) of head.Shell and are
warped onto the head in every frame; the other images are canvas pixels.
"""

import cv2
import numpy as np

from data.puppets.head import Camera, smoothstep

SKIN_LON = np.radians(125.0)  # the skin texture spans longitudes +- this
SKIN_TOP, SKIN_BOTTOM = 1.15, -1.25
HAIR_TOP, HAIR_BOTTOM = 1.35, -2.4
SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def fixed(points: np.ndarray) -> np.ndarray:
  """Points [N, 2] in OpenCV's fixed-point drawing coordinates."""
  return np.rint((points - 0.5) * (1 << SHIFT)).astype(np.int32)


def fill(image: np.ndarray, points: np.ndarray, color) -> None:
  """Fills the polygon [N, 2] antialiased."""
  cv2.fillPoly(image, [fixed(points)], color, cv2.LINE_AA, SHIFT)


def stroke(image: np.ndarray, points: np.ndarray, color, width: float,
           closed: bool = False) -> None:
  """Draws the polyline [N, 2] with a width in pixels, antialiased."""
  cv2.polylines(image, [fixed(points)], closed, color,
                max(1, round(width)), cv2.LINE_AA, SHIFT)


def shade(color, factor: float) -> tuple[float, float, float]:
  """`color` times factor, or towards white where factor > 1."""
  if factor <= 1:
    return tuple(c * factor for c in color)
  return tuple(c + (255 - c) * (factor - 1) for c in color)


def mix(a, b, weight: float) -> tuple[float, float, float]:
  """(1 - weight) a + weight b of two colours."""
  return tuple((1 - weight) * x + weight * y for x, y in zip(a, b))


def _bump(lon, y, at_lon, at_y, width, height):
  return np.exp(-(((lon - np.radians(at_lon)) / np.radians(width)) ** 2)
                - (((y - at_y) / height) ** 2))


def skin(identity, rows: int) -> np.ndarray:
  """[rows, rows, 3] uint8 skin with its soft light, blush and freckles."""
  lon, y = np.meshgrid(np.linspace(-SKIN_LON, SKIN_LON, rows),
                       np.linspace(SKIN_TOP, SKIN_BOTTOM, rows))
  base = np.array(identity.skin_color)
  light = 1.0 - 0.30 * smoothstep((np.abs(lon) - 0.45) / 1.2)
  light += 0.06 * np.clip(-np.sin(lon), -1, 1) + 0.05 * np.clip(y, -1, 1)
  light += 0.07 * _bump(lon, y, -8, 0.5, 34, 0.3)
  light += 0.05 * _bump(lon, y, 0, -0.84, 16, 0.10)
  light -= 0.10 * _bump(lon, y, 0, identity.mouth_y - 0.19, 15, 0.055)
  light -= 0.16 * smoothstep((-0.82 - y) / 0.3)
  x = np.sin(lon) * identity.head_width
  for side in (-1, 1):
    socket = np.exp(-(((x - side * identity.eye_spacing) / 0.2) ** 2)
                    - (((y - identity.eye_y - 0.04) / 0.15) ** 2))
    light -= 0.10 * socket
    light += 0.06 * _bump(lon, y, side * 34, -0.2, 14, 0.12)
  image = base * light[..., None]
  red = np.array([1.0, 0.62, 0.58])
  for side in (-1, 1):
    blush = 0.32 * identity.blush * _bump(lon, y, side * 36, -0.33, 15, 0.16)
    image *= 1 - blush[..., None] * (1 - red)
  if identity.beard in ('stubble', 'full', 'goatee', 'moustache'):
    amount = 0.20 if identity.beard == 'stubble' else 0.08
    area = smoothstep((-0.34 - y + 0.25 * np.abs(lon)) / 0.2)
    image += amount * area[..., None] * (np.array(identity.hair_color) - image)
  image = np.clip(image, 0, 255).astype(np.uint8)
  _freckles(image, identity)
  return image


def _freckles(image: np.ndarray, identity) -> None:
  rng = np.random.default_rng([0xF4EC, identity.seed])
  rows = image.shape[0]
  tone = shade(identity.skin_color, 0.72)
  for _ in range(identity.freckles):
    lon = rng.choice([-1, 1]) * np.radians(rng.uniform(6, 48))
    y = rng.normal(-0.2, 0.08)
    u = (lon + SKIN_LON) / (2 * SKIN_LON) * rows
    v = (SKIN_TOP - y) / (SKIN_TOP - SKIN_BOTTOM) * rows
    cv2.circle(image, tuple(fixed(np.array([u, v])).tolist()),
               int(rows * 0.006 * (1 << SHIFT)), tone, -1, cv2.LINE_AA, SHIFT)


def hair(identity, color, rows: int, strands: float = 1.0) -> np.ndarray:
  """[rows, rows, 3] uint8 hair: strands, a band of light, darker tips."""
  rng = np.random.default_rng([0x4A18, identity.seed])
  lon, y = np.meshgrid(np.linspace(-np.pi, np.pi, rows),
                       np.linspace(HAIR_TOP, HAIR_BOTTOM, rows))
  noise = rng.standard_normal((4, rows)).cumsum(axis=0)
  strand = cv2.GaussianBlur(rng.standard_normal((1, rows)), (0, 0), 1.0)
  strand = strand / strand.std() + 0.5 * noise[0] / noise[0].std()
  # Strands sway sideways with height, otherwise they look like a comb.
  sway = np.sin(2.1 * y + 6 * identity.background_phase) * 0.03 * rows
  columns = (np.arange(rows)[None] + sway).astype(np.float32) % (rows - 1)
  field = cv2.remap(np.repeat(strand.astype(np.float32), rows, 0), columns,
                    np.repeat(np.arange(rows, dtype=np.float32)[:, None],
                              rows, 1), cv2.INTER_LINEAR)
  light = 0.92 + 0.07 * strands * field
  light += 0.26 * np.exp(-(((y - 0.72 - 0.05 * field) / 0.16) ** 2)) * np.exp(
      -((lon / 1.15 + 0.25) ** 2))
  light -= 0.25 * smoothstep((np.abs(lon) - 0.7) / 1.1)
  light -= 0.16 * smoothstep((0.2 - y) / 1.8)
  light = np.clip(light, 0.35, 1.35)[..., None]
  base = np.array(color)
  image = base * light + np.maximum(light - 1, 0) * (0.5 * (255 - base))
  return np.clip(image, 0, 255).astype(np.uint8)


def background(identity, pixels: int) -> np.ndarray:
  """[pixels, pixels, 3] uint8: what stands still behind the puppet."""
  first = np.array(identity.background_color)
  second = np.array(identity.background_second)
  axis = (np.arange(pixels) + 0.5) / pixels
  x, y = np.meshgrid(axis, axis)
  phase = identity.background_phase
  kind = identity.background
  weight = smoothstep(y)
  if kind == 'radial':
    weight = smoothstep(np.hypot(x - 0.5, y - 0.42) / 0.75)
  elif kind == 'diagonal':
    weight = smoothstep((x * np.cos(phase * 6.3) + y * np.sin(phase * 6.3)
                         + 0.7) / 1.6)
  elif kind == 'stripes':
    count = 4 + int(phase * 5)
    wave = np.sin(2 * np.pi * count * (x + 0.3 * (phase - 0.5) * y))
    weight = 0.35 * smoothstep(0.5 + 2.2 * wave) + 0.4 * y
  elif kind == 'wall':
    weight = 0.25 * y + 0.75 * smoothstep((y - 0.55 - 0.2 * phase) * 60)
  image = first + weight[..., None] * (second - first)
  image = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
  if kind == 'circles':
    rng = np.random.default_rng([0xC1C, identity.seed])
    layer = image.copy()
    for _ in range(11):
      center = fixed(rng.uniform(0, pixels, 2)).tolist()
      radius = int(pixels * rng.uniform(0.04, 0.13) * (1 << SHIFT))
      cv2.circle(layer, center, radius, shade(identity.background_color, 1.4),
                 -1, cv2.LINE_AA, SHIFT)
    image = cv2.addWeighted(layer, 0.38, image, 0.62, 0)
  return image


def body_outline(identity) -> np.ndarray:
  """[N, 2] outline of neck opening, shoulders and arms, head units."""
  neck, width = identity.neck_width + 0.08, identity.shoulder_width
  right = np.array([
      [neck * 0.55, -1.30], [neck, -1.26], [neck + 0.16, -1.33],
      [neck + 0.5 * (width - neck), -1.44], [width - 0.16, -1.54],
      [width + 0.02, -1.68], [width + 0.12, -1.95], [width + 0.18, -2.6]])
  t = np.linspace(0, len(right) - 1, 40)
  curve = np.stack([np.interp(t, np.arange(len(right)), right[:, i])
                    for i in range(2)], axis=-1)
  kernel = np.array([1, 2, 3, 2, 1]) / 9
  for i in range(2):
    padded = np.pad(curve[:, i], 2, mode='edge')
    curve[:, i] = np.convolve(padded, kernel, mode='valid')
  left = curve[::-1] * np.array([-1, 1])
  return np.concatenate([left, curve])


def body(identity, camera: Camera, pixels: int):
  """(image, mask): clothes on a canvas, uint8 [pixels, pixels, 3] and [.., ..].

  The mask leaves the neck opening free.
  """
  color, accent = identity.clothes_color, identity.accent_color
  image = np.empty((pixels, pixels, 3), np.uint8)
  rows = np.linspace(0, 1, pixels)[:, None, None]
  columns = np.linspace(-1, 1, pixels)[None, :, None]
  light = 1.12 - 0.30 * np.abs(columns) ** 1.5 - 0.12 * columns - 0.22 * (
      smoothstep((rows - 0.75) / 0.25))
  image[:] = np.clip(np.array(color) * light, 0, 255)
  mask = np.zeros((pixels, pixels), np.uint8)
  cv2.fillPoly(mask, [fixed(camera.plane(body_outline(identity)))], 255, 8,
               SHIFT)
  _garment(image, mask, identity, camera, color, accent)
  return image, mask


def _opening(neck: float, depth: float, power: float) -> np.ndarray:
  """[N, 2] neck opening: a bowl from shoulder to shoulder of the neck."""
  x = np.linspace(-1, 1, 33)
  y = -1.27 - depth * (1 - np.abs(x) ** power)
  top = np.array([[neck, -0.9], [-neck, -0.9]])
  return np.concatenate([np.stack([x * neck, y], -1), top])


def _garment(image, mask, identity, camera, color, accent) -> None:
  """Draws the kind of clothes and cuts the neck opening out of the mask."""
  neck, kind = identity.neck_width + 0.07, identity.clothes
  unit, to_canvas = camera.scale, camera.plane
  depth, power = {'v_neck': (0.46, 1.05), 'shirt': (0.34, 1.1),
                  'blazer': (0.62, 1.0), 'turtleneck': (-0.1, 2.0),
                  'hoodie': (0.22, 2.0)}.get(kind, (0.17, 2.2))
  if kind == 'stripes':
    x = np.linspace(-2, 2, 40)
    for y in -1.42 - 0.17 * np.arange(7):
      stroke(image, to_canvas(np.stack([x, y - 0.10 * x**2 + 0.05], -1)),
             accent, 0.065 * unit)
  opening = _opening(neck, depth, power)
  if kind != 'turtleneck':
    cv2.fillPoly(mask, [fixed(to_canvas(opening))], 0, 8, SHIFT)
    stroke(image, to_canvas(opening[:33]), shade(color, 0.72), 0.10 * unit)
  if kind in ('shirt', 'blazer'):
    lapel = color if kind == 'shirt' else shade(color, 0.85)
    for side in (-1, 1):
      points = np.array([[side * neck * 1.02, -1.2], [side * 0.03,
                                                      -1.27 - depth],
                         [side * 0.36, -1.58 - 0.5 * depth],
                         [side * (neck + 0.14), -1.32]])
      fill(image, to_canvas(points), shade(lapel, 1.15))
      stroke(image, to_canvas(points), shade(color, 0.6), 0.02 * unit, True)
      cv2.fillPoly(mask, [fixed(to_canvas(points))], 255, 8, SHIFT)
    line = np.array([[0.0, -1.27 - depth], [0.0, -2.6]])
    stroke(image, to_canvas(line), shade(color, 0.7), 0.02 * unit)
  if kind == 'turtleneck':
    tube = np.array([[-neck, -1.5], [-neck * 0.97, -1.08], [0, -1.14],
                     [neck * 0.97, -1.08], [neck, -1.5]])
    fill(image, to_canvas(tube), shade(color, 1.08))
    cv2.fillPoly(mask, [fixed(to_canvas(tube))], 255, 8, SHIFT)
    stroke(image, to_canvas(tube[1:4]), shade(color, 0.75), 0.03 * unit)
    stroke(image, to_canvas(np.array([[-neck, -1.42], [0, -1.5],
                                      [neck, -1.42]])),
           shade(color, 0.78), 0.03 * unit)
  if kind == 'hoodie':
    for side in (-1, 1):
      hood = np.array([[side * neck, -1.2], [side * 0.06, -1.54],
                       [side * 0.3, -1.72], [side * (neck + 0.25), -1.36]])
      fill(image, to_canvas(hood), shade(color, 0.82))
      cv2.fillPoly(mask, [fixed(to_canvas(hood))], 255, 8, SHIFT)
      cord = np.array([[side * 0.12, -1.62], [side * 0.14, -2.0]])
      stroke(image, to_canvas(cord), accent, 0.045 * unit)
