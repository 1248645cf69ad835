"""Retrieval: a gallery of photos, each looked at once, ranked by a sketch.

files, catalogue, rows   files found and read; which is which; arrays that grow on disk
gallery                  features and embeddings of many photos, kept in a folder
scorer                   the model's p(yes) of one sketch for many photos
embedding, projection    vectors for the coarse search, and the maps that make them
distillation             how these are taught what the model says (sketchlm.contrast: beside the answers)
ranking                  coarse to fine, and the exhaustive truth
"""
