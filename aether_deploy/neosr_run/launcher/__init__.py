"""Runs inside the neosr process: one job file in, one neosr run, one receipt out.

This folder is executed by path with neosr's own Python, which need not have aether_deploy installed,
so nothing here imports the rest of aether_deploy. `neosr_run.neosr` starts it.

    __main__   makes this folder a package, and starts the job
    job        command line, injected network, script or pipeline, receipt
    cpu_shim   lets the CPU answer CUDA requests, only on a machine without a GPU
    pipelines  test and train for the pip-installed neosr, which ships neither test.py nor train.py
    capture    the network's floats, captured by a forward hook
"""
