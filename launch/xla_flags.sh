# Sourced by the launchers: what XLA is told on NVIDIA GPUs, and why. A TPU slice
# needs nothing: its compiler hides collectives behind products by default;
# several slices have a line in gke_jobset.yaml.

xla_flags_gpu() {
  # Schedules gathers of parameters and sums of gradients while products run;
  # without it every collective stops the GPU.
  local flags=--xla_gpu_enable_latency_hiding_scheduler=true
  # The layers are one loop (a scan): the parameters of layer n + 1 are gathered
  # while layer n is computed, and its gradient is sent while n - 1 is.
  flags+=" --xla_gpu_enable_pipelined_all_gather=true"
  flags+=" --xla_gpu_enable_pipelined_reduce_scatter=true"
  # Two copies of the loop's body, so that both have a buffer to gather into.
  flags+=" --xla_gpu_enable_while_loop_double_buffering=true"
  export XLA_FLAGS="${XLA_FLAGS:-} $flags"
  # One process has one GPU for itself; the rest is for NCCL and cuDNN.
  export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}
}
