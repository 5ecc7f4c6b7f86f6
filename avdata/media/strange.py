"""What the decoder binding does over strange files, and how it is kept from doing harm."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.layout import AudioLayout
    from av.audio.stream import AudioStream
    from av.packet import Packet

STRANGE = (av.FFmpegError, ValueError, ArithmeticError, RuntimeError, MemoryError, EOFError)
"""What a call of PyAV may raise because of what is in a file: damage, never a bug of ours."""

_NATIVE_LAYOUTS = ("mono", "stereo", "2.1", "quad", "5.0", "5.0(side)", "5.1", "5.1(side)", "7.1")


def layout_of(owner: AudioCodecContext | AudioFrame) -> AudioLayout:
    """Return the channel layout of a decoder or of a decoded frame, safe to be let go of.

    From 17.1 on (18.1 is the newest tried) PyAV's layout objects share the channel map of their
    owner, and both free it: a stream whose channels stand in an order of its own, as in most 6.1
    and 7.1 MOV files, corrupts the heap. So a layout that may have a map is never let go of,
    which leaves freeing to the owner; that costs 40 bytes a frame of such sound.
    """
    layout = owner.layout
    try:
        has_no_map = layout.name in _NATIVE_LAYOUTS
    except STRANGE:
        has_no_map = False
    if not has_no_map:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout


def decode_sound(stream: AudioStream, packet: Packet[AudioStream] | None) -> list[AudioFrame]:
    """Return what a packet holds, or what the decoder still holds for None; may raise STRANGE."""
    frames = stream.codec_context.decode(packet)
    for frame in frames:  # all of them, before any is let go of
        layout_of(frame)
    return frames
