"""Is this file the network as it was trained? The inputs, the figures, the verdict, and its record.

cases, photos    the inputs
tolerances       how far an artifact of each precision may differ
figures          the difference between two outputs
verdict          the report, `ParityError`
reference        the trained network's outputs, captured before anything is done to it
exactness        fused weights against the trained ones, in float64
comparison       two runners on the same inputs
manifest         the JSON beside each artifact
"""
