"""Is this file the network as it was trained? The cases, the figures, the verdict, and its record.

cases, photos    what goes in
tolerances       how far an artifact of each precision may be off
report           figures, verdict, `ParityError`
reference        what the trained network gives, captured before anything is done to it
comparison       two runners on the same inputs
manifest         the JSON beside each artifact
"""
