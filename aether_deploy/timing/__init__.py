"""What `benchmark` measures: contenders, each in a process of its own, beside what the machine can do."""
