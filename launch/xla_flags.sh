# Sourced by the launchers: what XLA is told on an accelerator, and why.
#
# xla_flags_gpu     for NVIDIA GPUs
# xla_flags_slices  for several TPU slices; one slice needs nothing: the TPU
#                   compiler hides collectives behind products by default

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

xla_flags_slices() {
  # Sums of gradients between slices go over the slow network: they start as
  # soon as a layer's gradient is there and run behind the layers before it.
  local flags=--xla_tpu_enable_data_parallel_all_reduce_opt=true
  # Also where gradients differ in size, as those of the audio layers do.
  flags+=" --xla_tpu_data_parallel_opt_different_sized_ops=true"
  export LIBTPU_INIT_ARGS="${LIBTPU_INIT_ARGS:-} $flags"
}
