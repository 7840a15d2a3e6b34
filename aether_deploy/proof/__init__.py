"""Is this file the network as it was trained? The inputs, the figures, the verdict, and its record.

cases, photos    what goes in
tolerances       how far an artifact of each precision may be off
figures          the difference of two outputs
verdict          the report, `ParityError`
reference        what the trained network gives, captured before anything is done to it
exactness        fused weights against the trained ones, in float64
comparison       two runners on the same inputs
manifest         the JSON beside each artifact
"""
