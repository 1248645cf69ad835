"""sketchlm: a model that reads a sketch, an image and text. It will stream the shards of sketchgen.

The package is reserved by the layout; training, evaluation and the library come with the next issues.
"""
