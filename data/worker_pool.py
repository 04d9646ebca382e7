"""Processes that work for a build and end with it."""

from concurrent import futures
import multiprocessing
import os
import threading

import cv2


def start(workers: int) -> futures.ProcessPoolExecutor:
  """A pool; unlike multiprocessing.Pool, it notices a process that died."""
  return futures.ProcessPoolExecutor(
      workers, multiprocessing.get_context('spawn'), _begin)


def _begin() -> None:
  """One thread for OpenCV; ends with the parent, even if that was killed.

  A worker left behind would write the same files as the next run.
  """
  cv2.setNumThreads(1)
  parent = multiprocessing.parent_process()
  threading.Thread(target=lambda: (parent.join(), os._exit(1)),
                   daemon=True).start()
