"""What `benchmark` measures.

side_by_side  one network, run in every way; plain values for JSON
contender     something to time, and its measurements
contenders    PyTorch, our files, OpenVINO, and the graphs of other projects
measure       one process each, interleaved rounds, medians
gauges        what the machine can do, timed alongside
"""
