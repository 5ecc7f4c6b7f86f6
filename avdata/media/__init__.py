"""Video files: the only package that runs ffmpeg or a decoder.

container.py opens and probes, pictures.py and sound.py decode one stream each, decode.py cuts all
windows of a source in one pass over it, mp4.py writes clips through the ffmpeg binary.
"""

from avdata.media.container import Probe, ffmpeg_binary, probe

__all__ = ["Probe", "ffmpeg_binary", "probe"]
