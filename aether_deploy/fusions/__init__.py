"""Layers of a trained network that together are one convolution, merged in float64.

merging               FUSIONS, the table of rules, and a network with all of them applied
span, batch_norm, parallel_branches, consecutive      a rule each
tracing               layers in the order of their execution, for the rules that go by it
kernels               the algebra: one convolution after another, one beside another
"""
