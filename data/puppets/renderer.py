"""Paints one puppet: an identity and a frame state to an image.

The canvas is supersampled and reduced by area averaging. Layers, back to front:
background, hair behind, neck, clothes, ears, skin, beard, nose, mouth, eyes,
brows, hair, glasses.
"""

import dataclasses

import cv2
import numpy as np

from data.puppets import face
from data.puppets import head
from data.puppets import textures
from data.puppets.hair import Hair
from data.puppets.identity import Identity, sample_identity
from data.puppets.textures import fill, fixed, mix, shade, stroke

HEAD_SCALE = 0.268  # head units per image size: a head fills 54 % of the height
GRID = 20  # cells of the coarse grid on which texture coordinates are found


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameState:
  """What moves. Angles in radians, offsets in head units, the rest 0..1.

  Attributes:
    pose: of the head.
    body_x: shift of the shoulders, head units.
    body_y: lift of the shoulders by breathing, head units.
    blink: 0 open, 1 closed.
    brow: lift of the brows, -1..1.
    gaze_x: -1..1, to the viewer's right.
    gaze_y: -1..1, up.
    mouth: opening 0..1.
    mouth_width: 0 rounded, 0.5 neutral, 1 spread.
    tongue: 0 flat, 1 raised.
    smile: additional lift of the corners, 0..1.
  """

  pose: head.Pose = head.Pose()
  body_x: float = 0.0
  body_y: float = 0.0
  blink: float = 0.0
  brow: float = 0.0
  gaze_x: float = 0.0
  gaze_y: float = 0.0
  mouth: float = 0.0
  mouth_width: float = 0.5
  tongue: float = 0.0
  smile: float = 0.0


