"""A checkpoint -> the network that it holds, and its fused form.

checkpoint    files as trainers write them, read safely
spec          what network it is, read off the shapes of its weights
definition    the network's classes, from neosr/archs/aether_arch.py
fusion        two branches -> one convolution
"""
