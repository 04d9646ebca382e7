"""What a stage of a sweep takes, noted while it runs: a kill loses little."""

from collections.abc import Iterator, Mapping
import contextlib
import threading
import time

from asymtalker_jax.evals import sweep_plan

EVERY_S = 10.0


@contextlib.contextmanager
def running(stage: sweep_plan.Stage) -> Iterator[Mapping[str, float]]:
  """Adds the time until the block is left to what the stage has spent.

  Yields:
    {'wall_s', 'processor_s'} of all starts; whole once the block is left.
  """
  before, spent = stage.spent(), {}
  began, used = time.monotonic(), time.process_time()
  over = threading.Event()

  def note() -> None:
    spent['wall_s'] = before['wall_s'] + time.monotonic() - began
    spent['processor_s'] = before['processor_s'] + time.process_time() - used
    stage.spend(spent)

  def watch() -> None:
    while not over.wait(EVERY_S):
      note()

  thread = threading.Thread(target=watch, daemon=True)
  thread.start()
  try:
    yield spent
  finally:
    over.set()
    thread.join()
    note()
