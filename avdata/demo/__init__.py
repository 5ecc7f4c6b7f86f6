"""The offline mini-hike: videos that the project renders and synthesises itself, from a seed.

timeline.py decides what happens when (the ground truth), soundtrack.py and sounds.py make it
heard, render.py and one file per place (walk, rain, grove, sea, stream, storm) make it seen,
encode.py writes it, make.py makes the set and server.py serves it over HTTP.
"""

from avdata.demo.make import make_demo
from avdata.demo.server import DEFAULT_PORT, serve
from avdata.demo.timeline import KINDS

__all__ = ["DEFAULT_PORT", "KINDS", "make_demo", "serve"]
