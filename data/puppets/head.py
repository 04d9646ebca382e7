"""A head in three dimensions: shells of elliptic slices, posed and projected.

Head frame: x to the viewer's right, y up, z towards the viewer, unit = half the
height of the skull. A shell has at height y an elliptic slice of half-width
w(y), half-depth d(y) and centre z_0(y):

  p(lon, y) = (w sin lon, y, d cos lon + z_0)                              (1)

Yaw > 0 turns the face to the viewer's right, pitch > 0 up, roll > 0 tilts it
counter-clockwise. Projection is orthographic.
"""

import dataclasses
import functools
import math

import numpy as np

PIVOT = np.array([0.0, -0.8, -0.15])  # where the head sits on the neck


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pose:
  """Head pose; angles in radians, offsets in head units."""

  yaw: float = 0.0
  pitch: float = 0.0
  roll: float = 0.0
  x: float = 0.0
  y: float = 0.0

  @functools.cached_property
  def matrix(self) -> np.ndarray:
    """[3, 3] rotation R with p' = R p: roll after pitch after yaw."""
    cy, sy = math.cos(self.yaw), math.sin(self.yaw)
    cp, sp = math.cos(self.pitch), math.sin(self.pitch)
    cr, sr = math.cos(self.roll), math.sin(self.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return roll @ pitch @ yaw

  @functools.cached_property
  def screen(self) -> np.ndarray:
    """[3, 2] columns of the rotation that are seen: p' = p @ screen."""
    return np.ascontiguousarray(self.matrix.T[:, :2])


@dataclasses.dataclass(frozen=True)
class Camera:
  """Orthographic camera: head units to pixels of the canvas."""

  scale: float
  center_x: float
  center_y: float

  def project(self, points: np.ndarray, pose: Pose) -> np.ndarray:
    """[N, 2] canvas pixels of posed head points [N, 3]."""
    moved = (points - PIVOT) @ pose.screen
    moved[:, 0] = self.center_x + self.scale * (moved[:, 0] + pose.x)
    moved[:, 1] = self.center_y - self.scale * (
        moved[:, 1] + PIVOT[1] + pose.y)
    return moved

  def plane(self, points: np.ndarray) -> np.ndarray:
    """[N, 2] canvas pixels of unposed points [N, 2]: body, background."""
    return np.stack([self.center_x + self.scale * points[:, 0],
                     self.center_y - self.scale * points[:, 1]], axis=-1)


class Shell:
  """Surface (1) from tables over y."""

  def __init__(self, y: np.ndarray, w: np.ndarray, d: np.ndarray,
               z: np.ndarray):
    self.y, self.w, self.d, self.z = y, w, d, z

  def slices(self, y: np.ndarray):
    """(w, d, z_0) at heights y, clamped to the shell."""
    return (np.interp(y, self.y, self.w), np.interp(y, self.y, self.d),
            np.interp(y, self.y, self.z))

  def point(self, lon: np.ndarray, y: np.ndarray,
            lift: float = 0.0) -> np.ndarray:
    """[N, 3] surface points, pushed outward by the factor 1 + lift."""
    w, d, z = self.slices(y)
    return np.stack([(1 + lift) * w * np.sin(lon), y + 0 * lon,
                     (1 + lift) * d * np.cos(lon) + z], axis=-1)

  def front(self, x: np.ndarray, y: np.ndarray,
            lift: float | np.ndarray = 0.0) -> np.ndarray:
    """[..., 3] points of the front surface above (x, y), raised by lift."""
    w, d, z = self.slices(y)
    ratio = np.minimum(np.abs(x) / np.maximum(w, 1e-3), 0.99)
    points = np.empty(np.shape(ratio) + (3,))
    points[..., 0], points[..., 1] = x, y
    points[..., 2] = d * np.sqrt(1 - ratio**2) + z + lift
    return points

  def rim(self, y: np.ndarray, pose: Pose) -> np.ndarray:
    """[N] longitude in radians of the right silhouette; left is rim - pi."""
    w, d, _ = self.slices(y)
    return np.arctan2(w * np.cos(pose.yaw), d * np.sin(pose.yaw))

  def silhouette(self, y: np.ndarray, pose: Pose, side: int) -> np.ndarray:
    """[N, 3] silhouette points at heights y; side +1 right, -1 left."""
    lon = self.rim(y, pose)
    return self.point(lon if side > 0 else lon - np.pi, y)

  def unproject(self, x: np.ndarray, y: np.ndarray, camera: Camera,
                pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """(lon, height) seen at canvas pixels x, y: the inverse of `project`.

    x [1, M] and y [N, 1] give grids [N, M]. Pixels beside the shell get the
    longitude of the nearest rim. Two fixed point steps are enough because
    pitch is small.
    """
    px = (x - camera.center_x) / camera.scale - pose.x
    py = (camera.center_y - y) / camera.scale - pose.y - PIVOT[1]
    cr, sr = math.cos(pose.roll), math.sin(pose.roll)
    x1, y1 = px * cr + py * sr, -px * sr + py * cr
    cy, sy = math.cos(pose.yaw), math.sin(pose.yaw)
    cp, sp = math.cos(pose.pitch), math.sin(pose.pitch)
    z1 = 0.8
    for _ in range(2):
      height = (y1 - z1 * sp) / cp + PIVOT[1]
      w, d, z0 = self.slices(height)
      # Beyond the poles the slices vanish; keep the chin of the open jaw calm.
      w, d, z0 = np.maximum(w, 0.3), np.maximum(d, 0.3), z0 - PIVOT[2]
      radius = np.sqrt((w * cy) ** 2 + (d * sy) ** 2) + 1e-6
      lon = np.arcsin(np.clip((x1 - z0 * sy) / radius, -1, 1))
      lon = lon - np.arctan2(d * sy, w * cy)
      z1 = -w * np.sin(lon) * sy + (d * np.cos(lon) + z0) * cy
    return lon, height


def smoothstep(x: np.ndarray) -> np.ndarray:
  """Cubic step from 0 to 1 over x in [0, 1]."""
  x = np.clip(x, 0, 1)
  return x * x * (3 - 2 * x)


def skull(identity) -> Shell:
  """The skin surface of a puppet, chin at y = -1 and crown at y = 1."""
  # Denser rows near both poles, where the slices change fastest.
  y = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 97))
  a = np.abs(y)
  jaw_power = 1.75 + 2.1 * identity.jaw
  upper = (1 - a**identity.crown) ** (1 / identity.crown)
  lower = (1 - a**jaw_power) ** 0.5
  w = np.where(y >= 0, upper, lower)
  w = w * (1 + identity.cheeks * np.exp(-(((y + 0.32) / 0.28) ** 2)))
  d = np.where(y >= 0, upper, (1 - a**3.2) ** 0.5 * (1 - 0.12 * a))
  z = np.where(y >= 0, 0.0, 0.16 * smoothstep(a))
  return Shell(y, identity.head_width * w, identity.head_depth * d, z)


def hair_shell(identity, side: float, top: float, flare: float) -> Shell:
  """The outer surface of the hair: lifted off the skull, open downwards.

  Args:
    identity: the puppet.
    side: relative lift at the sides.
    top: lift above the crown, head units.
    flare: relative growth of the slices per unit below y = 0.
  """
  y = np.concatenate([np.linspace(-2.4, 0, 40)[:-1],
                      np.sin(np.linspace(0, np.pi / 2, 60)) * (1 + top)])
  up = np.clip(y / (1 + top), 0, 1)
  shape = (1 - up**identity.crown) ** (1 / identity.crown)
  shape = shape * (1 + flare * np.maximum(-y, 0))
  w = identity.head_width * (1 + side) * shape
  d = identity.head_depth * (1 + side) * shape
  return Shell(y, w, d, 0 * y)


def jaw_drop(points: np.ndarray, mouth_y: float, drop: float) -> np.ndarray:
  """Points [N, 3] with everything under the mouth moved down by `drop`."""
  weight = smoothstep((mouth_y + 0.1 - points[:, 1]) / 0.35)
  moved = points.copy()
  moved[:, 1] -= drop * weight
  return moved
