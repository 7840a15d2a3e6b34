"""Runs of neosr itself, each in a process of its own that leaves a receipt; neosr is never imported here.

process       starts a run and requires its receipt
launcher      what runs inside the neosr process: the injected network, the CPU shim, the caught floats
options       neosr options files, written from the network or adapted from the user's
inputs        checks before neosr starts
output        what a run left: images, floats, printed metrics
validation    both runs of `validate`, and the verdict
training      a training, from its options file to its newest checkpoint
"""
