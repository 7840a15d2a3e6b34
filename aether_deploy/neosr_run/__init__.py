"""Runs of neosr itself, each in a process of its own that leaves a receipt; neosr is never imported here.

neosr          starts a run and requires its receipt
launcher       what runs inside the neosr process: the injected network, the CPU shim, the caught floats
test_options   neosr's options files for a test, written from the network or adapted from the user's
inputs         checks before neosr starts
results        what a run left: images, floats, printed metrics
validation     both runs of `validate`, and the verdict
training       a training, from its options file to its newest checkpoint
installation   the network's file into a neosr, and out again
"""