class Renderer:
  """Renders frames of one puppet at one size."""

  def __init__(self, identity: Identity, size: int = 128, oversample: int = 2):
    """Paints everything that does not depend on the frame.

    Args:
      identity: the puppet.
      size: height and width of the frames in pixels.
      oversample: canvas pixels per frame pixel along each axis.
    """
    self.identity, self.size = identity, size
    self.canvas = size * oversample
    self.unit = HEAD_SCALE * self.canvas
    self.camera = head.Camera(self.unit, self.canvas / 2, 0.485 * self.canvas)
    self.skull = head.skull(identity)
    self.hair = Hair(identity, self.skull)
    rows = max(96, int(2.6 * self.unit))
    self.skin_texture = textures.skin(identity, rows)
    self.hair_dark = shade(identity.hair_color, 0.62)
    style = self.hair.style
    if style is not None:
      color = identity.hair_color
      if identity.hair_style == 'beanie':
        color = identity.accent_color
      self.hair_texture = textures.hair(identity, color, 2 * rows,
                                        style.strands)
    self.background = textures.background(identity, self.canvas)
    self.clothes, self.clothes_mask = textures.body(identity, self.camera,
                                                    self.canvas)
    self._mask = np.zeros((self.canvas, self.canvas), np.uint8)
    self._nose = face.nose(identity, self.skull)
    self._ears = [face.ear(identity, self.skull, side) for side in (-1, 1)]

  def render(self, state: FrameState) -> np.ndarray:
    """[size, size, 3] uint8 RGB frame."""
    image = self.background.copy()
    drop = face.JAW * face.MAX_OPENING * state.mouth
    self._hair_behind(image, state.pose)
    self._neck(image, state)
    self._clothes(image, state)
    for side in (-1, 1):
      if side * state.pose.yaw >= 0:
        self._ear(image, state.pose, side)
    self._skin(image, state.pose, drop)
    self._beard(image, state.pose, drop)
    self._nose_layer(image, state.pose)
    self._mouth(image, state)
    for side in (-1, 1):
      self._eye(image, state, side)
    self._hair_front(image, state.pose)
    for side in (-1, 1):
      if side * state.pose.yaw < 0:
        self._ear(image, state.pose, side)
    if self.identity.glasses != 'none':
      self._glasses(image, state.pose)
    if self.canvas == self.size:
      return image
    return cv2.resize(image, (self.size, self.size),
                      interpolation=cv2.INTER_AREA)

  def _textured(self, image, polygon, texture, shell, pose, lon_span, top,
                bottom) -> None:
    """Fills a polygon [N, 2] with a texture warped onto a shell."""
    x0, y0 = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, self.canvas)
    if x1 - x0 < 2 or y1 - y0 < 2:
      return
    lon, height = shell.unproject(
        np.linspace(x0, x1 - 1, GRID)[None],
        np.linspace(y0, y1 - 1, GRID)[:, None], self.camera, pose)
    u = (lon + lon_span) * ((texture.shape[1] - 1) / (2 * lon_span))
    v = (top - height) * ((texture.shape[0] - 1) / (top - bottom))
    coarse = np.empty((GRID, GRID, 2), np.float32)
    coarse[..., 0], coarse[..., 1] = u, v
    # Resize so that the outer grid nodes land on the outer pixels.
    scale = np.array([[(GRID - 1) / (x1 - x0 - 1), 0, 0],
                      [0, (GRID - 1) / (y1 - y0 - 1), 0]], np.float32)
    fine = cv2.warpAffine(coarse, scale, (int(x1 - x0), int(y1 - y0)),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)
    paint = cv2.remap(texture, fine, None, cv2.INTER_LINEAR,
                      borderMode=cv2.BORDER_REPLICATE)
    mask = self._mask[y0:y1, x0:x1]
    mask[:] = 0
    cv2.fillPoly(mask, [fixed(polygon - (x0, y0))], 255, cv2.LINE_8,
                 textures.SHIFT)
    cv2.copyTo(paint, mask, image[y0:y1, x0:x1])

  def _clipped(self, image, polygon, paint) -> None:
    """Calls paint(patch, offset) and keeps what lies inside the polygon."""
    x0, y0 = np.maximum(np.floor(polygon.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(polygon.max(0)).astype(int) + 2, self.canvas)
    if x1 <= x0 or y1 <= y0:
      return
    patch = image[y0:y1, x0:x1].copy()
    offset = np.array([x0, y0])
    paint(patch, offset)
    mask = self._mask[y0:y1, x0:x1]
    mask[:] = 0
    cv2.fillPoly(mask, [fixed(polygon - offset)], 255, cv2.LINE_8,
                 textures.SHIFT)
    cv2.copyTo(patch, mask, image[y0:y1, x0:x1])

  def _hair_paint(self, image, points, pose) -> None:
    polygon = self.camera.project(points, pose)
    self._textured(image, polygon, self.hair_texture, self.hair.shell, pose,
                   np.pi, textures.HAIR_TOP, textures.HAIR_BOTTOM)

  def _hair_behind(self, image, pose) -> None:
    if self.hair.style is None:
      return
    points = self.camera.project(self.hair.back(pose), pose)
    fill(image, points, self.hair_dark)
    if self.hair.style.bun:
      bun = self.camera.project(self.hair.bun(), pose)
      fill(image, bun, shade(self.identity.hair_color, 0.8))
      center = bun.mean(0)
      fill(image, center + 0.62 * (bun - center) - 0.03 * self.unit,
           shade(self.identity.hair_color, 1.08))

  def _neck(self, image, state) -> None:
    identity = self.identity
    width = identity.neck_width
    top = self.camera.project(np.array([
        [-width * 0.93, -0.62, -0.12], [width * 0.93, -0.62, -0.12]]),
                              state.pose)
    shift = np.array([state.body_x, state.body_y])
    base = self.camera.plane(shift + np.array([
        [width * 1.04, -1.25], [width * 1.5, -1.5], [0.0, -2.1],
        [-width * 1.5, -1.5], [-width * 1.04, -1.25]]))
    neck = np.concatenate([top, base])
    fill(image, neck, shade(identity.skin_color, 0.86))
    chin = self.camera.project(
        np.array([[0.0, -1.0, 0.35]]), state.pose)[0]
    left, right = neck[0], neck[1]
    depth = (chin[1] + 0.13 * self.unit - left[1])
    t = np.linspace(0, 1, 9)[:, None]
    edge_r = right + (neck[2] - right) * 0.75
    edge_l = left + (neck[6] - left) * 0.75
    bottom = edge_r + t * (edge_l - edge_r)
    bottom[:, 1] += (1 - (2 * t[:, 0] - 1) ** 2) * max(
        depth + left[1] - edge_r[1], 0.05 * self.unit)
    fill(image, np.concatenate([[left], [right], bottom]),
         shade(identity.skin_color, 0.70))

  def _clothes(self, image, state) -> None:
    top = int(self.camera.plane(np.array([[0.0, -0.9]]))[0, 1])
    dx, dy = state.body_x * self.unit, -state.body_y * self.unit
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (self.canvas, self.canvas - top)
    paint, mask = (cv2.warpAffine(layer[top:], move, size,
                                  borderMode=cv2.BORDER_REPLICATE)
                   for layer in (self.clothes, self.clothes_mask))
    _, mask = cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)
    cv2.copyTo(paint, mask, image[top:])

  def _ear(self, image, pose, side: int) -> None:
    style = self.hair.style
    if style is not None and style.covers_ears:
      return
    outline = self.camera.project(self._ears[(side + 1) // 2], pose)
    color = self.identity.skin_color
    fill(image, outline, shade(color, 0.88))
    center = outline.mean(0)
    fill(image, center + 0.55 * (outline - center),
         mix(shade(color, 0.74), (190, 70, 60), 0.14))
    if self.identity.earrings:
      lobe = outline[outline[:, 1].argmax()]
      self._dot(image, lobe, 0.045, (238, 206, 110))

  def _dot(self, image, center, radius: float, color) -> None:
    cv2.circle(image, tuple(fixed(np.asarray(center)).tolist()),
               int(radius * self.unit * (1 << textures.SHIFT)), color, -1,
               cv2.LINE_AA, textures.SHIFT)

  def _skin(self, image, pose, drop: float) -> None:
    y = self.skull.y[::2]
    outline = np.concatenate([self.skull.silhouette(y, pose, 1),
                              self.skull.silhouette(y[::-1], pose, -1)])
    outline = head.jaw_drop(outline, self.identity.mouth_y, drop)
    polygon = self.camera.project(outline, pose)
    self._textured(image, polygon, self.skin_texture, self.skull, pose,
                   textures.SKIN_LON, textures.SKIN_TOP, textures.SKIN_BOTTOM)
    stroke(image, polygon, shade(self.identity.skin_color, 0.66), 1, True)

  def _beard(self, image, pose, drop: float) -> None:
    color = shade(self.identity.hair_color, 0.9)
    for shape in face.beard(self.identity, self.skull, pose, drop):
      fill(image, self.camera.project(shape, pose), color)

  def _nose_layer(self, image, pose) -> None:
    color = self.identity.skin_color
    shadow, wings, nostrils, ridge = (
        self.camera.project(part, pose) for part in self._nose)
    fill(image, wings, mix(shade(color, 0.90), (200, 80, 70), 0.08))
    fill(image, shadow, shade(color, 0.87))
    center = wings.mean(0)
    fill(image, center + 0.66 * (wings - center) - (0, 0.03 * self.unit),
         mix(color, (226, 120, 100), 0.10))
    stroke(image, ridge, shade(color, 1.13), 0.035 * self.unit)
    for nostril in nostrils:
      self._dot(image, nostril, 0.026, shade(color, 0.45))

  def _mouth(self, image, state) -> None:
    identity = self.identity
    smile = identity.smile + 0.05 * state.smile
    shapes = face.mouth(identity, self.skull, state.mouth, state.mouth_width,
                        smile)
    shapes['tongue'] = face.tongue(identity, self.skull, state.mouth,
                                   state.mouth_width, state.tongue)
    flat = {name: self.camera.project(points, state.pose)
            for name, points in shapes.items()}
    lip = identity.lip_color
    fill(image, flat['lower'], lip)
    gap = flat['inner']
    if state.mouth > 0.015:
      def paint(patch, offset):
        patch[:] = (70, 22, 28)
        fill(patch, flat['tongue'] - offset, (206, 92, 96))
        fill(patch, flat['teeth_low'] - offset, (226, 220, 212))
        fill(patch, flat['teeth_up'] - offset, (250, 247, 240))
      self._clipped(image, gap, paint)
      stroke(image, gap, shade(lip, 0.55), 0.02 * self.unit, True)
    fill(image, flat['upper'], shade(lip, 0.86))
    if state.mouth <= 0.06:
      stroke(image, flat['line'], shade(lip, 0.42), 0.028 * self.unit)
    low = flat['lower'][len(face.MOUTH_T):]
    shine = 0.62 * low[7:14] + 0.38 * flat['lower'][7:14][::-1]
    stroke(image, shine, shade(lip, 1.22), 0.024 * self.unit)

  def _eye(self, image, state, side: int) -> None:
    identity, unit = self.identity, self.unit
    opening, crease, (x0, y0) = face.eye(identity, self.skull, side,
                                         state.blink)
    brow = face.brow(identity, self.skull, side, 0.05 * state.brow)
    center = self.skull.front(np.array([
        x0 + 0.055 * state.gaze_x]), np.array([
            y0 + 0.01 + 0.035 * state.gaze_y]), 0.02)
    flat = self.camera.project(np.concatenate([opening, crease, brow, center]),
                               state.pose)
    count = len(face.EYE_T)
    upper, outline = flat[:count], flat[:2 * count]
    crease, brow = flat[2 * count:3 * count], flat[3 * count:-1]
    middle = flat[-1]
    lid = mix(shade(identity.skin_color, 0.86), identity.lip_color, 0.10)
    fill(image, np.concatenate([crease, outline[count:]]), lid)
    if state.blink < 0.93:
      def paint(patch, offset):
        patch[:] = (244, 243, 240)
        at = middle - offset
        self._dot(patch, at, identity.iris * 1.08,
                  shade(identity.eye_color, 0.5))
        self._dot(patch, at, identity.iris * 0.94, identity.eye_color)
        self._dot(patch, at + (0.0, 0.03 * unit), identity.iris * 0.55,
                  shade(identity.eye_color, 1.3))
        self._dot(patch, at, identity.iris * 0.52, (16, 14, 18))
        stroke(patch, upper - offset + (0, 0.025 * unit), (196, 190, 190),
               0.04 * unit)
        self._dot(patch, at + np.array([-0.032, -0.036]) * unit, 0.024,
                  (255, 255, 255))
      self._clipped(image, outline, paint)
      stroke(image, outline[count:], shade(identity.skin_color, 0.62),
             0.012 * unit)
    lash = (30, 22, 24)
    stroke(image, upper, lash, (0.026 + 0.026 * identity.lashes) * unit)
    if identity.lashes > 0.5:
      corner = upper[-1] if side > 0 else upper[0]
      tip = corner + np.array([side * 0.045, -0.04]) * unit
      stroke(image, np.stack([corner, tip]), lash, 0.03 * unit)
    stroke(image, crease, shade(identity.skin_color, 0.68), 0.016 * unit)
    fill(image, brow, mix(shade(identity.hair_color, 0.72), (60, 44, 40), 0.25))

  def _hair_front(self, image, pose) -> None:
    if self.hair.style is None:
      return
    for side in (-1, 1):
      curtain = self.hair.curtain(pose, side)
      if curtain is not None:
        self._hair_paint(image, curtain, pose)
        stroke(image, self.camera.project(curtain[:22], pose), self.hair_dark,
               1)
    cap = self.hair.cap(pose)
    self._hair_paint(image, cap, pose)
    front = self.camera.project(cap[:64], pose)
    if self.identity.hair_style == 'beanie':
      color = self.identity.accent_color
      band = np.concatenate([front, front[::-1] - (0, 0.17 * self.unit)])
      fill(image, band, shade(color, 0.8))
      stroke(image, front - (0, 0.17 * self.unit), shade(color, 0.55), 1)
      return
    stroke(image, front, self.hair_dark, 0.02 * self.unit)

  def _glasses(self, image, pose) -> None:
    color = self.identity.glasses_color
    inner = []
    for side in (-1, 1):
      lens, arm = (self.camera.project(part, pose) for part in face.glasses(
          self.identity, self.skull, side))
      if side * pose.yaw <= 0.12:
        stroke(image, arm, color, 0.045 * self.unit)
      stroke(image, lens, color, 0.042 * self.unit, True)
      glare = lens[9:13] * 0.72 + lens.mean(0) * 0.28
      stroke(image, glare, (255, 255, 255), 0.018 * self.unit)
      inner.append(lens[16 if side > 0 else 0])
    arch = (inner[0] + inner[1]) / 2 - (0, 0.035 * self.unit)
    stroke(image, np.stack([inner[0], arch, inner[1]]), color,
           0.042 * self.unit)


def render_portrait(identity_seed: int, size: int = 512) -> np.ndarray:
  """[size, size, 3] uint8 portrait of a puppet in neutral pose, mouth closed.

  Args:
    identity_seed: seed of `sample_identity`.
    size: height and width in pixels.
  """
  renderer = Renderer(sample_identity(identity_seed), size, oversample=3)
  return renderer.render(FrameState(smile=0.3))
