"""A checkpoint -> the network that it holds, and its fused form.

checkpoint          reads files as trainers write them, safely
guarded_reading, pickle_scan, weights            a stranger's bytes -> objects -> tensors that are in the file
families, family    the table of networks, and what each must provide
aether, aether_spec AetherNet: recognised and read; built, fused, described
aether_limits       what its numbers can be
spandrel, spandrel_spec, spandrel_network           the same for what spandrel knows
definition          AetherNet's classes, from neosr/archs/aether_arch.py
fusion              branches -> one convolution, a network -> its fused form
"""
