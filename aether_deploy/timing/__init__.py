"""What `benchmark` measures.

run         one network, every way to run it; plain values for JSON
contender   something to time, and what was measured of it
contenders  PyTorch, our files, OpenVINO, and the graphs of other projects
measure     a process each, interleaved rounds, medians
gauges      what the machine can do, timed beside them
"""
