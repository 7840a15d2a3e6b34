"""What runs inside the neosr process: one job file in, one neosr run, one receipt out.

This folder is executed by path with neosr's own Python, which need not have aether_deploy installed,
so nothing here imports the rest of aether_deploy. `neosr` is the side that starts it.

    __main__   makes this folder a package, and starts the job
    job        argv, injected network, script or pipeline, receipt
    cpu_shim   CUDA requests answered by the CPU, only on a machine without a GPU
    pipelines  test and train for the pip-installed neosr, which ships no test.py and no train.py
    capture    the network's floats, caught by a forward hook
"""
