"""A folder to publish: proved files, the pages that describe them, pictures, and a list of hashes.

  details        who made the model, its licence, what it is for
  before_after   photos, enlarged without and with the network
  model_card     README.md as Hugging Face reads it
  openmodeldb    an entry for OpenModelDB
  release_folder all of it, in one folder

`model_card.md` is the template of the card.
"""
