"""The whole pipeline from one TOML file; what did not change is not done again.

recipe     what a recipe may say, and its JSON schema
keys       what a step depends on, as hashes: inputs, settings, tools
record     what was made, by which keys
steps      a recipe -> steps, in order
running    which of them are needed, and doing them
estimates  size, time and memory of what was not made yet
"""
