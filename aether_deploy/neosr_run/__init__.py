"""Runs neosr itself, each run in its own process that leaves a receipt; neosr is never imported here.

neosr               starts a run and requires its receipt
launcher            runs inside the neosr process: the injected network, the CPU shim, the captured floats
validation_options  neosr's options files for a test, written from the network or adapted from the user's
inputs              checks before neosr starts
results             the output of a run: images, floats, printed metrics
validation          the two runs of `validate`, and the verdict
training            a training run, from its options file to its newest checkpoint
installation        puts the network's file into a neosr, and removes it
"""
