"""Retrieval: a gallery of photos, each looked at once, ranked by a sketch.

files, catalogue, rows   files found and read; which is which; arrays that grow on disk
gallery                  features and embeddings of many photos, kept in a folder
scorer                   the model's p(yes) of one sketch for many photos
embedding, distillation  vectors for the coarse search; how they are taught what the model says
ranking                  coarse to fine, and the exhaustive truth
"""
