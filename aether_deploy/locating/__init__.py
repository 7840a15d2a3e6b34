"""Where two forms of one network differ: the error of each layer, alone and so far, and its share of the whole.

pair       both forms, and what the second should be
trained    the layers of the network as trained, against the exported graph
as_written what differs in a layer, as it is written
location   all of it for one pair
reduction  the smallest graph that still shows it
"""
